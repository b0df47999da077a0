"""What each message did, read from kept numbers and never by counting its records (`delivery.models.count`)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from audiences.locks import Lock
from delivery.models import Status
from delivery.models.count import COUNTED, TALLIED, count_rows_sql
from messaging.models import Channel, Message

CHANGED = ", ".join(f"coalesce(sum(number) FILTER (WHERE what = '{what}'), 0) AS {what}" for what in COUNTED)
IN_QUARTER = ", ".join(f"coalesce(sum(number) FILTER (WHERE what = '{what}'), 0) AS {what}" for what in TALLIED)
NAMES, TALLY_NAMES = ", ".join(COUNTED), ", ".join(TALLIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one message did: its records by status, and what came of those sent."""

    waiting: int = 0
    sending: int = 0
    uncertain: int = 0
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    withdrawn: int = 0
    opened: int = 0
    clicked: int = 0
    replied: int = 0
    bounced: int = 0
    complained: int = 0
    unsubscribed: int = 0

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(self.of(status) for status in Status)

    def of(self, what: str) -> int:
        """One of the numbers, by name."""
        return int(getattr(self, str(what)))


def rows(sql: str, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Run one statement and return what it answers."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


# Reading


def counts_of(messages: Collection[int]) -> dict[int, Counts]:
    """What each of these messages did, in one statement and so of one moment."""
    found = rows(
        f"SELECT message_id, {', '.join(f'sum({name})::bigint' for name in COUNTED)} FROM ("
        f"SELECT message_id, {NAMES} FROM delivery_count WHERE message_id = ANY(%(pks)s)"
        f" UNION ALL SELECT message_id, {CHANGED} FROM delivery_countchange WHERE message_id = ANY(%(pks)s)"
        " GROUP BY message_id) AS both_kinds GROUP BY message_id",
        {"pks": list(messages)},
    )
    counted = {pk: Counts(**dict(zip(COUNTED, numbers, strict=True))) for pk, *numbers in found}
    return {pk: counted.get(pk, Counts()) for pk in messages}


def people(message: Message, counts: Counts) -> int:
    """How many customers its records are of.

    Once for each customer, that is the number of records (`delivered_once`); once for each company, customers are told
    apart by an index that has them in order.
    """
    if not message.per_company:
        return counts.records
    return int(
        rows(
            "SELECT count(*) FROM (SELECT DISTINCT customer_id FROM delivery_deliveryrecord WHERE message_id = %(pk)s)"
            " AS people",
            {"pk": message.pk},
        )[0][0]
    )


def over_time(message: Message, *, zone: str, step: str = "day") -> list[tuple[datetime, dict[str, int]]]:
    """What it did in each hour, day or week of that zone's clock in which anything happened, oldest first."""
    found = rows(
        f"SELECT date_trunc(%(step)s, quarter AT TIME ZONE %(zone)s) AS began,"
        f" {', '.join(f'sum({name})::bigint' for name in TALLIED)} FROM ("
        f"SELECT quarter, {TALLY_NAMES} FROM delivery_tally WHERE message_id = %(pk)s UNION ALL"
        f" SELECT quarter, {IN_QUARTER} FROM delivery_countchange WHERE message_id = %(pk)s AND quarter IS NOT NULL"
        " GROUP BY quarter) AS both_kinds GROUP BY began ORDER BY began",
        {"pk": message.pk, "zone": zone, "step": step},
    )
    return [(began, dict(zip(TALLIED, numbers, strict=True))) for began, *numbers in found]


def span(message: Message) -> timedelta:
    """How long it has been from the first thing that happened to the last."""
    first, last = rows(
        "SELECT min(quarter), max(quarter) FROM (SELECT quarter FROM delivery_tally WHERE message_id = %(pk)s UNION ALL"
        " SELECT quarter FROM delivery_countchange WHERE message_id = %(pk)s AND quarter IS NOT NULL) AS both_kinds",
        {"pk": message.pk},
    )[0]
    return last - first if first else timedelta()


def sent_by_channel(*, since: datetime, zone: str) -> dict[date, dict[Channel, int]]:
    """How many were sent by each channel on each day of that zone since a moment."""
    found = rows(
        "SELECT (quarter AT TIME ZONE %(zone)s)::date AS day, channel, sum(sent)::bigint FROM ("
        "SELECT message_id, quarter, sent FROM delivery_tally WHERE quarter >= %(since)s UNION ALL"
        " SELECT message_id, quarter, number FROM delivery_countchange WHERE what = 'sent' AND quarter >= %(since)s"
        ") AS both_kinds JOIN messaging_message m ON m.id = message_id GROUP BY day, channel HAVING sum(sent) <> 0",
        {"since": since, "zone": zone},
    )
    days: dict[date, dict[Channel, int]] = {}
    for day, channel, number in found:
        days.setdefault(day, {})[Channel(channel)] = number
    return days


def next_due(messages: Collection[int]) -> dict[int, datetime]:
    """When the first of what waits for a time may go, for those of the messages that have any; one look each."""
    return dict(
        rows(
            "SELECT pk, first.due_at FROM unnest(%(pks)s::bigint[]) AS given(pk) CROSS JOIN LATERAL ("
            "SELECT due_at FROM delivery_deliveryrecord WHERE message_id = pk AND status = 'waiting'"
            " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1) AS first",
            {"pks": list(messages)},
        )
    )


# Keeping


def more(table: str, names: Collection[str]) -> str:
    """SQL that adds what is new to what was kept."""
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in names)


ADD_UP = f"""
WITH gone AS (DELETE FROM delivery_countchange RETURNING message_id, what, quarter, number),
tallied AS (
    INSERT INTO delivery_tally (message_id, quarter, {TALLY_NAMES})
    SELECT message_id, quarter, {IN_QUARTER} FROM gone WHERE quarter IS NOT NULL GROUP BY message_id, quarter
    ON CONFLICT (message_id, quarter) DO UPDATE SET {more("delivery_tally", TALLIED)}
)
INSERT INTO delivery_count (message_id, {NAMES}) SELECT message_id, {CHANGED} FROM gone GROUP BY message_id
ON CONFLICT (message_id) DO UPDATE SET {more("delivery_count", COUNTED)}
"""


def fold() -> None:
    """Fold what changed into the kept numbers, unless somebody does so right now."""
    with transaction.atomic():
        if rows("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": Lock.COUNTS})[0][0]:
            with connection.cursor() as cursor:
                cursor.execute(ADD_UP)


RECOUNT = f"""
LOCK TABLE delivery_deliveryrecord IN SHARE ROW EXCLUSIVE MODE;
DELETE FROM delivery_count; DELETE FROM delivery_tally; DELETE FROM delivery_countchange;
INSERT INTO delivery_countchange (message_id, what, quarter, number)
    SELECT message_id, what, quarter, sum(number)
    FROM ({count_rows_sql("delivery_deliveryrecord", number=1)}) AS records
    GROUP BY message_id, what, quarter;
{ADD_UP}
"""


def recount() -> None:
    """Count all records anew; nobody writes a record meanwhile."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(RECOUNT)


DIFFERENCES = f"""
SELECT message_id, what, coalesce(sum(number) FILTER (WHERE kept), 0)::bigint,
    coalesce(sum(number) FILTER (WHERE NOT kept), 0)::bigint
FROM (
    SELECT c.message_id, each.what, NULL::timestamptz AS quarter, each.number, TRUE AS kept FROM delivery_count c
        CROSS JOIN LATERAL (VALUES {", ".join(f"('{n}', c.{n})" for n in COUNTED)}) AS each(what, number)
    UNION ALL SELECT message_id, what, NULL, number, TRUE FROM delivery_countchange
    UNION ALL SELECT message_id, what, NULL, number, FALSE
        FROM ({count_rows_sql("delivery_deliveryrecord", number=1)}) AS records
    UNION ALL SELECT t.message_id, each.what, t.quarter, each.number, TRUE FROM delivery_tally t
        CROSS JOIN LATERAL (VALUES {", ".join(f"('{n}', t.{n})" for n in TALLIED)}) AS each(what, number)
    UNION ALL SELECT message_id, what, quarter, number, TRUE FROM delivery_countchange WHERE quarter IS NOT NULL
    UNION ALL SELECT message_id, what, quarter, number, FALSE
        FROM ({count_rows_sql("delivery_deliveryrecord", number=1)}) AS records WHERE quarter IS NOT NULL
) AS all_numbers
GROUP BY message_id, what, quarter
HAVING coalesce(sum(number) FILTER (WHERE kept), 0) <> coalesce(sum(number) FILTER (WHERE NOT kept), 0)
ORDER BY message_id, what, quarter
"""


def differences() -> Iterator[str]:
    """Count everything, and say in a sentence each where what is kept is another number; one statement, one moment."""
    for message, what, kept, counted in rows(DIFFERENCES):
        yield f"Message {message}: {kept:,} {what} kept, {counted:,} counted."
