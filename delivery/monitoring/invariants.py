"""What must always be true of the records, asked of a live database: `manage.py audit`, and after every journey.

Each question is one statement, and so of one moment; what it finds is said in a sentence. Nothing is repaired here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from delivery.models import UNDONE
from delivery.reporting import counters
from delivery.sending import throttle
from messaging.models import RUNNING

# How long what is due may lie: the sweep comes every minute, and may be late once.
A_SWEEP = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A statement that finds nothing where all is well, and the sentence that says what it found."""

    sql: str
    sentence: str


RUNNING_SQL = ", ".join(f"'{state}'" for state in RUNNING)
UNDONE_SQL = ", ".join(f"'{status}'" for status in UNDONE)

QUESTIONS: dict[str, Question] = {
    "audience": Question(
        sql=(
            "SELECT m.id, m.audience_count, count(r.id) FROM messaging_message m"
            " LEFT JOIN delivery_deliveryrecord r ON r.message_id = m.id"
            " WHERE m.send_type = 'one_off' AND m.to_customer_id IS NULL AND m.went_live_at IS NOT NULL"
            " GROUP BY m.id HAVING m.audience_count IS DISTINCT FROM count(r.id)"
        ),
        sentence="One-off {} was frozen for {} and has {} records.",
    ),
    "one person": Question(
        sql=(
            "SELECT m.id, count(r.id) FROM messaging_message m LEFT JOIN delivery_deliveryrecord r"
            " ON r.message_id = m.id AND r.customer_id = m.to_customer_id"
            " WHERE m.to_customer_id IS NOT NULL AND m.went_live_at IS NOT NULL GROUP BY m.id HAVING count(r.id) <> 1"
        ),
        sentence="Message {} to one person has {} records.",
    ),
    "its message": Question(
        sql=(
            "SELECT r.id, r.message_id FROM delivery_deliveryrecord r LEFT JOIN messaging_message m"
            " ON m.id = r.message_id WHERE m.id IS NULL OR m.went_live_at IS NULL"
        ),
        sentence="Record {} is of message {}, which is not there or was never live.",
    ),
    "its version": Question(
        sql=(
            "SELECT r.id, r.status FROM delivery_deliveryrecord r LEFT JOIN messaging_messageversion v"
            " ON v.id = r.version_id WHERE r.status IN ('sending', 'uncertain', 'sent')"
            " AND v.message_id IS DISTINCT FROM r.message_id"
        ),
        sentence="Record {} is {}, and of no version of its message.",
    ),
    "its company": Question(
        sql=(
            "SELECT r.id FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
            " WHERE m.to_customer_id IS NULL AND (m.per_company AND r.company_id IS NULL AND r.status <> 'skipped'"
            " OR NOT m.per_company AND r.company_id IS NOT NULL)"
        ),
        sentence="Record {} has a company where its message has none, or none where it goes once for each.",
    ),
    "in one hand": Question(
        sql=(
            "SELECT r.id, r.leased_until FROM delivery_deliveryrecord r"
            " WHERE r.status = 'sending' AND r.leased_until < %(now)s::timestamptz - %(sweep)s"
        ),
        sentence="Record {} has been in a worker's hands since its lease ended at {}.",
    ),
    "due": Question(
        # What has a channel's pace or a long line before it is not stuck as long as anything goes.
        sql=(
            "SELECT r.message_id, count(*), min(r.due_at) FROM delivery_deliveryrecord r"
            " JOIN messaging_message m ON m.id = r.message_id"
            f" WHERE r.status = 'waiting' AND m.state IN ({RUNNING_SQL}) AND m.trouble = ''"
            " AND r.due_at < %(now)s::timestamptz - %(sweep)s"
            " AND NOT EXISTS (SELECT FROM delivery_deliveryrecord g JOIN messaging_message n ON n.id = g.message_id"
            " WHERE n.channel = m.channel AND g.sent_at > %(now)s::timestamptz - %(sweep)s)"
            " AND m.channel <> ALL(%(used_up)s::text[])"
            " AND NOT EXISTS (SELECT FROM delivery_pace p WHERE p.channel = m.channel"
            " AND p.per_second IS NOT NULL AND p.next_at > %(now)s::timestamptz - %(sweep)s)"
            " GROUP BY r.message_id"
        ),
        sentence="Of message {}, {} records have been due since {}, and nothing is handed over.",
    ),
    "stopped": Question(
        sql=(
            "SELECT m.id, count(*) FROM messaging_message m JOIN delivery_deliveryrecord r ON r.message_id = m.id"
            " WHERE m.state = 'stopped' AND r.status = 'waiting'"
            " GROUP BY m.id HAVING count(*) > 0 AND max(r.matched_at) < %(now)s::timestamptz - %(sweep)s"
        ),
        sentence="Message {} was stopped, and {} of its records still wait.",
    ),
    "sent": Question(
        sql=(
            "SELECT m.id, count(*) FROM messaging_message m JOIN delivery_deliveryrecord r ON r.message_id = m.id"
            f" WHERE m.state = 'sent' AND r.status IN ({UNDONE_SQL}) GROUP BY m.id"
        ),
        sentence="One-off {} counts as sent, and {} of its records are not done.",
    ),
    "one inbox": Question(
        sql=(
            "SELECT r.message_id, r.inbox, count(*) FROM delivery_deliveryrecord r"
            " WHERE r.inbox IS NOT NULL AND r.status IN ('sending', 'uncertain', 'sent')"
            " GROUP BY r.message_id, r.inbox, r.company_id HAVING count(*) > 1"
        ),
        sentence="Message {} went to {} {} times.",
    ),
    "conversation": Question(
        sql=(
            "SELECT r.id FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
            " LEFT JOIN delivery_conversation v ON v.record_id = r.id"
            " WHERE m.channel = 'in_app' AND r.status = 'sent' AND v.id IS NULL"
        ),
        sentence="In-app record {} was sent, and began no conversation.",
    ),
}


def findings(*, at: datetime | None) -> Iterator[str]:
    """Ask everything, a sentence for each thing that is not as it must be; `at` None asks nothing about time."""
    used_up = list(throttle.used_up(at=at)) if at is not None else []
    for question in QUESTIONS.values():
        if at is None and "%(now)s" in question.sql:
            continue
        with connection.cursor() as cursor:
            facts: dict[str, Any] = {"now": at, "sweep": A_SWEEP, "used_up": used_up}
            cursor.execute(question.sql, facts)
            rows = cursor.fetchall()
        for row in rows:
            yield question.sentence.format(*row)
    yield from counters.find_differences()
