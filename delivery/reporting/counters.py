"""Figures of each message, read from stored counters and never by counting its records (`delivery.models.count`)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction

from audiences.locks import Lock
from delivery.models import Status
from delivery.models.count import COUNTED, TALLIED, count_rows_sql
from messaging.models import Channel, Message

SUM_COUNTED = ", ".join(f"coalesce(sum(number) FILTER (WHERE what = '{what}'), 0) AS {what}" for what in COUNTED)
SUM_TALLIED = ", ".join(f"coalesce(sum(number) FILTER (WHERE what = '{what}'), 0) AS {what}" for what in TALLIED)
COUNT_COLUMNS, TALLY_COLUMNS = ", ".join(COUNTED), ", ".join(TALLIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Figures of one message: its records by status, and the outcomes of the sent ones."""

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
    hard_bounced: int = 0
    complained: int = 0
    unsubscribed: int = 0

    @property
    def records(self) -> int:
        return sum(self.value_of(status) for status in Status)

    def value_of(self, name: str) -> int:
        return int(getattr(self, str(name)))


def fetch_rows(sql: str, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def counts_of(messages: Collection[int]) -> dict[int, Counts]:
    """Return the figures of each of these messages, from one statement and so of one moment."""
    found = fetch_rows(
        f"SELECT message_id, {', '.join(f'sum({name})::bigint' for name in COUNTED)} FROM ("
        f"SELECT message_id, {COUNT_COLUMNS} FROM delivery_count WHERE message_id = ANY(%(pks)s)"
        f" UNION ALL SELECT message_id, {SUM_COUNTED} FROM delivery_countchange WHERE message_id = ANY(%(pks)s)"
        " GROUP BY message_id) AS both_kinds GROUP BY message_id",
        {"pks": list(messages)},
    )
    counted = {pk: Counts(**dict(zip(COUNTED, numbers, strict=True))) for pk, *numbers in found}
    return {pk: counted.get(pk, Counts()) for pk in messages}


def customer_count(message: Message, counts: Counts) -> int:
    """Return the number of customers with a record of this message.

    That is the number of records (`delivered_once`), unless the message is sent once per company; then an ordered index
    provides the distinct customers.
    """
    if not message.per_company:
        return counts.records
    return message.records.order_by().values("customer").distinct().count()


def counts_over_time(message: Message, *, zone: str, step: str = "day") -> list[tuple[datetime, dict[str, int]]]:
    """Return the figures of each hour, day or week (in the zone's local time) with any activity, oldest first."""
    found = fetch_rows(
        f"SELECT date_trunc(%(step)s, quarter AT TIME ZONE %(zone)s) AS began,"
        f" {', '.join(f'sum({name})::bigint' for name in TALLIED)} FROM ("
        f"SELECT quarter, {TALLY_COLUMNS} FROM delivery_tally WHERE message_id = %(pk)s UNION ALL"
        f" SELECT quarter, {SUM_TALLIED} FROM delivery_countchange WHERE message_id = %(pk)s AND quarter IS NOT NULL"
        " GROUP BY quarter) AS both_kinds GROUP BY began ORDER BY began",
        {"pk": message.pk, "zone": zone, "step": step},
    )
    return [(began, dict(zip(TALLIED, numbers, strict=True))) for began, *numbers in found]


def activity_period(message: Message) -> tuple[datetime, datetime] | None:
    """Return the quarters of an hour with the first and the last activity; None if there is none.

    One statement, so that a fold of changes meanwhile is seen fully or not at all.
    """
    first, last = fetch_rows(
        "SELECT min(quarter), max(quarter) FROM (SELECT quarter FROM delivery_tally WHERE message_id = %(pk)s UNION ALL"
        " SELECT quarter FROM delivery_countchange WHERE message_id = %(pk)s AND quarter IS NOT NULL) AS both_kinds",
        {"pk": message.pk},
    )[0]
    return (first, last) if first else None


def sent_by_channel(*, since: datetime, zone: str) -> dict[date, dict[Channel, int]]:
    """Return the number of sent messages by day (in the zone's local time) and channel."""
    found = fetch_rows(
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
    """Return the earliest `due_at` of the waiting records of each message that has any; one index lookup each."""
    # The ORM's subquery per message takes 7 ms for 5 messages with 20,000 waiting records each, this 0.4 ms.
    return dict(
        fetch_rows(
            "SELECT pk, first.due_at FROM unnest(%(pks)s::bigint[]) AS given(pk) CROSS JOIN LATERAL ("
            "SELECT due_at FROM delivery_deliveryrecord WHERE message_id = pk AND status = 'waiting'"
            " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1) AS first",
            {"pks": list(messages)},
        )
    )


def add_to_columns(table: str, names: Collection[str]) -> str:
    """Return the SQL of an upsert that adds to the stored numbers."""
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in names)


FOLD_CHANGES = f"""
WITH gone AS (DELETE FROM delivery_countchange RETURNING message_id, what, quarter, number),
tallied AS (
    INSERT INTO delivery_tally (message_id, quarter, {TALLY_COLUMNS})
    SELECT message_id, quarter, {SUM_TALLIED} FROM gone WHERE quarter IS NOT NULL GROUP BY message_id, quarter
    ON CONFLICT (message_id, quarter) DO UPDATE SET {add_to_columns("delivery_tally", TALLIED)}
)
INSERT INTO delivery_count (message_id, {COUNT_COLUMNS}) SELECT message_id, {SUM_COUNTED} FROM gone GROUP BY message_id
ON CONFLICT (message_id) DO UPDATE SET {add_to_columns("delivery_count", COUNTED)}
"""


def fold_changes() -> None:
    """Fold the pending changes into the stored counters, unless another worker is doing so."""
    with transaction.atomic():
        if fetch_rows("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": Lock.COUNTS})[0][0]:
            with connection.cursor() as cursor:
                cursor.execute(FOLD_CHANGES)


RECOUNT = f"""
LOCK TABLE delivery_deliveryrecord IN SHARE ROW EXCLUSIVE MODE;
DELETE FROM delivery_count; DELETE FROM delivery_tally; DELETE FROM delivery_countchange;
INSERT INTO delivery_countchange (message_id, what, quarter, number)
    SELECT message_id, what, quarter, sum(number)
    FROM ({count_rows_sql("delivery_deliveryrecord", number=1)}) AS records
    GROUP BY message_id, what, quarter;
{FOLD_CHANGES}
"""


def recount_all() -> None:
    """Count all records again; writes to records wait meanwhile."""
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


def find_differences() -> Iterator[str]:
    """Yield a sentence for each stored counter that differs from the real count, from one statement."""
    for message, what, kept, counted in fetch_rows(DIFFERENCES):
        yield f"Message {message}: {kept:,} {what} stored, {counted:,} counted."
