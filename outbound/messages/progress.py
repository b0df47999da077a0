"""Progress of a message: the share that has been sent, the rate, and the expected end."""

from dataclasses import dataclass
from datetime import datetime

from delivery.reporting import progress
from messaging.models import RUNNING, Channel, Message, State
from outbound.console.formatting import moment

SHOWN_WHILE = (*RUNNING, State.PAUSED)


@dataclass(frozen=True, slots=True)
class ProgressView:
    """The report's progress bar and texts; `pace` and `ends` are "" if there is nothing to say."""

    words: str
    percent: int
    pace: str
    ends: str
    # Whether copies are due now.
    has_due: bool


def progress_view(message: Message, *, at: datetime) -> ProgressView | None:
    """Return the progress, or None if no copies are waiting or the message no longer sends."""
    if message.to_customer_id or message.state not in SHOWN_WHILE:
        return None
    found = progress.progress_of(message, at=at)
    if not found.left:
        return None
    words = str(found)
    sends = found.is_moving and message.channel != Channel.IN_APP
    has_due = sends and found.continues_at is None
    return ProgressView(
        words=f"{words[:1].upper()}{words[1:]}.",
        percent=100 * found.done // (found.done + found.left),
        pace=rate_text(found.per_second) if has_due else "",
        ends=end_text(found, at=at) if sends else "",
        has_due=has_due,
    )


def rate_text(per_second: float) -> str:
    if not per_second:
        return "Nothing was sent in the last minute."
    if per_second < 1:
        return f"{per_second * 60:,.0f} a minute."
    return f"{per_second:,.0f} a second."


def end_text(found: progress.Progress, *, at: datetime) -> str:
    if found.continues_at:
        return f"Sending continues {moment(found.continues_at)}."
    if found.depends_on_zones:
        return "The end depends on the time zones of the customers."
    if found.ends_at is None:
        return "The speed is still being measured, so the end is not known yet."
    return f"Done at about {moment(found.ends_at)} at this rate." if found.ends_at > at else ""


# In percent: after each such part of the progress, screen readers announce it.
SPOKEN_PART = 25


def spoken_state(message: Message, sending: ProgressView | None) -> str:
    """Return the text that screen readers announce when it changes: seldom, as the numbers change all the time."""
    state = str(message.get_state_display())
    return f"{state}: {sending.percent // SPOKEN_PART * SPOKEN_PART} % done" if sending else state
