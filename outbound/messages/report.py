"""What a message did: its report, and the delivery records behind it.

Over 120 lines because the parts of the report read as the page does, from top to bottom.
"""

import html
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from audiences.models import Workspace
from audiences.rules import RuleError
from delivery.models import Reason, Status, VisitorKind
from delivery.reporting import counters
from delivery.reporting.counters import Counts
from delivery.tracking import hits
from messaging.models import RUNNING, Channel, Message, SendType, State
from outbound import actions
from outbound.composer.review import HOW, ONCE, ONCE_PER_COMPANY, WHO, when
from outbound.console import charts
from outbound.console.admin import ConsoleAdmin
from outbound.console.charts import Chart, Series
from outbound.console.formatting import chip, moment
from outbound.console.wording import STATE_TONES, STATUS_TONES, STATUS_WORDS, audience_lines, measured, percent, times
from outbound.messages import progress, recipients, version_diff

SHOWN = ("opened", "clicked", "replied", "bounced", "complained", "unsubscribed")
LABELS: dict[str, str] = {
    "sent": "Sent",
    "opened": "Opened",
    "clicked": "Clicked",
    "replied": "Replied",
    "bounced": "Bounced",
    "complained": "Marked as spam",
    "unsubscribed": "Unsubscribed",
}


def report(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Draw the page of a message that is no draft any more."""
    at = timezone.now()
    can_change = admin.has_change_permission(request, message)
    found = counters.counts_of([message.pk])[message.pk]
    reasons = why_not_sent(message)
    versions = list(message.versions.select_related("author").order_by("-number"))
    return admin.page(
        request,
        "outbound/report.html",
        title=message.title,
        original=message,
        state=chip(message.get_state_display(), STATE_TONES[State(message.state)]),
        can_change=can_change,
        can_add=admin.has_add_permission(request) and message.to_customer_id is None,
        offers=offers(message) & allowed(request, can_change=can_change),
        sentences=sentences(message, at=at),
        lines=lines(message),
        counts=found,
        going=progress.going(message, at=at),
        figures=figures(message, found),
        chart=chart(message, found),
        links=list(links(message)),
        openings=openings(message),
        measures_clicks="clicked" in measured(message.channel),
        statuses=statuses(message, found, reasons),
        waits=list(what_waits(message, found, reasons, at=at)),
        people=recipients.page(message, request),
        among_many=found.records > AMONG_MANY,
        statuses_there=[status for status in Status if found.value_of(status)],
        may_export=may_export(request),
        revisions=list(version_diff.revisions(versions)),
        log=admin.history_of(message),
        locked_why=locked_why(message),
    )


# From so many on, looking through them all takes a second or more.
AMONG_MANY = 200_000
EDITS = {"content", "audience"}


def allowed(request: HttpRequest, *, can_change: bool) -> set[str]:
    """Which buttons this teammate may press at all."""
    verbs = {verb for verb, act in actions.ACTS.items() if request.user.has_perm(act.permission)}
    return verbs | (EDITS if can_change and request.user.has_perm(actions.ACTS["live"].permission) else set())


def may_export(request: HttpRequest) -> bool:
    """Whether this teammate may take the people away as a file."""
    return all(
        request.user.has_perm(f"{needed}") for needed in ("delivery.view_deliveryrecord", "audiences.view_customer")
    )


def offers(message: Message) -> set[str]:
    """Which buttons this message has right now."""
    state = State(message.state)
    if message.launching_at and state in (State.DRAFT, State.SCHEDULED):
        return {"call-off"}
    found = {
        State.SCHEDULED: {"unschedule", "live"},
        State.LIVE: {"pause", "stop", "content"},
        State.SAMPLED: {"pause", "stop", "rest", "content"},
        State.PAUSED: {"resume", "stop", "content"},
    }.get(state, set())
    if message.launching_at:
        found = (found - {"rest"}) | {"call-off"}
    if message.to_customer_id:
        return found - {"content"}
    if state == State.PAUSED and message.send_type == SendType.ONGOING:
        found = found | {"audience"}
    return found


def sentences(message: Message, *, at: datetime) -> list[str]:
    """How it sends, in words."""
    if message.to_customer:
        about = f" about {message.to_company}" if message.to_company else ""
        return [f"To {message.to_customer} alone{about}."]
    kind, channel = SendType(message.send_type), Channel(message.channel)
    how = [HOW[kind, channel]] if message.state in RUNNING and kind == SendType.ONGOING else []
    return [WHO[kind], *how, ONCE_PER_COMPANY if message.goes_per_company else ONCE, when(message, at=at)]


def locked_why(message: Message) -> str:
    """What can no longer be changed, and why."""
    if not message.is_locked:
        return ""
    if message.to_customer_id:
        return "It has been sent, so nothing about it can be changed."
    what = "The channel, the way it sends and how often a customer gets it"
    if message.send_type == SendType.ONE_OFF:
        what = "The channel, the way it sends, the filters and how often a customer gets it"
    tail = " Duplicate it to send it another way." if message.audience_id else ""
    if message.send_type == SendType.ONGOING and message.state in RUNNING:
        tail = " Pause it to change the filters; duplicate it to send it another way."
    return f"{what} are locked, because this message has been live.{tail}"


def lines(message: Message) -> list[Any]:
    """Its filters in words."""
    if message.audience is None:
        return []
    try:
        return list(audience_lines(message.audience.tree))
    except RuleError:
        return []  # The report shows the trouble of the message itself.


def figures(message: Message, found: Counts) -> list[dict[str, Any]]:
    """Sent and what came of it, as numbers and as shares of what was sent; a dash where it cannot be measured."""
    known = measured(message.channel)
    shown = [{"label": LABELS["sent"], "number": found.sent, "share": ""}]
    for what in SHOWN:
        number = found.value_of(what)
        if what in known or number:
            shown.append({"label": LABELS[what], "number": number, "share": percent(number, found.sent)})
        elif what in SHOWN[:3]:
            shown.append({"label": LABELS[what], "number": None, "share": "Cannot be measured"})
    return shown


def links(message: Message) -> Iterator[dict[str, Any]]:
    """Where its links lead, the most followed first, and how often each was; a dash for one that is not tracked."""
    now = {
        html.unescape(to): words for to, words in version_diff.links(message.version.body if message.version else "")
    }
    for found in hits.clicks_of(message):
        there = found.address in now
        if there or found.clicks or found.machines:
            words = now.pop(found.address, found.address)
            yield {"words": words, "address": found.address, "found": found, "is_gone": not there}
    for address, words in now.items():
        yield {"words": words, "address": address, "found": None, "is_gone": False}


def openings(message: Message) -> list[str]:
    """What is not among those who opened it, in words."""
    found = hits.opens_of(message) if message.channel == Channel.EMAIL else {}
    return [words.format(times(found[who])) for who, words in NOT_PEOPLE.items() if found.get(who)]


NOT_PEOPLE: dict[VisitorKind, str] = {
    VisitorKind.PRIVACY: "Apple Mail loaded it {} by itself: whether it was read, nobody can know.",
    VisitorKind.MACHINE: "Scanners and robots loaded it {}.",
}


def chart(message: Message, found: Counts) -> Chart | None:
    """What happened over time; None where nothing has, or where it went to one person."""
    if message.to_customer_id or not found.sent:
        return None
    step = charts.step_for(counters.activity_span(message))
    happened = dict(counters.counts_over_time(message, zone=Workspace.current().tz.key, step=step))
    if not happened:
        return None
    every = charts.steps(min(happened), max(happened), step=step)
    shown = [what for what in ("sent", *SHOWN) if what in charts.COLOURS and any(n[what] for n in happened.values())]
    return Chart(
        title=f"By {step}",
        labels=[charts.NAMED[step](began) for began in every],
        series=[
            Series(name=what, label=LABELS[what], numbers=[happened.get(began, {}).get(what, 0) for began in every])
            for what in shown
        ],
        kind="bar" if len(every) <= 3 else "line",
        stacked=False,
    )


def why_not_sent(message: Message) -> dict[Status, list[dict[str, Any]]]:
    """The reasons of what was not sent, by status, the most frequent first; with when the first of each is due."""
    rows: Any = (
        message.records.exclude(status=Status.SENT)
        .order_by()
        .values("status", "reason")
        .annotate(records=Count("pk"), due=Min("due_at"))
    )
    found: dict[Status, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: -row["records"]):
        found.setdefault(Status(row["status"]), []).append({**row, "words": reason_words(message, row)})
    return found


def reason_words(message: Message, row: dict[str, Any]) -> str:
    """A reason as staff read it: what a paused message holds waits for it to be resumed."""
    if message.state == State.PAUSED and row["status"] == Status.WAITING:
        return str(Reason.PAUSED.label)
    return str(Reason(row["reason"]).label)


def statuses(message: Message, found: Counts, reasons: dict[Status, list[dict[str, Any]]]) -> dict[str, Any]:
    """Its records by status and reason, in records and in people, and that they add up."""
    people = counters.customer_count(message, found)
    of_people = people_by_status(message) if message.per_company else {}
    shown = [
        {
            "status": status,
            "label": status.label,
            "tone": STATUS_TONES[status],
            "words": STATUS_WORDS[status],
            "records": found.value_of(status),
            "people": of_people.get(status, found.value_of(status)),
            "reasons": [row for row in reasons.get(status, []) if row["words"]],
        }
        for status in Status
        if found.value_of(status)
    ]
    return {
        "rows": shown,
        "records": found.records,
        "people": people,
        "per_company": message.per_company,
        "sums": " + ".join(f"{row['records']:,} {str(row['label']).lower()}" for row in shown),
    }


def people_by_status(message: Message) -> dict[Status, int]:
    """How many customers there are in each status; one may be in several, for several companies."""
    rows = message.records.order_by().values_list("status").annotate(people=Count("customer", distinct=True))
    return {Status(status): people for status, people in rows}


def what_waits(
    message: Message, found: Counts, reasons: dict[Status, list[dict[str, Any]]], *, at: datetime
) -> Iterator[dict[str, Any]]:
    """What has not gone yet, for what reason, and when the first of it goes."""
    if message.state == State.SCHEDULED and message.scheduled_for:
        words = "Goes live" if message.scheduled_for > at else "Was to go live"
        yield {"records": None, "words": words, "when": moment(message.scheduled_for)}
    for row in reasons.get(Status.WAITING, []):
        if message.state == State.PAUSED:
            when = "When it is resumed"
        elif message.state == State.STOPPED:
            when = "Never: it is being taken back"
        elif row["due"] is None:
            when = "At their next visit"
        else:
            when = "Now" if row["due"] <= at else f"From {moment(row['due'])}"
        yield {"records": row["records"], "words": row["words"], "when": when}
    if found.sending:
        yield {"records": found.sending, "words": STATUS_WORDS[Status.SENDING], "when": "Now"}
    if found.uncertain:
        yield {"records": found.uncertain, "words": STATUS_WORDS[Status.UNCERTAIN], "when": "Never by itself"}
    if message.state == State.LIVE and message.send_type == SendType.ONGOING:
        checked = "on each visit" if message.channel == Channel.IN_APP else "every hour and on each visit"
        yield {"records": None, "words": "Anyone who comes to match", "when": f"Checked {checked}"}
