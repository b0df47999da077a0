"""Single values as they arrive in JSON: read into what a column holds, or refused in a sentence that names the field.

Null and "" are read as unknown; what is not there at all is for the caller to leave alone.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

MAX_TEXT_LENGTH = 255
# The years a rule can name (audiences.rules): what lies outside is a mistake, mostly milliseconds.
MIN_SECONDS = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp())
MAX_SECONDS = int(datetime(3000, 1, 1, tzinfo=UTC).timestamp())
MAX_NUMBER = 10**30
MAX_INTEGER = 2**31 - 1
# PostgreSQL stores no null character, and UTF-8 has no half of a surrogate pair.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
WHOLE = re.compile(r"[+-]?\d{1,18}")
BOOLEANS: dict[object, bool] = {"true": True, "false": False, "1": True, "0": False}

Reader = Callable[[object, str], Any]


class Refused(ValueError):
    """What was sent cannot be taken; the text says why, `field` which part of it."""

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(replace_unstorable(reason))
        self.field = replace_unstorable(field)


class BadAttribute(Refused):
    """One custom attribute cannot be stored. The rest of what was sent can."""


class NotInCatalogue(Refused):
    """A browser sent a name that is not in the catalogue, and may not add it."""

    def __init__(self, reason: str, *, field: str, of: str, name: str, kind: str = "") -> None:
        super().__init__(reason, field=field)
        self.of, self.name, self.kind = of, name, kind


OnBadValue = Callable[[Refused], None]


# A caller that sends more bad attributes than this reads of the first ones.
MAX_WARNINGS = 100


class Warnings(list[Refused]):
    """The custom attributes that were not stored, while the rest was: how REST takes them."""

    def note(self, wrong: Refused) -> None:
        """Note a bad attribute. Refuse all that was sent for any other bad value."""
        if not isinstance(wrong, BadAttribute):
            raise wrong
        if len(self) < MAX_WARNINGS:
            self.append(wrong)


def raise_refusal(wrong: Refused) -> None:
    """Refuse all that was sent for one value in it: how REST takes a bad value."""
    raise wrong


def first_given(sent: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these values that says something; null and "" are none, anything else is for its reader."""
    return next((sent[name] for name in names if sent.get(name) not in (None, "")), None)


def replace_unstorable(text: str) -> str:
    """Return the text with whatever cannot be stored or sent replaced by a question mark."""
    return UNSTORABLE.sub("?", text)


def quoted_value(value: object) -> str:
    """Return a value as an error message shows it."""
    text = str(value) if isinstance(value, str | int | float) else type(value).__name__
    return f"“{text[:50]}…”" if len(text) > 50 else f"“{text}”"


def read_text(value: object, field: str, *, most: int = MAX_TEXT_LENGTH) -> str:
    """Read one text without the white space around it; a number becomes text."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(f"{field} must be a text.", field=field)
    read = value if isinstance(value, str) else format_number(check_number(value, field))
    if UNSTORABLE.search(read):
        raise Refused(f"{field} holds a character that cannot be stored.", field=field)
    read = read.strip()
    if len(read) > most:
        raise Refused(f"{field} is longer than {most:,} characters.", field=field)
    return read


def read_long_text(value: object, field: str) -> str:
    """Read an address or a user agent, which may be longer than a name."""
    return read_text(value, field, most=2000)


def check_number(value: float, field: str) -> int | float:
    """Return a number that can be stored, whole ones as int."""
    # isfinite overflows on an int no float can hold, so size comes first.
    if isinstance(value, int) and abs(value) < MAX_NUMBER:
        return value
    if isinstance(value, float) and math.isfinite(value) and abs(value) < MAX_NUMBER:
        return int(value) if value.is_integer() else value
    raise Refused(f"{field} is a number too large to store.", field=field)


def format_number(value: float) -> str:
    """Return a number as people write it."""
    return str(int(value)) if value == int(value) else repr(value)


def read_seconds(value: object, field: str) -> int | None:
    """Read unix seconds: a whole number, also as text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{field} must be a time in unix seconds, as a whole number.", field=field)
    whole = check_number(value, field)
    if not isinstance(whole, int):
        raise Refused(f"{field} must be a time in unix seconds, as a whole number.", field=field)
    if not MIN_SECONDS <= whole < MAX_SECONDS:
        hint = " Is it in milliseconds?" if MIN_SECONDS <= whole // 1000 < MAX_SECONDS else ""
        raise Refused(f"{field} lies outside the years 1900 to 2999.{hint}", field=field)
    return whole


def read_moment(value: object, field: str) -> datetime | None:
    """Read unix seconds as a moment."""
    read = read_seconds(value, field)
    return None if read is None else datetime.fromtimestamp(read, tz=UTC)


def read_integer(value: object, field: str) -> int | None:
    """Read a number of an integer column; a fraction is cut off (wire 5.13)."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Refused(f"{field} must be a number, not {quoted_value(value)}.", field=field) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{field} must be a number.", field=field)
    read = int(check_number(value, field))
    if abs(read) > MAX_INTEGER:
        raise Refused(f"{field} must lie between -{MAX_INTEGER:,} and {MAX_INTEGER:,}.", field=field)
    return read


def read_number(value: object, field: str) -> int | float | None:
    """Read any number that can be stored."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{field} must be a number.", field=field)
    return check_number(value, field)


def read_flag(value: object, field: str) -> bool | None:
    """Read true or false, as JSON or as the query strings of the official clients have it (`True`)."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return value
    read = BOOLEANS.get(str(value).lower()) if isinstance(value, str | int) else None
    if read is None:
        raise Refused(f"{field} must be true or false.", field=field)
    return read


def read_mapping(value: object, field: str) -> dict[str, Any]:
    """Read an object."""
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise Refused(f"{field} must be an object.", field=field)
    return value


def read_entries(value: object, field: str) -> list[dict[str, Any]]:
    """Read a list of objects: as it is, or in an object as the answer has it."""
    if isinstance(value, dict) and str(value.get("type")).endswith(".list"):
        value = value.get(field)
    if value is None or value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Refused(f"{field} must be a list of objects.", field=field)
    return value


def try_read(read: Reader, value: object, field: str, *, on_bad_value: OnBadValue, otherwise: object = None) -> Any:
    """Read a value; where it cannot be taken and the rest goes on, return `otherwise`."""
    try:
        return read(value, field)
    except Refused as wrong:
        on_bad_value(wrong)
        return otherwise
