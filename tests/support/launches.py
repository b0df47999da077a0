"""Records that a launch inserts at once, and the blocks of the records that this process reads meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connection
from django.db.backends.utils import CursorWrapper

from messaging.models import Message

INSERT = """
INSERT INTO delivery_deliveryrecord (message_id, customer_id, status, reason, due_at, matched_at, detail, attempts,
 provider_id, variables)
SELECT %s, %s + n, %s, %s, now(), now(), '', 0, '', '{}' FROM generate_series(1, %s) AS n
"""
# A session writes its statistics at the end of its transaction, and otherwise up to ten seconds later.
FLUSH = "SELECT pg_stat_force_next_flush()"
# By PostgreSQL's statistics: blocks of the table and of its indexes.
FETCHED = (
    "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit FROM pg_statio_all_tables"
    " WHERE relid = 'delivery_deliveryrecord'::regclass"
)


@dataclass
class Launch:
    """Inserts records of a message, without triggers and customers, over a connection of its own."""

    message: Message
    cursor: CursorWrapper
    # The key of the last customer who has a record.
    last: int

    def insert(self, number: int, *, status: str = "waiting", reason: str = "") -> None:
        self.cursor.execute(INSERT, [self.message.pk, self.last, status, reason, number])
        self.last += number
        self.cursor.execute(FLUSH)

    def analyze(self) -> None:
        self.cursor.execute("ANALYZE delivery_deliveryrecord")
        self.cursor.execute(FLUSH)

    def describe(self, known: int) -> None:
        """Let the statistics be those of a table with this number of records; all records are deleted."""
        self.insert(1_000)
        self.analyze()
        self.cursor.execute("TRUNCATE delivery_deliveryrecord CASCADE")
        if known:
            self.insert(known)
            self.analyze()

    def begin(self) -> None:
        """Insert from now on in one transaction, which is not committed."""
        self.cursor.connection.autocommit = False


@contextmanager
def launching(message: Message, *, after: int) -> Iterator[Launch]:
    """Insert records of customers who do not exist; their keys follow `after`. An open transaction is rolled back."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            # Otherwise the dead records of earlier tests are read, whose messages had the same keys.
            cursor.execute("VACUUM delivery_deliveryrecord")
            # Its reads would count.
            cursor.execute("ALTER TABLE delivery_deliveryrecord SET (autovacuum_enabled = off)")
            cursor.execute("ALTER INDEX record_sent_at SET (autosummarize = off)")
            yield Launch(message, cursor, after)
    finally:
        other.close()
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE delivery_deliveryrecord RESET (autovacuum_enabled)")
            cursor.execute("ALTER INDEX record_sent_at SET (autosummarize = on)")


def blocks_read() -> int:
    """Return how many blocks of records and their indexes were read, but not by transactions that are still open."""
    with connection.cursor() as cursor:
        cursor.execute(FLUSH)
        cursor.execute(FETCHED)
        return cursor.fetchone()[0]
