"""Invariants: statements about the database that must be true at any time.

`manage.py check_invariants` checks them on a live database, and the tests check them after every journey. Each
invariant is one SQL statement and therefore sees one snapshot. Nothing is repaired here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from audiences.models.suppression import flag_is_set_sql, same_address_sql
from delivery.models import UNDONE
from delivery.reporting import counters
from delivery.sending import throttle
from messaging.models import RUNNING

# The sweep runs every minute; a due record may wait until the sweep after a missed one.
SWEEP_GRACE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A statement that returns no row if the invariant holds, and the sentence that reports a returned row."""

    sql: str
    sentence: str


RUNNING_SQL = ", ".join(f"'{state}'" for state in RUNNING)
UNDONE_SQL = ", ".join(f"'{status}'" for status in UNDONE)

INVARIANTS: dict[str, Invariant] = {
    "audience": Invariant(
        sql=(
            "SELECT m.id, m.audience_count, count(r.id) FROM messaging_message m"
            " LEFT JOIN delivery_deliveryrecord r ON r.message_id = m.id"
            " WHERE m.send_type = 'one_off' AND m.to_customer_id IS NULL AND m.went_live_at IS NOT NULL"
            " GROUP BY m.id HAVING m.audience_count IS DISTINCT FROM count(r.id)"
        ),
        sentence="One-off message {} was launched for an audience of {} and has {} records.",
    ),
    "direct message": Invariant(
        sql=(
            "SELECT m.id, count(r.id) FROM messaging_message m LEFT JOIN delivery_deliveryrecord r"
            " ON r.message_id = m.id AND r.customer_id = m.to_customer_id"
            " WHERE m.to_customer_id IS NOT NULL AND m.went_live_at IS NOT NULL GROUP BY m.id HAVING count(r.id) <> 1"
        ),
        sentence="Direct message {} has {} records instead of 1.",
    ),
    "message": Invariant(
        sql=(
            "SELECT r.id, r.message_id FROM delivery_deliveryrecord r LEFT JOIN messaging_message m"
            " ON m.id = r.message_id WHERE m.id IS NULL OR m.went_live_at IS NULL"
        ),
        sentence="Record {} belongs to message {}, which does not exist or was never live.",
    ),
    "version": Invariant(
        sql=(
            "SELECT r.id, r.status FROM delivery_deliveryrecord r LEFT JOIN messaging_messageversion v"
            " ON v.id = r.version_id WHERE r.status IN ('sending', 'uncertain', 'sent')"
            " AND v.message_id IS DISTINCT FROM r.message_id"
        ),
        sentence="Record {} has the status {} but refers to no version of its message.",
    ),
    "company": Invariant(
        sql=(
            "SELECT r.id FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
            " WHERE m.to_customer_id IS NULL AND (m.per_company AND r.company_id IS NULL AND r.status <> 'skipped'"
            " OR NOT m.per_company AND r.company_id IS NOT NULL)"
        ),
        sentence="Record {} has a company although its message is not sent per company, or lacks the company it needs.",
    ),
    "lease": Invariant(
        sql=(
            "SELECT r.id, r.leased_until FROM delivery_deliveryrecord r"
            " WHERE r.status = 'sending' AND r.leased_until < %(now)s::timestamptz - %(sweep)s"
        ),
        sentence="Record {} is still claimed by a worker although its lease expired at {}.",
    ),
    "overdue": Invariant(
        # A message behind a throttle or a long queue is not stuck while the channel sends anything.
        sql=(
            "SELECT r.message_id, count(*), min(r.due_at) FROM delivery_deliveryrecord r"
            " JOIN messaging_message m ON m.id = r.message_id"
            f" WHERE r.status = 'waiting' AND m.state IN ({RUNNING_SQL}) AND m.problem = ''"
            " AND r.due_at < %(now)s::timestamptz - %(sweep)s"
            " AND NOT EXISTS (SELECT FROM delivery_deliveryrecord g JOIN messaging_message n ON n.id = g.message_id"
            " WHERE n.channel = m.channel AND g.sent_at > %(now)s::timestamptz - %(sweep)s)"
            " AND m.channel <> ALL(%(used_up)s::text[])"
            " AND NOT EXISTS (SELECT FROM delivery_pace p WHERE p.channel = m.channel"
            " AND p.per_second IS NOT NULL AND p.next_at > %(now)s::timestamptz - %(sweep)s)"
            " GROUP BY r.message_id"
        ),
        sentence="Message {} has {} records that have been due since {}, and its channel sends nothing.",
    ),
    "stopped": Invariant(
        sql=(
            "SELECT m.id, count(*) FROM messaging_message m JOIN delivery_deliveryrecord r ON r.message_id = m.id"
            " WHERE m.state = 'stopped' AND r.status = 'waiting'"
            " GROUP BY m.id HAVING count(*) > 0 AND max(r.matched_at) < %(now)s::timestamptz - %(sweep)s"
        ),
        sentence="Message {} is stopped, but {} of its records still wait.",
    ),
    "sent": Invariant(
        sql=(
            "SELECT m.id, count(*) FROM messaging_message m JOIN delivery_deliveryrecord r ON r.message_id = m.id"
            f" WHERE m.state = 'sent' AND r.status IN ({UNDONE_SQL}) GROUP BY m.id"
        ),
        sentence="One-off message {} has the state sent, but {} of its records are not finished.",
    ),
    "duplicate address": Invariant(
        sql=(
            "SELECT r.message_id, r.address, count(*) FROM delivery_deliveryrecord r"
            " WHERE r.address IS NOT NULL AND r.status IN ('sending', 'uncertain', 'sent')"
            " GROUP BY r.message_id, r.address, r.company_id HAVING count(*) > 1"
        ),
        sentence="Message {} was sent to {} {} times.",
    ),
    "suppression": Invariant(
        sql=(
            "SELECT c.id, s.reason FROM audiences_suppression s JOIN audiences_customer c"
            f" ON {same_address_sql('c.email', 's.address')}"
            f" WHERE s.lifted_at IS NULL AND NOT {flag_is_set_sql('c')}"
            " AND s.created_at < %(now)s::timestamptz - %(sweep)s"
        ),
        sentence="Customer {} has a suppressed address without the flag for its reason, {}.",
    ),
    "conversation": Invariant(
        sql=(
            "SELECT r.id FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
            " LEFT JOIN delivery_conversation v ON v.record_id = r.id"
            " WHERE m.channel = 'in_app' AND r.status = 'sent' AND v.id IS NULL"
        ),
        sentence="In-app record {} was sent but has no conversation.",
    ),
}


def find_violations(*, at: datetime | None) -> Iterator[str]:
    """Check all invariants and yield a sentence for each violation.

    If `at` is None, the invariants that depend on the current time are skipped.
    """
    used_up = list(throttle.exhausted_channels(at=at)) if at is not None else []
    for invariant in INVARIANTS.values():
        if at is None and "%(now)s" in invariant.sql:
            continue
        with connection.cursor() as cursor:
            facts: dict[str, Any] = {"now": at, "sweep": SWEEP_GRACE, "used_up": used_up}
            cursor.execute(invariant.sql, facts)
            rows = cursor.fetchall()
        for row in rows:
            yield invariant.sentence.format(*row)
    yield from counters.find_differences()
