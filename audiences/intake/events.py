"""Events, at most one per name and second, and their exact summaries (wire 5.12)."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from audiences.intake.attributes.fields import (
    NotInCatalogue,
    Refused,
    check_number,
    quoted_value,
    read_long_text,
    read_mapping,
    read_text,
)
from audiences.intake.source import CATALOGUE_LIMITS, Source
from audiences.models import Customer, EventName, RefusedName, Topic
from audiences.transactions import retried
from audiences.webhook_outbox import announce

MAX_NAME_LENGTH = 190
MAX_METADATA_KEYS = 10
# Clocks differ, sometimes by a whole time zone.
CLOCK_TOLERANCE = timedelta(days=1)
# One statement, so that concurrent requests count each new event exactly once.
INSERT_EVENT = """
WITH happened AS (
    INSERT INTO audiences_event (customer_id, name, happened_at, metadata)
    VALUES (%(customer)s, %(name)s, %(happened_at)s, %(metadata)s::jsonb)
    ON CONFLICT (customer_id, name, happened_at) DO NOTHING
    RETURNING customer_id, name, happened_at
)
INSERT INTO audiences_eventsummary AS summary (customer_id, name, count, first_at, last_at)
SELECT customer_id, name, 1, happened_at, happened_at FROM happened
ON CONFLICT (customer_id, name) DO UPDATE SET
    count = summary.count + 1,
    first_at = least(summary.first_at, excluded.first_at),
    last_at = greatest(summary.last_at, excluded.last_at)
"""
OBJECT_KEYS = ({"url", "value"}, {"amount", "currency"})


def read_event_name(value: object, field: str = "event_name") -> str:
    """Read an event's name in lower case, with "-" for "." and "$"."""
    name = re.sub(r"[.$]", "-", read_text(value, field, most=MAX_NAME_LENGTH).lower())
    if not name:
        raise Refused(f"{field} is required.", field=field)
    return name


def read_metadata(value: object) -> dict[str, Any]:
    """Read the metadata of an event: at most ten keys, with flat values except links and amounts of money."""
    metadata = read_mapping(value, "metadata")
    if len(metadata) > MAX_METADATA_KEYS:
        raise Refused(f"metadata can have at most {MAX_METADATA_KEYS} keys.", field="metadata")
    read: dict[str, Any] = {}
    for key, entry in metadata.items():
        field = read_text(key, "metadata", most=MAX_NAME_LENGTH)
        if isinstance(entry, dict) and entry.keys() in OBJECT_KEYS:
            read[field] = {inner: read_metadata_value(value, f"{field}.{inner}") for inner, value in entry.items()}
        else:
            read[field] = read_metadata_value(entry, field)
    return read


def read_metadata_value(value: object, field: str) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return read_long_text(value, field)
    if isinstance(value, int | float):
        return check_number(value, field)
    raise Refused(
        f"{quoted_value(field)} in metadata must be a string, a number, true, false or null.", field="metadata"
    )


def check_name_may_be_added(name: str, *, source: Source) -> None:
    """Raise NotInCatalogue if the name is new and the browser may not add it."""
    if EventName.objects.filter(name=name).exists():
        return
    most = CATALOGUE_LIMITS[source]
    if most and EventName.objects.offered()[:most].count() < most:
        return
    pages = (
        f"Pages cannot add event names beyond {most}." if most else "Pages without a valid user_hash cannot add events."
    )
    raise NotInCatalogue(
        f"The event {quoted_value(name)} is new. {pages} Accept it in Outbound’s console, or send it from your server.",
        field="event_name",
        of=RefusedName.Of.EVENT,
        name=name,
    )


@retried
def record_event(
    customer: Customer,
    name: object,
    happened_at: datetime | None,
    metadata: object,
    *,
    at: datetime,
    source: Source = Source.REST,
) -> bool:
    """Record an event, at `at` if `happened_at` is None. Return False if it was already recorded.

    Raises NotInCatalogue if a browser sends a new name that it may not add.
    """
    if happened_at is not None and happened_at - at > CLOCK_TOLERANCE:
        raise Refused("created_at is in the future. Send events after they happened.", field="created_at")
    named, moment = read_event_name(name), (happened_at or at).replace(microsecond=0)
    values: dict[str, Any] = {
        "customer": customer.pk,
        "name": named,
        "happened_at": moment,
        "metadata": json.dumps(read_metadata(metadata)),
    }
    if source.is_browser:
        check_name_may_be_added(named, source=source)
    with connection.cursor() as cursor:
        cursor.execute(INSERT_EVENT, values)
        is_new = bool(cursor.rowcount)
        if is_new:
            announce(Topic.EVENT_CREATED, customer=customer, at=at, event=named, happened_at=int(moment.timestamp()))
    return is_new
