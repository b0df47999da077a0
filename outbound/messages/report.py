"""The report of a message.

Longer than most modules, because its functions follow the sections of the page from top to bottom.
"""

import html
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from audiences.models import Workspace
from audiences.rules import RuleError
from delivery.models import Reason, Status, VisitorKind, reason_label
from delivery.reporting import counters
from delivery.reporting.counters import Counts
from delivery.tracking import hits
from messaging.models import RUNNING, Channel, Message, SendType, State
from outbound import actions
from outbound.composer import tags
from outbound.composer.review import ONCE, ONCE_PER_COMPANY, audience_sentence, delivery_times, timing_sentence
from outbound.console import charts
from outbound.console.admin import ConsoleAdmin
from outbound.console.charts import Chart, Series
from outbound.console.formatting import chip, moment
from outbound.console.wording import (
    STATE_TONES,
    STATUS_TONES,
    STATUS_WORDS,
    audience_lines,
    measurable_events,
    percent,
    times,
)
from outbound.messages import left_out, progress, recipients, version_diff

SHOWN_EVENTS = ("opened", "clicked", "replied", "bounced", "complained", "unsubscribed")
# The reasons of waiting records, to follow their number.
WAITING_WORDS: dict[Reason, str] = {
    Reason.QUEUED: "queued",
    Reason.WINDOW: "until the delivery window opens",
    Reason.VISIT: "until the customer’s next visit",
    Reason.RETRY: "to be tried again",
    Reason.PAUSED: "until the message is resumed",
    Reason.CAP: "until the frequency cap allows another message",
}
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
    """Render the report of a message that is not a draft."""
    found = report_context(admin, request, message, at=timezone.now())
    return admin.page(request, "outbound/messages/report.html", title=message.title, original=message, **found)


def refreshed_report(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Render the report as it is now, for its open page; answer 204 if the message has become a draft again."""
    if message.state == State.DRAFT and not message.launching_at:
        return HttpResponse(status=204)
    found = report_context(admin, request, message, at=timezone.now())
    return render(request, "outbound/messages/report_body.html", {"original": message, **found})


def report_context(admin: ConsoleAdmin, request: HttpRequest, message: Message, *, at: datetime) -> dict[str, Any]:
    can_change = admin.has_change_permission(request, message)
    found = counters.counts_of([message.pk])[message.pk]
    period = counters.activity_period(message)
    sending = progress.progress_view(message, at=at)
    reasons = unsent_reasons(message)
    versions = list(message.versions.select_related("author").order_by("-number"))
    return {
        "interval": refresh_interval(message, found, sending=sending, last_activity=period and period[1], at=at),
        "say": progress.spoken_state(message, sending),
        "state": chip(message.get_state_display(), STATE_TONES[State(message.state)]),
        "can_change": can_change,
        "can_add": admin.has_add_permission(request) and message.to_customer_id is None,
        "offers": available_buttons(message) & allowed_buttons(request, can_change=can_change),
        "sentences": sending_sentences(message, at=at),
        "lines": filter_lines(message),
        "counts": found,
        "progress": sending,
        "figures": figures(message, found),
        "chart": event_chart(message, found, period),
        "links": list(link_rows(message)),
        "openings": uncounted_opens(message),
        "measures_clicks": "clicked" in measurable_events(message.channel),
        "statuses": statuses(message, found, reasons),
        "waits": list(waiting_rows(message, found, reasons, at=at)),
        "people": recipients.recipient_page(message, request),
        "among_many": found.records > LARGE_AUDIENCE,
        "statuses_there": [status for status in Status if found.value_of(status)],
        "reasons_there": reasons_there(message, reasons),
        "counts_left_out": left_out.is_counted(message),
        "may_export": may_export(request),
        "revisions": list(version_diff.revisions(versions)),
        "log": admin.history_of(message),
        "locked_why": lock_explanation(message),
        "can_tag": can_change,
        "all_tags": tags.offered_names() if can_change else [],
    }


# In seconds, between two refreshes: while copies are being sent, and while anything else may change.
SENDING_INTERVAL, CHANGING_INTERVAL = 5, 20
# Opens and replies may still come in for this long after the last ones; stored activity has the time of its quarter.
ACTIVE_FOR = timedelta(hours=1)


def refresh_interval(
    message: Message,
    found: Counts,
    *,
    sending: progress.ProgressView | None,
    last_activity: datetime | None,
    at: datetime,
) -> int:
    """Return how many seconds the open page waits for its next refresh; 0 if nothing is changing."""
    if found.sending or message.launching_at or (sending and sending.has_due):
        return SENDING_INTERVAL
    is_active = last_activity is not None and last_activity > at - ACTIVE_FOR
    return CHANGING_INTERVAL if is_active or message.state in (*RUNNING, State.SCHEDULED) else 0


# With more records, a search for part of a name takes a second or more.
LARGE_AUDIENCE = 200_000
EDITS = {"content", "audience"}


def allowed_buttons(request: HttpRequest, *, can_change: bool) -> set[str]:
    """Return the buttons that this teammate may press."""
    verbs = {verb for verb, act in actions.ACTS.items() if request.user.has_perm(act.permission)}
    return verbs | (EDITS if can_change and request.user.has_perm(actions.ACTS["live"].permission) else set())


def may_export(request: HttpRequest) -> bool:
    """Whether this teammate may export the recipients."""
    return all(
        request.user.has_perm(f"{needed}") for needed in ("delivery.view_deliveryrecord", "audiences.view_customer")
    )


def available_buttons(message: Message) -> set[str]:
    """Return the buttons that the message has in its state."""
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


def sending_sentences(message: Message, *, at: datetime) -> list[str]:
    if message.to_customer:
        about = f" about {message.to_company}" if message.to_company else ""
        return [f"To {message.to_customer} only{about}."]
    kind = SendType(message.send_type)
    how = [timing_sentence(message)] if message.state in RUNNING and kind == SendType.ONGOING else []
    return [
        audience_sentence(message),
        *how,
        ONCE_PER_COMPANY if message.goes_per_company else ONCE,
        delivery_times(message, at=at),
    ]


def lock_explanation(message: Message) -> str:
    """Return a sentence on the locked settings, or "" if none are locked."""
    if not message.is_locked:
        return ""
    if message.to_customer_id:
        return "It has been sent, so it can no longer be changed."
    locked = "The channel, the way it sends and how often a customer gets it are locked"
    if message.send_type == SendType.ONE_OFF:
        locked = "The channel, the way it sends, the filters and how often a customer gets it are locked"
    tail = " Duplicate it to send it another way." if message.audience_id else ""
    if message.send_type == SendType.ONGOING and message.state in RUNNING:
        tail = " Pause it to change the filters; duplicate it to send it another way."
    return f"{locked}, because this message has been live.{tail}"


def filter_lines(message: Message) -> list[Any]:
    """Return the filters in words."""
    if message.audience is None:
        return []
    try:
        return list(audience_lines(message.audience.tree))
    except RuleError:
        return []  # The report shows the problem of the message itself.


def figures(message: Message, found: Counts) -> list[dict[str, Any]]:
    """Return the counts as numbers and shares of sent copies; a dash if the channel cannot measure one."""
    known = measurable_events(message.channel)
    shown = [{"label": LABELS["sent"], "number": found.sent, "share": ""}]
    for what in SHOWN_EVENTS:
        number = found.value_of(what)
        if what in known or number:
            shown.append({"label": LABELS[what], "number": number, "share": percent(number, found.sent)})
        elif what in SHOWN_EVENTS[:3]:
            shown.append({"label": LABELS[what], "number": None, "share": "Not measured"})
    return shown


def link_rows(message: Message) -> Iterator[dict[str, Any]]:
    """Yield the links, the most clicked first, with their clicks; a dash for a link that is not tracked."""
    now = {
        html.unescape(to): words
        for to, words in version_diff.body_links(message.version.body if message.version else "")
    }
    for found in hits.clicks_of(message):
        there = found.address in now
        if there or found.clicks or found.machines:
            words = now.pop(found.address, found.address)
            yield {"words": words, "address": found.address, "found": found, "is_gone": not there}
    for address, words in now.items():
        yield {"words": words, "address": address, "found": None, "is_gone": False}


def uncounted_opens(message: Message) -> list[str]:
    """Return sentences on loads that are not counted as opens."""
    found = hits.opens_of(message) if message.channel == Channel.EMAIL else {}
    return [words.format(times(found[who])) for who, words in UNCOUNTED_OPENS.items() if found.get(who)]


UNCOUNTED_OPENS: dict[VisitorKind, str] = {
    VisitorKind.PRIVACY: "Apple Mail loaded it {} automatically, which does not show whether it was read.",
    VisitorKind.MACHINE: "Scanners and bots loaded it {}.",
}


def event_chart(message: Message, found: Counts, period: tuple[datetime, datetime] | None) -> Chart | None:
    """Return the chart of events over time; None if there are none, or for a direct message."""
    if message.to_customer_id or not found.sent or period is None:
        return None
    step = charts.step_for(period[1] - period[0])
    happened = dict(counters.counts_over_time(message, zone=Workspace.current().tz.key, step=step))
    if not happened:
        return None
    every = charts.steps(min(happened), max(happened), step=step)
    shown = [
        what for what in ("sent", *SHOWN_EVENTS) if what in charts.COLOURS and any(n[what] for n in happened.values())
    ]
    return Chart(
        title=f"By {step}",
        labels=[charts.STEP_LABELS[step](began) for began in every],
        series=[
            Series(name=what, label=LABELS[what], numbers=[happened.get(began, {}).get(what, 0) for began in every])
            for what in shown
        ],
        kind="bar" if len(every) <= 3 else "line",
        stacked=False,
    )


def unsent_reasons(message: Message) -> dict[Status, list[dict[str, Any]]]:
    """Return the reasons of unsent records by status, the most frequent first, with the earliest due time."""
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
    """Return a reason in words; waiting records of a paused message wait for it to be resumed."""
    if message.state == State.PAUSED and row["status"] == Status.WAITING:
        return str(Reason.PAUSED.label)
    return reason_label(Reason(row["reason"]), message)


def reasons_there(message: Message, found: dict[Status, list[dict[str, Any]]]) -> dict[str, str]:
    """Return the reasons that any record has, in words."""
    there = (row["reason"] for rows in found.values() for row in rows)
    return {reason: reason_label(Reason(reason), message) for reason in there if reason}


def statuses(message: Message, found: Counts, reasons: dict[Status, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the records by status and reason, counted in records and in people, with their sums."""
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
    """Return the number of customers by status; with several companies, one customer can have several statuses."""
    rows = message.records.order_by().values_list("status").annotate(people=Count("customer", distinct=True))
    return {Status(status): people for status, people in rows}


def waiting_rows(
    message: Message, found: Counts, reasons: dict[Status, list[dict[str, Any]]], *, at: datetime
) -> Iterator[dict[str, Any]]:
    """Yield the unsent records by reason with their next send time."""
    if message.state == State.SCHEDULED and message.scheduled_for:
        words = "Goes live" if message.scheduled_for > at else "Was scheduled to go live"
        yield {"records": None, "words": words, "when": moment(message.scheduled_for)}
    for row in reasons.get(Status.WAITING, []):
        reason = Reason.PAUSED if message.state == State.PAUSED else Reason(row["reason"])
        if message.state == State.STOPPED:
            when = "Never: it is being withdrawn"
        elif reason == Reason.PAUSED or row["due"] is None:
            when = ""
        else:
            when = "Now" if row["due"] <= at else f"From {moment(row['due'])}"
        words = WAITING_WORDS.get(reason, str(reason.label))
        if reason == Reason.WINDOW and not message.window:
            words = "until quiet hours end"
        yield {"records": row["records"], "words": words, "when": when}
    if found.sending:
        yield {"records": found.sending, "words": STATUS_WORDS[Status.SENDING], "when": "Now"}
    if found.uncertain:
        yield {"records": found.uncertain, "words": STATUS_WORDS[Status.UNCERTAIN], "when": "Never automatically"}
    if message.state == State.LIVE and message.send_type == SendType.ONGOING:
        by_visit = message.channel == Channel.IN_APP
        often = "" if by_visit else f"{message.get_checking_display().lower()} and "
        yield {"records": None, "words": "New matches", "when": f"Checked {often}on each visit"}
