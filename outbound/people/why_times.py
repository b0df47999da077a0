"""The texts of the “Why?” page about times: delivery times, quiet hours, the frequency cap, and the next check."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from delivery.eligibility.explain import Explanation
from messaging import delivery_window
from messaging.models import Channel, Checking, SendType, State


def format_moment(moment: datetime | None) -> str:
    """Format a moment in the workspace's time zone, to follow the word “on”."""
    return f"{timezone.localtime(moment):%-d %B %Y at %H:%M}" if moment else "an unknown date"


def format_end_of_quiet_hours(explained: Explanation) -> str:
    """Format when quiet hours end, in the time zone that decides about this customer."""
    assert explained.quiet_until is not None  # noqa: S101 - asked by the callers
    return f"{explained.quiet_until.astimezone(explained.zone):%H:%M}"


def format_opening(explained: Explanation) -> str:
    """Format the next opening of the delivery window, in the time zone of the window."""
    return f"{explained.opening.astimezone(explained.zone):%A %-d %B at %H:%M}, {explained.zone.key} time"


def window_condition(explained: Explanation) -> dict[str, Any]:
    if not explained.window.spans:
        return {"label": "Delivery times", "holds": True, "text": "At any time"}
    words = delivery_window.describe_window(explained.window, explained.zone.key)
    is_open = delivery_window.is_open(explained.window, explained.at, explained.zone)
    tail = "Open now." if is_open else f"Opens {format_opening(explained)}."
    return {"label": "Delivery times", "holds": is_open, "text": f"{words}. {tail}"}


def quiet_condition(explained: Explanation) -> list[dict[str, Any]]:
    """Return the quiet hours as a condition; none if the workspace has none or the message does not keep them."""
    if explained.quiet is None:
        return []
    words = delivery_window.describe_quiet_hours(explained.quiet, explained.zone.key)
    is_quiet = explained.quiet_until is not None
    tail = f"It waits until {format_end_of_quiet_hours(explained)}." if is_quiet else "Not now."
    return [{"label": "Quiet hours", "holds": not is_quiet, "text": f"{words}. {tail}"}]


def cap_condition(explained: Explanation) -> dict[str, Any]:
    until = explained.capped_until
    text = f"Reached. The next message can be sent on {format_moment(until)}." if until else "Not reached"
    return {"label": "Frequency cap", "holds": until is None, "text": text}


def check_times(explained: Explanation) -> str:
    """Say when the matcher next evaluates the rules for this customer."""
    message = explained.message
    if message.to_customer_id:
        return "Never. The message is for one customer only."
    if message.send_type == SendType.ONE_OFF:
        return "Once, when the message is set live."
    if message.state != State.LIVE:
        return "Only while the message is live."
    if message.channel == Channel.IN_APP:
        return "At each visit."
    if explained.next_round is None:
        return "At each visit. The hourly check is switched off in the schedule."
    due = explained.next_round
    when = "due now" if due <= explained.at else f"at about {timezone.localtime(due):%H:%M}"
    often = "Every hour"
    if message.checking == Checking.AT_ONCE:
        often = "As soon as something changes, every hour"
    return f"{often} and at each visit. The next hourly check is {when}."
