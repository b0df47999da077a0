"""Checks before a launch: it reaches someone, the reviewed count still holds, a large number of people was typed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from audiences.models import Workspace
from audiences.rules import RuleError
from delivery.matching import forecast, launch_job
from delivery.matching.forecast import Forecast
from messaging.models import Message, SendType, State
from outbound.actions import LaunchPlan

# Time that a click waits for an exact count; after it, the page's count is used if an estimate is close to it.
COUNT_WITHIN = timedelta(milliseconds=500)
ABOUT_PERCENT = 30
MAX_SAMPLE = 1_000_000
# Without the number, which the sheet shows beside the field after it has counted again.
UNCONFIRMED = "To confirm, type exactly the number of people it goes to."


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedCounts:
    """The counts that the page showed and the typed number; None if the page showed only an estimate or none."""

    reviewed: int | None = None
    receiving: int | None = None
    typed: str = ""
    sample: int | None = None

    @classmethod
    def from_post(cls, posted: Mapping[str, str], *, sample: int | None = None) -> "PostedCounts":
        """Parse the posted form."""
        return cls(
            reviewed=parse_number(posted.get("reviewed", "")),
            receiving=parse_number(posted.get("receiving", "")),
            typed=posted.get("confirm", ""),
            sample=sample,
        )


def parse_number(text: str) -> int | None:
    """Parse a whole number as people type it, also 12,345 and 12 345."""
    digits = re.sub(r"[\s,.’']", "", text)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def count_recipients(message: Message, asked: PostedCounts, *, at: datetime) -> Forecast | None:
    """Forecast the launch; None if the rules are invalid, which the composer reports.

    Return an estimate if an exact count is slow and the page's count is close to it: then the launch itself counts.
    """
    try:
        found = forecast.forecast_within(message, at=at, within=COUNT_WITHIN)
        return found if found.exact or is_close_to_review(found, asked) else forecast.forecast(message, at=at)
    except RuleError:
        return None


def is_close_to_review(found: Forecast, asked: PostedCounts) -> bool:
    """Whether the page's count is close to an estimate."""
    if asked.reviewed is None or asked.receiving is None:
        return False
    return abs(found.people - asked.reviewed) * 100 <= ABOUT_PERCENT * found.people


def refusal_reason(message: Message, found: Forecast, asked: PostedCounts) -> str:
    """Return the reason to refuse a launch from the sheet, or ""."""
    reason = nobody_reason(message, found) or drift_reason(found, asked)
    return reason or (UNCONFIRMED if unconfirmed_reason(found, asked) else "")


def nobody_reason(message: Message, found: Forecast) -> str:
    """Return the reason to refuse a one-off that no one would receive, or ""."""
    if message.send_type != SendType.ONE_OFF or found.receiving:
        return ""
    if found.people:
        verb = "matches" if found.people == 1 else "match"
        return f"{found.people:,} {verb} now and all are left out, so it would reach no one."
    return forecast.NO_REST_MATCH if message.state == State.SAMPLED else forecast.NO_MATCH


def drift_reason(found: Forecast, asked: PostedCounts) -> str:
    """Return the reason to refuse a launch whose audience has changed since the page showed it, or ""."""
    saw = asked.reviewed if asked.sample is None and found.exact else None
    if saw is None or not launch_job.has_drifted(found.people, since=saw):
        return ""
    return launch_job.drift_sentence(found.people, since=saw)


def unconfirmed_reason(found: Forecast, asked: PostedCounts) -> str:
    """Return the reason to refuse a large launch without the typed number of people, or ""."""
    people = found.receiving
    shown = people if asked.receiving is None else asked.receiving
    if asked.sample is not None:
        sending = shown = min(asked.sample, people)
    else:
        sending = people if found.exact else shown
    if sending <= Workspace.current().confirm_above or parse_number(asked.typed) in {shown, sending}:
        return ""
    return f"Type {shown:,} to confirm: the number of people it goes to."


def launch_plan(found: Forecast, asked: PostedCounts) -> LaunchPlan:
    return LaunchPlan(
        people=found.people,
        is_exact=found.exact,
        reviewed=None if found.exact else asked.reviewed,
        copies=found.copies if found.exact else None,
    )
