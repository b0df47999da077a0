"""Before a message goes to many: the sender types how many, and what they read must still be so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from audiences.models import Workspace
from audiences.rules import RuleError
from delivery.matching import forecast, launch_job
from delivery.matching.forecast import Forecast
from messaging.models import Message
from outbound.actions import LaunchPlan

# So long a click waits for a count; where that is too short, what the page had counted stands, if it is about so.
COUNT_WITHIN = timedelta(milliseconds=500)
ABOUT_PERCENT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the page showed, and what was typed; None where it showed no number, or only about how many."""

    reviewed: int | None = None
    receiving: int | None = None
    typed: str = ""
    sample: int | None = None

    @classmethod
    def of(cls, posted: Mapping[str, str], *, sample: int | None = None) -> "Asked":
        """Read what a page posted."""
        return cls(
            reviewed=number(posted.get("reviewed", "")),
            receiving=number(posted.get("receiving", "")),
            typed=posted.get("confirm", ""),
            sample=sample,
        )


def number(text: str) -> int | None:
    """A whole number as people type it: 12,345 and 12 345 too."""
    digits = re.sub(r"[\s,.’']", "", text)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def count(message: Message, asked: Asked, *, at: datetime) -> Forecast | None:
    """Who would get it now; None where its rules cannot be read, which is said elsewhere.

    An estimate where counting takes long and what the page had counted is about so: then whoever launches it counts.
    """
    try:
        found = forecast.forecast_within(message, at=at, within=COUNT_WITHIN)
        return found if found.exact or is_about(found, asked) else forecast.forecast(message, at=at)
    except RuleError:
        return None


def is_about(found: Forecast, asked: Asked) -> bool:
    """Whether the page showed about as many as an estimate has it."""
    if asked.reviewed is None or asked.receiving is None:
        return False
    return abs(found.people - asked.reviewed) * 100 <= ABOUT_PERCENT * found.people


def receiving(found: Forecast) -> int:
    """How many people would get it."""
    return found.people - sum(found.left_out.values())


def refusal(found: Forecast, asked: Asked) -> str:
    """Why it may not go yet; empty where it may."""
    saw = asked.reviewed if asked.sample is None and found.exact else None
    if saw is not None and launch_job.has_drifted(found.people, since=saw):
        return (
            f"{saw:,} people matched when this page counted, {found.people:,} match now."
            " Look at the review again before you go on."
        )
    people = receiving(found)
    shown = people if asked.receiving is None else asked.receiving
    if asked.sample is not None:
        going = shown = min(asked.sample, people)
    else:
        going = people if found.exact else shown
    if going <= Workspace.current().confirm_above or number(asked.typed) in {shown, going}:
        return ""
    return f"Type {shown:,} to confirm: that is how many people it goes to."


def going(found: Forecast, asked: Asked) -> LaunchPlan:
    """What a button needs to know of whom it sends to."""
    return LaunchPlan(people=found.people, is_exact=found.exact, reviewed=None if found.exact else asked.reviewed)
