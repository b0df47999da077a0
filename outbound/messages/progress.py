"""Progress of a message: the share that has been sent, the rate, and the expected end."""

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
    """The report's progress bar and texts; `pace` and `ends` are "" if they are unknown."""

    words: str
    percent: int
    pace: str
    ends: str
    is_moving: bool


def progress_view(message: Message, *, at: datetime) -> ProgressView | None:
    """Return the progress, or None if no copies are waiting or the message no longer sends."""
    if message.to_customer_id or message.state not in SHOWN_WHILE:
        return None
    found = progress.progress_of(message, at=at)
    if not found.left:
        return None
    words = str(found)
    by_hand = message.channel != Channel.IN_APP
    return ProgressView(
        words=f"{words[:1].upper()}{words[1:]}.",
        percent=100 * found.done // (found.done + found.left),
        pace=rate_text(found.per_second) if found.is_moving and by_hand else "",
        ends=end_text(found, at=at) if found.is_moving and by_hand else "",
        is_moving=found.is_moving,
    )


def rate_text(per_second: float) -> str:
    if not per_second:
        return "Nothing was sent in the last minute."
    if per_second < 1:
        return f"{per_second * 60:,.0f} a minute."
    return f"{per_second:,.0f} a second."


def end_text(found: progress.Progress, *, at: datetime) -> str:
    if found.ends_at is None:
        return "The end time is not known yet."
    return f"Done at about {moment(found.ends_at)} at this rate." if found.ends_at > at else ""


def render_progress(request: HttpRequest, message: Message) -> HttpResponse:
    """Render the part of the report that refreshes itself."""
    found = progress_view(message, at=timezone.now())
    return render(request, "outbound/messages/progress.html", {"original": message, "progress": found})
