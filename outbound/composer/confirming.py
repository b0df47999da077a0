"""Before a message goes to many: the sender types how many, and what they read must still be so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from audiences.models import Workspace
from audiences.rules import RuleError
from delivery import matching
from delivery.matching import Forecast
from messaging.models import Message


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


def count(message: Message, *, at: datetime) -> Forecast | None:
    """Who would get it now; None where its rules cannot be read, which is said elsewhere."""
    try:
        return matching.forecast(message, at=at)
    except RuleError:
        return None


def receiving(found: Forecast) -> int:
    """How many people would get it."""
    return found.people - sum(found.left_out.values())


def refusal(found: Forecast, asked: Asked) -> str:
    """Why it may not go yet; empty where it may."""
    workspace = Workspace.current()
    if asked.sample is None and asked.reviewed is not None:
        moved = abs(found.people - asked.reviewed) * 100
        if moved > workspace.drift_percent * asked.reviewed:
            return (
                f"{asked.reviewed:,} people matched when this page counted, {found.people:,} match now."
                " Look at the review again before you go on."
            )
    people = receiving(found)
    going = people if asked.sample is None else min(asked.sample, people)
    if going <= workspace.confirm_above:
        return ""
    shown = asked.receiving if asked.sample is None and asked.receiving is not None else going
    if number(asked.typed) in {shown, going}:
        return ""
    return f"Type {shown:,} to confirm: that is how many people it goes to."
