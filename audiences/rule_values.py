"""Values of rules: the parsers of what a rule compares with, and the error for its author."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

MAX_DAYS = 36_500


class RuleError(ValueError):
    """A rule is invalid. The text is a sentence for its author that names the rule."""


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store a text: it has no null character and no half of a surrogate pair."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def quoted_value(value: object) -> str:
    """Return a value as error messages quote it: short, without characters that cannot be encoded."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) > 10**40:
        return "a number of many digits"
    text = str(value)
    return "".join(letter if is_storable(letter) else "�" for letter in text[:60]) + "…" * (len(text) > 60)


def read_text(value: object) -> str:
    """Parse a text to compare with: not empty, no null character, at most 1,000 characters."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**30:
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise RuleError("enter a text to compare with.")
    if not is_storable(value):
        raise RuleError("the text contains a character that cannot be stored.")
    if len(value) > 1000:
        raise RuleError("the text is longer than 1,000 characters.")
    return value


def read_number(value: object) -> int | float:
    """Parse a finite number, from JSON or from a text."""
    if isinstance(value, str):
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            raise RuleError(f"“{quoted_value(value)}” is not a number.") from None
        if number.is_finite() and abs(number) < Decimal(10) ** 30:
            return int(number) if number == number.to_integral_value() else float(number)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**30:
        return int(value) if value == int(value) else value
    raise RuleError(f"“{quoted_value(value)}” is not a number.")


def read_days(value: object) -> int:
    """Parse a number of whole days."""
    days = read_number(value) if value not in (None, "") else None
    if not isinstance(days, int):
        raise RuleError("enter a whole number of days.")
    if abs(days) > MAX_DAYS:
        raise RuleError(f"enter at most {MAX_DAYS:,} days.")
    return days


def read_day(value: object) -> str:
    """Parse a calendar day such as 2026-05-31."""
    try:
        day = date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise RuleError(f"“{quoted_value(value)}” is not a valid date. Use the format 2026-05-31.") from None
    if not 1900 <= day.year <= 2999:
        raise RuleError("the year must be between 1900 and 2999.")
    return day.isoformat()


def read_id(value: object) -> int:
    """Parse the primary key of a tag, segment, message or teammate."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise RuleError("choose one.")
    return value


def read_role(value: object) -> str:
    if value not in ("user", "lead"):
        raise RuleError("the role must be user or lead.")
    return str(value)


VALUE_READERS: dict[str, Callable[[object], Any]] = {
    "text": read_text,
    "number": read_number,
    "days": read_days,
    "day": read_day,
    "role": read_role,
    "tag": read_id,
    "segment": read_id,
    "message": read_id,
    "teammate": read_id,
}
