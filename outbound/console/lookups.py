"""Lookups behind search boxes: names by kind, and the name of a teammate."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet

from audiences.models import Audience, Tag
from audiences.rules import Kind
from messaging.models import Message

# Up to this many names are a menu; more are found by typing.
MENU_LIMIT = 100
SEARCH_LIMIT = 12
EVENT_LIMIT = 200
KINDS_BY_ID = {Kind.TAG, Kind.SEGMENT, Kind.MESSAGE, Kind.TEAMMATE, Kind.ROLE}
# The kinds of rows that a rule can name in any number, and their name field.
NAMED_KINDS: dict[Kind, tuple[Any, str]] = {
    Kind.TAG: (Tag.objects.all(), "name"),
    Kind.SEGMENT: (Audience.objects.segments(), "name"),
    Kind.MESSAGE: (Message.objects.to_audiences(), "title"),
}
VIEW_PERMISSIONS: dict[Kind, str] = {
    Kind.TAG: "audiences.view_tag",
    Kind.SEGMENT: "audiences.view_audience",
    Kind.MESSAGE: "messaging.view_message",
}


def find_names(kind: Kind, *, words: str) -> list[dict[str, Any]]:
    """Return the tags, segments or messages whose name contains the words: exact matches first, then prefixes."""
    rows, by = NAMED_KINDS[kind]
    found: QuerySet[Any] = rows.filter(**{f"{by}__icontains": words}) if words else rows
    best = [
        ExpressionWrapper(Q(**{f"{by}__{how}": words}), output_field=BooleanField()).desc()
        for how in ("iexact", "istartswith")
        if words
    ]
    tail = ("-pk",) if kind is Kind.MESSAGE else (by, "pk")
    return [
        {"id": row.pk, "name": str(row), "more": distinguishing_detail(row), "rules": getattr(row, "rules", None)}
        for row in found.order_by(*best, *tail)[:SEARCH_LIMIT]
    ]


def distinguishing_detail(row: Any) -> str:
    """Return a detail that tells apart rows of the same name."""
    return f"{row.get_channel_display()}, {row.get_state_display().lower()}" if isinstance(row, Message) else ""


def teammate_name(user: User | None) -> str:
    return (user.get_full_name() or user.get_username()) if user else "Nobody"
