"""A custom attribute's value read as its kind, where nothing is lost by it (behaviour 3 'Attribute catalogue')."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from audiences.intake.attributes.fields import BOOLEANS, MAX_NUMBER, Refused, format_number, read_seconds
from audiences.models import Workspace
from audiences.rules import Kind

NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?")


# What `cached_zone` keeps; None where nothing is kept.
CACHED_ZONE: ContextVar[ZoneInfo | None] = ContextVar("zone", default=None)


class ConversionError(Exception):
    """The value cannot be read as the kind without losing something."""


def workspace_zone() -> ZoneInfo:
    """The workspace's zone, in which a time is that names none."""
    return CACHED_ZONE.get() or Workspace.current().tz


@contextmanager
def cached_zone() -> Iterator[None]:
    """Ask for the zone once for the whole block, and not for each of a million cells."""
    kept = CACHED_ZONE.set(Workspace.current().tz)
    try:
        yield
    finally:
        CACHED_ZONE.reset(kept)


def as_text(value: object) -> str:
    """Text as it is; numbers and booleans as they are written in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else format_number(value)  # type: ignore[arg-type]


def as_number(value: object) -> int | float:
    """A number, or a text that is exactly one: “007” is a code, and stays none."""
    if isinstance(value, bool):
        raise ConversionError
    if not isinstance(value, str):
        return value  # type: ignore[return-value]
    if not NUMBER.fullmatch(value.strip()):
        raise ConversionError
    exact = Decimal(value.strip())
    read = int(exact) if exact == exact.to_integral_value() else float(exact)
    if abs(read) >= MAX_NUMBER or Decimal(repr(read)) != exact:
        raise ConversionError
    return read


def as_boolean(value: object) -> bool:
    """True or false, 1 or 0, or the words."""
    try:
        return BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise ConversionError from None


def as_seconds(value: object) -> int:
    """Unix seconds, or an ISO date or time; without a zone of its own it is in the workspace's."""
    if isinstance(value, bool):
        raise ConversionError
    try:
        read = read_seconds(value, "")
    except Refused:
        if not isinstance(value, str):
            raise ConversionError from None
        return iso_seconds(value.strip())
    if read is None:
        raise ConversionError
    return read


def iso_seconds(value: str) -> int:
    """Read an ISO date or time as unix seconds."""
    try:
        day = date.fromisoformat(value) if len(value) <= len("2026-05-31") else None
        written = datetime.combine(day, time()) if day else datetime.fromisoformat(value)
        aware = written if written.tzinfo else written.replace(tzinfo=workspace_zone())
        read = read_seconds(int(aware.timestamp()), "")
    except (ValueError, OverflowError):
        raise ConversionError from None
    if read is None:
        raise ConversionError
    return read


READ_AS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: as_text,
    Kind.NUMBER: as_number,
    Kind.BOOLEAN: as_boolean,
    Kind.DATE: as_seconds,
}
