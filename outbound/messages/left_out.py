"""The people whom an ongoing message leaves out now, counted by reason for its report."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audiences.rules import RuleError
from delivery.eligibility.left_out import Outcomes, count_outcomes_within
from delivery.models import reason_label
from messaging.models import RUNNING, Message, SendType, State

COUNT_WITHIN = timedelta(milliseconds=500)
TOO_MANY = "There are too many people to count them now."


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The content of the card."""

    headline: str
    reasons: list[tuple[str, int]]


def is_counted(message: Message) -> bool:
    """Whether the report counts the people left out now; that of a one-off lists its records by reason."""
    return message.send_type == SendType.ONGOING and message.state in (*RUNNING, State.PAUSED)


def show_left_out(request: HttpRequest, message: Message, *, at: datetime) -> HttpResponse:
    """Render the people who match now and do not get the message, by reason."""
    try:
        found = count_outcomes_within(message, at=at, within=COUNT_WITHIN) if is_counted(message) else None
        shown = describe_outcomes(found, message) if found else LeftOut(headline=TOO_MANY, reasons=[])
    except RuleError as wrong:
        shown = LeftOut(headline=str(wrong), reasons=[])
    return render(request, "outbound/messages/left_out.html", {"original": message, "shown": shown, "at": at})


def describe_outcomes(found: Outcomes, message: Message) -> LeftOut:
    """Return the numbers in words, and the reasons with the most people first."""
    if not found.people:
        return LeftOut(headline="No customer matches now.", reasons=[])
    about = "" if found.exact else "about "
    left_out = sum(found.left_out.values())
    parts = (
        (found.received, "received it"),
        (found.uncertain, "may have received it"),
        (found.waiting, "will receive it"),
        (left_out, "is left out" if left_out == 1 else "are left out"),
    )
    verb = "matches" if found.people == 1 else "match"
    words = ", ".join(f"{about}{number:,} {words}" for number, words in parts if number)
    headline = f"{about}{found.people:,} {verb} now: {words}."
    reasons = sorted(found.left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    return LeftOut(
        headline=headline[:1].upper() + headline[1:],
        reasons=[(reason_label(reason, message), number) for reason, number in reasons],
    )
