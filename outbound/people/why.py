"""The “Why?” page: explains to staff whether one customer receives one message, rule by rule."""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.timesince import timesince, timeuntil

from audiences.rules import Group, Kind, Rule
from delivery.eligibility import conditions, explain, named_values
from delivery.eligibility.explain import Case, EvaluatedNode, Explanation, Verdict
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import RUNNING, Message, SendType, State
from outbound.console.admin import ConsoleAdmin
from outbound.console.formatting import chip
from outbound.console.lookups import teammate_name
from outbound.console.wording import GROUP_WORDS, STATE_TONES, Names, counted
from outbound.messages.records import status_chip
from outbound.people.why_times import (
    cap_condition,
    check_times,
    format_end_of_quiet_hours,
    format_moment,
    format_opening,
    quiet_condition,
    window_condition,
)

MESSAGES_EXPLAINED_MAX = 300
# One click away, the running ones first.
MESSAGES_OFFERED = 8
PAGES = (("<path:object_id>/why/", "why"),)
# Running messages first: staff ask about these most.
STATE_ORDER = (State.LIVE, State.SAMPLED, State.PAUSED, State.SCHEDULED, State.DRAFT, State.SENT, State.STOPPED)
NOT_LIVE: dict[str, str] = {
    State.DRAFT: "This message is a draft. It is not sent to anyone until it is set live.",
    State.SCHEDULED: "This message is scheduled. Everyone who matches when it goes live will receive it.",
    State.PAUSED: "This message is paused. Nothing is sent until a teammate resumes it.",
    State.STOPPED: "This message was stopped. It is no longer sent to anyone.",
    State.SENT: "This one-off was sent to the people who matched at the launch. This customer did not match then.",
}


# Statuses of a record whose customer matched and whose values of that time are of interest.
HAS_MATCHED = (Status.WAITING, Status.SENDING, Status.UNCERTAIN, Status.SENT, Status.FAILED)


class WhyPages(ConsoleAdmin):
    """The “Why?” page of a customer."""

    def why(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form that picks a message and, once one is picked, the explanation."""
        customer = self.get_object_or_refuse(request, object_id, to="view")
        if not request.user.has_perm("messaging.view_message"):
            raise PermissionDenied
        message = message_or_404(request.GET.get("message", ""))
        choices = message_choices(message)
        explained = explain.explain(message, customer, at=timezone.now()) if message else None
        return self.page(
            request,
            "outbound/people/why.html",
            title=f"Why? {customer}",
            original=customer,
            choices=choices,
            offered=[] if message else [one for _, group in choices for one in group][:MESSAGES_OFFERED],
            message=message,
            state=chip(message.get_state_display(), STATE_TONES[State(message.state)]) if message else "",
            cases=as_cards(explained) if explained else [],
            facts=other_conditions(explained) if explained else [],
            explained=explained,
        )


def message_or_404(given: str) -> Message | None:
    """Return the message with this ID, or None if the ID is empty. Raises Http404 if it does not exist."""
    if not given:
        return None
    rows = Message.objects.select_related("audience", "version", "to_customer")
    found = rows.filter(pk=given).first() if given.isdecimal() and len(given) < 19 else None
    if found is None:
        raise Http404(f"Message {given} does not exist.")
    return found


def message_choices(message: Message | None) -> list[tuple[str, list[Message]]]:
    """Return the messages to choose from, grouped by state. `message` is always among them."""
    rows = list(Message.objects.to_audiences().order_by("-pk")[:MESSAGES_EXPLAINED_MAX])
    if message and message not in rows:
        rows.append(message)
    return [(state.label, group) for state in STATE_ORDER if (group := [row for row in rows if row.state == state])]


def unreachable_sentence(explained: Explanation) -> str:
    reasons = ", ".join(label[:1].lower() + label[1:] for label in explained.unreachable_labels)
    return f"This customer matches but cannot be reached: {reasons}."


def no_match_sentence(explained: Explanation, case: Case) -> str:
    if explained.customer.archived_at:
        return "This customer is archived, so they match no filters."
    if not explained.is_user and not explained.includes_leads:
        return "This customer is a lead. Without a rule on the role, a message goes to users only."
    leaves = [judged for pair in case.pairs[:1] for judged in pair.tree.leaves()]
    failed = sum(not judged.holds for judged in leaves)
    if not failed:
        return "This customer does not match the filters now."
    if len(leaves) == 1:
        return "This customer does not match the filters now: the only rule is not met."
    are = "is" if failed == 1 else "are"
    return f"This customer does not match the filters now: {failed} of {len(leaves)} rules {are} not met."


def waiting_sentence(explained: Explanation, case: Case) -> str:
    record = case.record
    assert record is not None  # noqa: S101 - waiting is a status of a record
    due = f" It is due on {format_moment(record.due_at)}." if record.due_at and record.due_at > explained.at else ""
    matched = format_moment(record.matched_at)
    reason = reason_sentence(record)
    if record.reason == Reason.WINDOW and explained.waits_for_quiet_hours and explained.message.state in RUNNING:
        reason = f"It waits until {format_end_of_quiet_hours(explained)}, {explained.zone.key} time: quiet hours."
        due = ""
    return f"This customer matched on {matched}. The message has not been sent yet. {reason}{due}"


def left_company_sentence(explained: Explanation, case: Case) -> str:
    company = case.company
    is_archived = company is not None and company.archived_at is not None
    because = f"{company} is archived" if is_archived else f"This customer is no longer in {company}"
    if explained.message.send_type == SendType.ONE_OFF:
        return f"{because}, so the message about this company will be skipped when it is due."
    again = "the company is brought back" if is_archived else "they rejoin the company"
    return f"{because}, so the message about this company is not sent. It will be sent if {again} and they match."


def reason_sentence(record: DeliveryRecord | None) -> str:
    """Quote a record's reason, as the lists show it."""
    why = record.why if record else ""
    return f"Reason: {why or Reason.QUEUED.label}".removesuffix(".") + "."


def skipped_sentence(explained: Explanation, case: Case) -> str:
    if case.record and case.record.reason == Reason.MATCHED_AT_LAUNCH:
        return (
            f"This customer matched already when the message went live, on {format_moment(case.record.matched_at)}."
            " It goes only to people who start to match after that, so this customer never gets it."
        )
    return f"The message was not sent to this customer. {reason_sentence(case.record)}"


def next_check_sentence(explained: Explanation) -> str:
    when = explained.next_round
    if when is None:
        check = "The hourly check is switched off in the schedule, so the next check is at their next visit."
    else:
        due = "is due now" if when <= explained.at else f"is at about {timezone.localtime(when):%H:%M}"
        check = f"The next check {due}, or at their next visit if that is earlier."
    closed = explained.opening > explained.at
    what = "quiet hours end" if explained.waits_for_quiet_hours else "the window opens"
    tail = f" It is then delivered when {what}: {format_opening(explained)}." if closed else ""
    return f"This customer matches and has not received the message yet. {check}{tail}"


Sentence = Callable[[Explanation, Case], str]
VERDICTS: dict[Verdict, tuple[str, Sentence]] = {
    Verdict.SOMEBODY_ELSE: ("plain", lambda e, c: f"This message is for {e.message.to_customer} only."),
    Verdict.GOT_IT: (
        "good",
        lambda e, c: f"This customer received it on {format_moment(c.record.sent_at if c.record else None)}.",
    ),
    Verdict.ON_ITS_WAY: ("info", lambda e, c: "The message is being sent to this customer right now."),
    Verdict.UNCERTAIN: (
        "warning",
        lambda e, c: "It is unknown whether the message reached this customer. It is not sent again automatically.",
    ),
    Verdict.WAITING: ("info", waiting_sentence),
    Verdict.FAILED: ("bad", lambda e, c: f"The message could not be sent. {reason_sentence(c.record)}"),
    Verdict.SKIPPED: ("warning", skipped_sentence),
    Verdict.STOPPED: ("plain", lambda e, c: "The message was stopped before it was sent to this customer."),
    Verdict.ENDED: (
        "plain",
        lambda e, c: (
            f"This message was to be shown until {format_moment(e.message.shown_until)}. "
            "This customer did not visit and match before that."
        ),
    ),
    Verdict.NOT_LIVE: ("plain", lambda e, c: NOT_LIVE[e.message.state]),
    Verdict.NOT_AMONG_THEM: (
        "plain",
        lambda e, c: (
            f"This one-off was sent to the people who matched at its launch, {format_moment(e.message.went_live_at)}. "
            "This customer did not match then."
        ),
    ),
    Verdict.BROKEN: ("bad", lambda e, c: f"The filters are no longer valid, so no customer matches: {e.trouble}"),
    Verdict.NO_MATCH: ("bad", no_match_sentence),
    Verdict.NO_COMPANY: (
        "warning",
        lambda e, c: (
            "The text uses a company variable, so the message is sent once for each company. "
            "This customer is not in a company."
        ),
    ),
    Verdict.LEFT_COMPANY: ("warning", left_company_sentence),
    Verdict.UNREACHABLE: ("bad", lambda e, c: unreachable_sentence(e)),
    Verdict.CAPPED: (
        "warning",
        lambda e, c: (
            "This customer matches but has reached the frequency cap. "
            f"They can receive the next message on {format_moment(e.capped_until)}."
        ),
    ),
    Verdict.NEXT_CHECK: ("good", lambda e, c: next_check_sentence(e)),
    Verdict.NEXT_VISIT: (
        "good",
        lambda e, c: (
            "This customer matches. The message is shown at their next visit"
            + (f" after the window opens: {format_opening(e)}." if e.opening > e.at else ".")
        ),
    ),
}


def as_cards(explained: Explanation) -> list[dict[str, Any]]:
    """Return the template context of each copy: one, or one for each company."""
    nodes = (pair.tree.node for case in explained.cases for pair in case.pairs)
    # All copies have the same rules, so one tree holds all names to look up.
    names = Names([node for node in nodes if isinstance(node, Group)][:1])
    owners = {user.pk: teammate_name(user) for user in User.objects.filter(is_staff=True)}
    return [as_card(explained, case, names=names, owners=owners) for case in explained.cases]


def as_card(explained: Explanation, case: Case, *, names: Names, owners: dict[int, str]) -> dict[str, Any]:
    """Return the template context of one copy."""
    tone, sentence = VERDICTS[case.verdict]
    kept = case.record if case.record and case.record.status in HAS_MATCHED and explained.message.audience_id else None
    return {
        "company": case.company,
        "tone": tone,
        "says": sentence(explained, case),
        "record": case.record,
        "chip": status_chip(case.record) if case.record else "",
        "pairs": [
            {
                "company": pair.company,
                "named": len(case.pairs) > 1,
                "matches": pair.matches,
                "lines": list(rule_lines(pair.tree, names=names, owners=owners, at=explained.at, record=kept, depth=0)),
            }
            for pair in case.pairs
        ],
        "was_kept": kept and case.pairs and was_kept_sentence(kept),
        "events_since": events_since_sentence(explained.message),
        "users_only": explained.message.audience_id and not explained.includes_leads,
    }


def was_kept_sentence(record: DeliveryRecord) -> str:
    """Say of when the values are."""
    matched = f"This customer matched on {format_moment(record.matched_at)}."
    if record.forgotten_at:
        return f"{matched} The values of that time were deleted, as the workspace’s retention settings ask."
    if record.judged_values is None:
        return f"{matched} The values of that time were not kept."
    return f"{matched} “Then” is a value of that time."


def events_since_sentence(message: Message) -> str:
    since = conditions.events_since(message)
    return (
        f"An event counts only if it happened after the message went live, on {format_moment(since)}." if since else ""
    )


def rule_lines(
    judged: EvaluatedNode,
    *,
    names: Names,
    owners: dict[int, str],
    at: datetime,
    record: DeliveryRecord | None,
    depth: int,
) -> Iterator[dict[str, Any]]:
    """Yield the lines of a group: each rule in words, whether it is met, and its value now and at the match."""
    assert isinstance(judged.node, Group)  # noqa: S101 - only groups have lines
    word = "and" if judged.node.match == "all" else "or"
    for number, inner in enumerate(judged.inner):
        line = {"depth": depth, "joint": word if number else "", "holds": inner.holds, "saw": "", "then": ""}
        if isinstance(inner.node, Rule):
            kind = names.kind_of(inner.node)
            then = value_then(inner.node, kind, record)
            yield {
                **line,
                "text": names.sentence(inner.node),
                "saw": format_value(kind, inner.value, owners, at=at),
                "then": format_value(kind, then[0], owners, at=record.matched_at) if record and then else "",
            }
            continue
        group = inner.node
        if group.copied_from:
            text = f"{'Not in' if group.negated else 'In'} segment {group.copied_from}"
        else:
            text = GROUP_WORDS[group.match]
        yield {**line, "text": text}
        yield from rule_lines(inner, names=names, owners=owners, at=at, record=record, depth=depth + 1)


def value_then(rule: Rule, kind: Kind | None, record: DeliveryRecord | None) -> tuple[Any] | None:
    """Return the value that the rule saw when the record matched, or None if it was not kept."""
    if record is None or record.judged_values is None:
        return None
    # A login is judged with the value from before it, which has a column of its own.
    if rule.attribute == "last_seen_at":
        return (record.judged_last_seen_at,)
    name = named_values.value_name(rule.attribute, kind, rule.value)
    if name not in record.judged_values:
        return None
    return (named_values.read_value(record.judged_values[name], kind=kind),)


VALUE_LABELS: dict[Kind, tuple[str, str]] = {
    Kind.TAG: ("has the tag", "does not have the tag"),
    Kind.SEGMENT: ("in the segment", "not in the segment"),
    Kind.MESSAGE: ("yes", "no"),
    Kind.BOOLEAN: ("yes", "no"),
}


def format_value(kind: Kind | None, value: Any, owners: dict[int, str], *, at: datetime) -> str:
    """Describe the value that a rule evaluated at a moment."""
    if value is None or value == "":
        return "unknown"
    if kind in VALUE_LABELS:
        return VALUE_LABELS[kind][0 if value else 1]
    if kind is Kind.EVENT:
        return f"happened {counted(value, 'time', 'times')}" if value else "never happened"
    if kind is Kind.TEAMMATE:
        return owners.get(value, "a former teammate")
    if isinstance(value, datetime):
        distance = f"{timesince(value, at, depth=1)} ago" if value <= at else f"in {timeuntil(value, at, depth=1)}"
        return f"{timezone.localtime(value):%-d %b %Y, %H:%M} ({distance})"
    if isinstance(value, int | float | Decimal):
        return f"{value:,}" if not isinstance(value, Decimal) else f"{value.normalize():,f}"
    return f"“{value}”"


def other_conditions(explained: Explanation) -> list[dict[str, Any]]:
    """Return the conditions besides the rules. `holds` is False for an obstacle, None for information."""
    message = explained.message
    live = message.state in (State.LIVE, State.SAMPLED)
    return [
        {"label": "Message", "holds": live, "text": "Live" if live else message.get_state_display()},
        {
            "label": "Reachable",
            "holds": not explained.unreachable,
            "text": ". ".join(explained.unreachable_labels) or "Yes",
        },
        window_condition(explained),
        *quiet_condition(explained),
        *([cap_condition(explained)] if not message.to_customer_id else []),
        {"label": "Checked", "holds": None, "text": check_times(explained)},
    ]
