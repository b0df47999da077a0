"""A custom attribute's value read as its kind, where nothing is lost by it (behaviour 3 'Attribute catalogue')."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from audiences.intake.attributes.fields import BOOLEANS, LARGEST, Refused, plain_number, seconds
from audiences.models import Workspace
from audiences.rules import Kind

NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?")


# What `one_zone` keeps; None where nothing is kept.
KEPT: ContextVar[ZoneInfo | None] = ContextVar("zone", default=None)


class Misfit(Exception):
    """The value cannot be read as the kind without losing something."""


def zone() -> ZoneInfo:
    """The workspace's zone, in which a time is that names none."""
    return KEPT.get() or Workspace.current().tz


@contextmanager
def one_zone() -> Iterator[None]:
    """Ask for the zone once for the whole block, and not for each of a million cells."""
    kept = KEPT.set(Workspace.current().tz)
    try:
        yield
    finally:
        KEPT.reset(kept)


def as_text(value: object) -> str:
    """Text as it is; numbers and booleans as they are written in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else plain_number(value)  # type: ignore[arg-type]


def as_number(value: object) -> int | float:
    """A number, or a text that is exactly one: “007” is a code, and stays none."""
    if isinstance(value, bool):
        raise Misfit
    if not isinstance(value, str):
        return value  # type: ignore[return-value]
    if not NUMBER.fullmatch(value.strip()):
        raise Misfit
    exact = Decimal(value.strip())
    read = int(exact) if exact == exact.to_integral_value() else float(exact)
    if abs(read) >= LARGEST or Decimal(repr(read)) != exact:
        raise Misfit
    return read


def as_boolean(value: object) -> bool:
    """True or false, 1 or 0, or the words."""
    try:
        return BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise Misfit from None


def as_seconds(value: object) -> int:
    """Unix seconds, or an ISO date or time; without a zone of its own it is in the workspace's."""
    if isinstance(value, bool):
        raise Misfit
    try:
        read = seconds(value, "")
    except Refused:
        if not isinstance(value, str):
            raise Misfit from None
        return iso_seconds(value.strip())
    if read is None:
        raise Misfit
    return read


def iso_seconds(value: str) -> int:
    """Read an ISO date or time as unix seconds."""
    try:
        day = date.fromisoformat(value) if len(value) <= len("2026-05-31") else None
        written = datetime.combine(day, time()) if day else datetime.fromisoformat(value)
        aware = written if written.tzinfo else written.replace(tzinfo=zone())
        read = seconds(int(aware.timestamp()), "")
    except (ValueError, OverflowError):
        raise Misfit from None
    if read is None:
        raise Misfit
    return read


READ_AS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: as_text,
    Kind.NUMBER: as_number,
    Kind.BOOLEAN: as_boolean,
    Kind.DATE: as_seconds,
}
