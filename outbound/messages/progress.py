"""How far a message is that many are to get: how many have gone, how fast it goes, and when it will be done."""

from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from delivery.reporting import progress
from messaging.models import RUNNING, Channel, Message, State
from outbound.console.formatting import moment

SHOWN_WHILE = (*RUNNING, State.PAUSED)


@dataclass(frozen=True, slots=True)
class ProgressView:
    """What the report shows of it; `pace` and `ends` are empty where nothing can be said."""

    words: str
    percent: int
    pace: str
    ends: str
    is_moving: bool


def going(message: Message, *, at: datetime) -> ProgressView | None:
    """How far it is; None where nobody is left to get it, or nobody hands it over."""
    if message.to_customer_id or message.state not in SHOWN_WHILE:
        return None
    found = progress.progress_of(message, at=at)
    if not found.held:
        return None
    words = str(found)
    by_hand = message.channel != Channel.IN_APP
    return ProgressView(
        words=f"{words[:1].upper()}{words[1:]}.",
        percent=100 * found.handed_over // (found.handed_over + found.held),
        pace=rate(found.per_second) if found.is_moving and by_hand else "",
        ends=end(found, at=at) if found.is_moving and by_hand else "",
        is_moving=found.is_moving,
    )


def rate(per_second: float) -> str:
    """How fast it goes, in words."""
    if not per_second:
        return "Nothing went in the last minute."
    if per_second < 1:
        return f"{per_second * 60:,.0f} a minute."
    return f"{per_second:,.0f} a second."


def end(found: progress.Progress, *, at: datetime) -> str:
    """When what is due will be done, in words."""
    if found.ends_at is None:
        return "When it will be done is not known yet."
    return f"Done about {moment(found.ends_at)} at this pace." if found.ends_at > at else ""


def page(request: HttpRequest, message: Message) -> HttpResponse:
    """The part of the report that keeps itself up to date."""
    found = going(message, at=timezone.now())
    return render(request, "outbound/report_progress.html", {"original": message, "going": found})
