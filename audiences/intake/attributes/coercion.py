"""Lossless conversion of values to the kind of their custom attribute (behaviour 3 'Attribute catalogue')."""

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


# Set by `cached_zone`; None outside it.
CACHED_ZONE: ContextVar[ZoneInfo | None] = ContextVar("zone", default=None)


class ConversionError(Exception):
    """The value cannot be converted to the kind without loss."""


def workspace_zone() -> ZoneInfo:
    """Return the workspace's zone, which applies to times without a zone."""
    return CACHED_ZONE.get() or Workspace.current().tz


@contextmanager
def cached_zone() -> Iterator[None]:
    """Load the workspace's zone once for the block instead of once for each value."""
    kept = CACHED_ZONE.set(Workspace.current().tz)
    try:
        yield
    finally:
        CACHED_ZONE.reset(kept)


def as_text(value: object) -> str:
    """Return text unchanged, and numbers and booleans as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else format_number(value)  # type: ignore[arg-type]


def as_number(value: object) -> int | float:
    """Return a number, also from a text that is exactly one. “007” is a code, not a number."""
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
    """Return a boolean, also from 1, 0 and the texts “true” and “false”."""
    try:
        return BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise ConversionError from None


def as_seconds(value: object) -> int:
    """Return unix seconds, also from an ISO date or time. The workspace's zone applies if it has none."""
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
