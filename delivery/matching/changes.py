"""Candidates of a round: customers with relevant changes since the last round, or whose dates crossed a boundary.

They are stored in a temporary table, which `hits` judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from audiences import change_log
from audiences.change_log import BIT, OF_COMPANY
from audiences.compiler import Condition
from audiences.customer_counts import estimate_customer_count
from delivery.eligibility.live_messages import Live
from delivery.matching import sql
from delivery.matching.dependencies import Dependencies, probes
from delivery.models import MatchState

CANDIDATES, HITS = "matching_candidates", "matching_hits"
# The share of all customers above which a round judges everyone, and a number that is never too many.
LARGE_SHARE, SMALL_NUMBER = 0.05, 1_000


@dataclass(frozen=True, slots=True)
class Followed:
    """A message that a round matches by changes."""

    live: Live
    # The rules of a round, which also judge logins.
    condition: Condition
    dependencies: Dependencies
    # Up to where the log and the boundaries were read.
    horizon: int
    at: datetime


def entry_selects(asked: int, messages: Sequence[int]) -> list[str]:
    """Return SELECTs of the customers in the entries of the log, as far as some message asks for them."""
    archived, counted, record = BIT["archived_at"], BIT["company.user_count"], BIT["record"]
    found = ["SELECT customer_id, bits, at, at AS first_at, xid FROM entries WHERE customer_id IS NOT NULL"]
    if of_company := asked & OF_COMPANY:
        found.append(
            "SELECT m.customer_id, e.bits, e.at, e.first_at, e.xid FROM (SELECT company_id, max(at) AS at,"
            f" min(at) AS first_at, min(xid) AS xid, bit_or(bits) & {of_company}::bigint AS bits"
            f" FROM entries WHERE company_id IS NOT NULL AND bits & {of_company}::bigint <> 0 GROUP BY company_id) AS e"
            " JOIN audiences_membership m ON m.company_id = e.company_id"
        )
    if asked & counted:
        # The number of users counts customers who are not archived.
        found.append(
            f"SELECT m.customer_id, {counted}::bigint, e.at, e.at, e.xid FROM entries e"
            " JOIN audiences_membership o ON o.customer_id = e.customer_id"
            " JOIN audiences_membership m ON m.company_id = o.company_id"
            f" WHERE e.bits & {archived}::bigint <> 0"
        )
    if messages:
        found.append(
            f"SELECT r.customer_id, {record}::bigint, e.at, e.at, e.xid FROM entries e JOIN delivery_deliveryrecord r"
            " ON r.id BETWEEN e.first_record AND e.last_record AND r.message_id = e.message_id"
            " WHERE e.message_id = ANY(%(messages)s::bigint[])"
        )
    return found


def store_candidates(followed: Sequence[Followed], *, at: datetime | None) -> int:
    """Store the candidates of some messages with their bits in a temporary table; return how many there are.

    They are the customers in the log, and those for whom a boundary was crossed until `at`, if it is given.
    """
    asked = 0
    for one in followed:
        asked |= one.dependencies.bits
    messages = sorted({pk for one in followed for pk in one.dependencies.messages})
    selects = entry_selects(asked, messages)
    params: dict[str, Any] = {"horizon": min(one.horizon for one in followed), "messages": messages}
    if at is not None:
        # A clock may have been set back, so that `at` is before the last round.
        moments = [at, *(one.at for one in followed)]
        boundaries = {boundary for one in followed for boundary in one.dependencies.boundaries}
        crossed, values = probes(boundaries, since=min(moments), until=max(moments))
        selects += crossed
        params |= values
    statement = (
        f"CREATE TEMPORARY TABLE {CANDIDATES} AS"
        f" WITH entries AS MATERIALIZED (SELECT * FROM {change_log.TABLE} WHERE xid >= %(horizon)s::bigint)"
        " SELECT customer_id, bit_or(bits) AS bits, max(at) AS changed_at, min(first_at) AS first_at,"
        " min(xid) AS first_xid"
        f" FROM ({' UNION ALL '.join(selects)}) AS changed GROUP BY customer_id"
        f" HAVING bit_or(bits) & {asked}::bigint <> 0"
    )
    with transaction.atomic():
        drop_tables()
        # A sequential scan would make a round grow with the number of customers; it remains possible.
        sql.execute("SET LOCAL jit = off; SET LOCAL enable_seqscan = off", {})
        found = sql.execute(statement, params)
        sql.execute("SET LOCAL jit TO DEFAULT; SET LOCAL enable_seqscan TO DEFAULT", {})
        if found:
            sql.execute(f"ANALYZE {CANDIDATES}", {})
    return found


def drop_unquiet_candidates(*, quiet: timedelta, at_most: timedelta) -> int | None:
    """Drop the candidates who changed within this time. Return the first transaction that they need to be read again.

    Their later changes may belong together with the earlier ones. They wait `at_most` so long after the first change.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH dropped AS (DELETE FROM {CANDIDATES}"
            " WHERE changed_at > clock_timestamp() - make_interval(secs => %s)"
            " AND first_at > clock_timestamp() - make_interval(secs => %s) RETURNING first_xid)"
            " SELECT min(first_xid) FROM dropped",
            [quiet.total_seconds(), at_most.total_seconds()],
        )
        first = cursor.fetchone()[0]
        return None if first is None else int(first)


def is_large_share(found: int) -> bool:
    """Return whether so many of the customers are candidates that judging everyone is quicker."""
    return found > SMALL_NUMBER and found > estimate_customer_count() * LARGE_SHARE


def drop_tables() -> None:
    sql.execute(f"DROP TABLE IF EXISTS {CANDIDATES}, {HITS}", {})


def truncate_log(*, horizon: int | None) -> None:
    """Truncate the slots whose entries every live message has read; all past slots if `horizon` is None.

    A state that needs a truncated entry is deleted in the same transaction.
    """
    for slot in change_log.truncatable_slots():
        with transaction.atomic():
            if change_log.truncate_slot(slot, below=horizon):
                states = MatchState.objects.all()
                (states if horizon is None else states.filter(horizon__lt=horizon)).delete()
