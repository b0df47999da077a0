"""Readers of single JSON values: each returns the value for a column, or raises `Refused` with the name of the field.

Null and "" mean unknown. The caller skips fields that were not sent.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

MAX_TEXT_LENGTH = 255
# The years that rules accept (audiences.rules). Other values are mistakes, mostly milliseconds.
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
    """The data cannot be stored. The text gives the reason for the sender; `field` is the field at fault."""

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(replace_unstorable(reason))
        self.field = replace_unstorable(field)


class BadAttribute(Refused):
    """One custom attribute cannot be stored. The rest of the data can."""


class NotInCatalogue(Refused):
    """A browser sent a name that is not in the catalogue and that it may not add."""

    def __init__(self, reason: str, *, field: str, of: str, name: str, kind: str = "") -> None:
        super().__init__(reason, field=field)
        self.of, self.name, self.kind = of, name, kind


OnBadValue = Callable[[Refused], None]


# An answer lists at most this many attributes that were not stored.
MAX_WARNINGS = 100


class Warnings(list[Refused]):
    """The custom attributes that were not stored. REST stores the rest of the data and reports these."""

    def note(self, wrong: Refused) -> None:
        """Record a bad attribute. Raise any other error, which refuses the whole request."""
        if not isinstance(wrong, BadAttribute):
            raise wrong
        if len(self) < MAX_WARNINGS:
            self.append(wrong)


def raise_refusal(wrong: Refused) -> None:
    """Raise the error: one bad value refuses the whole request."""
    raise wrong


def first_given(sent: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these values that is neither null nor "", not yet checked."""
    return next((sent[name] for name in names if sent.get(name) not in (None, "")), None)


def replace_unstorable(text: str) -> str:
    """Return the text with a question mark for each character that cannot be stored or sent."""
    return UNSTORABLE.sub("?", text)


def quoted_value(value: object) -> str:
    """Return a value as an error message shows it."""
    text = str(value) if isinstance(value, str | int | float) else type(value).__name__
    return f"“{text[:50]}…”" if len(text) > 50 else f"“{text}”"


def read_text(value: object, field: str, *, most: int = MAX_TEXT_LENGTH) -> str:
    """Read a text and strip it; a number becomes text."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(f"{field} must be a string.", field=field)
    read = value if isinstance(value, str) else format_number(check_number(value, field))
    if UNSTORABLE.search(read):
        raise Refused(f"{field} contains a character that cannot be stored.", field=field)
    read = read.strip()
    if len(read) > most:
        raise Refused(f"{field} is longer than {most:,} characters.", field=field)
    return read


def read_long_text(value: object, field: str) -> str:
    """Read a text of up to 2,000 characters, such as a URL or a user agent."""
    return read_text(value, field, most=2000)


def check_number(value: float, field: str) -> int | float:
    """Return a number that can be stored, as int if it is whole."""
    # isfinite overflows on an int that is too large for a float, so the size is checked first.
    if isinstance(value, int) and abs(value) < MAX_NUMBER:
        return value
    if isinstance(value, float) and math.isfinite(value) and abs(value) < MAX_NUMBER:
        return int(value) if value.is_integer() else value
    raise Refused(f"{field} is too large or not a finite number.", field=field)


def format_number(value: float) -> str:
    """Return a number without an exponent or a trailing “.0”."""
    return str(int(value)) if value == int(value) else repr(value)


def read_seconds(value: object, field: str) -> int | None:
    """Read unix seconds: a whole number, or a text of one."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{field} must be a Unix timestamp in whole seconds.", field=field)
    whole = check_number(value, field)
    if not isinstance(whole, int):
        raise Refused(f"{field} must be a Unix timestamp in whole seconds.", field=field)
    if not MIN_SECONDS <= whole < MAX_SECONDS:
        hint = " Is it in milliseconds?" if MIN_SECONDS <= whole // 1000 < MAX_SECONDS else ""
        raise Refused(f"{field} must be between the years 1900 and 2999.{hint}", field=field)
    return whole


def read_moment(value: object, field: str) -> datetime | None:
    """Read unix seconds as a datetime in UTC."""
    read = read_seconds(value, field)
    return None if read is None else datetime.fromtimestamp(read, tz=UTC)


def read_integer(value: object, field: str) -> int | None:
    """Read an integer; a fraction is cut off (wire 5.13)."""
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
        raise Refused(f"{field} must be between -{MAX_INTEGER:,} and {MAX_INTEGER:,}.", field=field)
    return read


def read_number(value: object, field: str) -> int | float | None:
    """Read any number that can be stored."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{field} must be a number.", field=field)
    return check_number(value, field)


def read_flag(value: object, field: str) -> bool | None:
    """Read true or false, from JSON or from a query string (the official clients send `True`)."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return value
    read = BOOLEANS.get(str(value).lower()) if isinstance(value, str | int) else None
    if read is None:
        raise Refused(f"{field} must be true or false.", field=field)
    return read


def read_mapping(value: object, field: str) -> dict[str, Any]:
    """Read a JSON object; null and "" mean an empty one."""
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise Refused(f"{field} must be an object.", field=field)
    return value


def read_entries(value: object, field: str) -> list[dict[str, Any]]:
    """Read a list of objects, bare or wrapped in an object of type “….list” as in the API's answers."""
    if isinstance(value, dict) and str(value.get("type")).endswith(".list"):
        value = value.get(field)
    if value is None or value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Refused(f"{field} must be a list of objects.", field=field)
    return value


def try_read(read: Reader, value: object, field: str, *, on_bad_value: OnBadValue, otherwise: object = None) -> Any:
    """Read a value. Pass an error to `on_bad_value` and, unless that raises, return `otherwise`."""
    try:
        return read(value, field)
    except Refused as wrong:
        on_bad_value(wrong)
        return otherwise
