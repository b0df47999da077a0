"""SQL fragments shared by launches, rounds and rechecks."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from psycopg.types.json import Jsonb

from audiences.transactions import without_nested_loops
from delivery.eligibility import conditions
from delivery.models import Reason, Status
from messaging.models import Message

SLICE = 20_000

ANALYZE_THRESHOLD = 50_000

NO_RECORD = (
    "NOT EXISTS (SELECT FROM delivery_deliveryrecord r WHERE r.message_id = %(message)s::bigint"
    " AND r.customer_id = c.id AND r.company_id {company})"
)

# Of a record `r`: it was withdrawn and may wait again.
IS_WITHDRAWN = f"(r.status = '{Status.WITHDRAWN}' AND r.reason <> '{Reason.STOPPED}')"
# Of the left-joined record `r` of a pair: there is none, or it was withdrawn and may wait again.
NEEDS_RECORD = f"(r.id IS NULL OR {IS_WITHDRAWN})"

DUE = "coalesce((%(openings)s::jsonb ->> c.timezone)::timestamptz, %(opening)s::timestamptz)"

INSERT = (
    "INSERT INTO delivery_deliveryrecord (message_id, customer_id, company_id, status, reason, due_at, matched_at,"
    " judged_last_seen_at, judged_company_last_seen_at, judged_values, detail, attempts, provider_id, variables)"
)

COLUMN_DEFAULTS = "'', 0, '', '{}'::jsonb"

WHERE_IN_SLICE = "WHERE place > %(start)s AND place <= %(end)s ORDER BY place ON CONFLICT DO NOTHING"

Progress = Callable[[int], object]

# Called around each slice of a launch with the number inserted and the total. An exception cancels the launch.
SliceProgress = Callable[[int, int], object]


def no_progress(*_counts: int) -> None:
    """Show no progress."""


def execute(sql: str, params: dict[str, Any]) -> int:
    """Run one statement and return how many rows it affected."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.rowcount


def store_matches(
    pairs: str, params: dict[str, Any], *, planned: "Callable[[], AbstractContextManager[None]] | None" = None
) -> int:
    """Store the matching pairs in a temporary table `matched`, numbered in customer order. Return how many.

    `planned` steers the planner; by default it is that of a full match.
    """
    with transaction.atomic(), (planned or without_nested_loops)():
        found = execute(
            "CREATE TEMPORARY TABLE matched AS"
            " SELECT row_number() OVER (ORDER BY customer_id, company_id) AS place, * FROM"
            f" ({pairs}) AS pairs ORDER BY place",
            params,
        )
        if found > SLICE:
            execute("CREATE INDEX ON matched USING brin (place) WITH (pages_per_range = 8)", {})
    return found


def waiting_reason(due: str = "due_at") -> str:
    """Return SQL for why a matched record waits: queued, or the window."""
    return f"CASE WHEN {due} > %(now)s THEN '{Reason.WINDOW}' ELSE '{Reason.QUEUED}' END"


def no_record(per_company: bool) -> str:  # noqa: FBT001 - a fact of the message, not a mode
    """Return SQL that leaves out pairs that have a record, in a form that the planner can estimate."""
    return NO_RECORD.format(company="IS NOT DISTINCT FROM k.id" if per_company else "IS NULL")


def exclude_without_company(per_company: bool) -> str:  # noqa: FBT001 - a fact of the message, not a mode
    """Return SQL that leaves out customers without a company if the message goes once per company."""
    return " AND k.id IS NOT NULL" if per_company else ""


def analyze_after(made: int) -> None:
    """Update the planner's statistics after a large launch is committed."""
    if made >= ANALYZE_THRESHOLD:
        transaction.on_commit(lambda: execute("ANALYZE delivery_deliveryrecord", {}))


def round_params(message: Message, *, at: datetime) -> dict[str, Any]:
    """Return the parameters of a round's statements, besides those of the rules."""
    opening, by_zone = conditions.next_openings(message, at=at)
    return {"now": at, "message": message.pk, "opening": opening, "openings": Jsonb(by_zone)}
