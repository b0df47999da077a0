"""Locks: advisory locks of rounds, visits, batches and their ends (behaviour 4.9), and the order of row locks.

Row locks (behaviour 4.19): customers, conversations, messages, records; each in primary-key order. A transaction that
waits for a lock takes it before those further down, or takes those with SKIP LOCKED.

Visits and batches share their locks. Pausing a message waits for those in progress: no batch of the message begins
meanwhile, but visits, which are many and concern all messages, are never made to wait. A session lock ends with its
connection, so a killed worker holds up nothing.
"""

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.utils import InterfaceError, OperationalError

from audiences.locks import Lock
from audiences.models import Customer
from audiences.models.suppression import has_address
from delivery.models import Conversation, DeliveryRecord
from messaging.models import RUNNING, Message

log = logging.getLogger(__name__)

# In seconds. A mail server may take minutes to answer; a click does not wait that long.
LOCK_TIMEOUT = 10
LOCK_POLL_INTERVAL = 0.005


@contextmanager
def message_lock(message: Message, kind: Lock, *, lock: str) -> Iterator[bool]:
    """Hold a session lock on a message during the block. Yield False if it is taken."""
    key = [kind, message.pk % 2**31]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_{lock}(%s, %s)", key)
        mine = bool(cursor.fetchone()[0])
    session = connection.connection
    try:
        yield mine
    finally:
        # A lost session has released its locks already.
        if mine and connection.connection is session:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT pg_{lock.replace('lock', 'unlock')}(%s, %s)", key)
            except (OperationalError, InterfaceError):
                connection.close()


@contextmanager
def round_lock(message: Message) -> Iterator[bool]:
    """Hold the lock of a matching round. Yield False if another worker matches this message."""
    with message_lock(message, Lock.ROUND, lock="advisory_lock") as mine:
        yield mine


@contextmanager
def prompt_round_lock() -> Iterator[bool]:
    """Hold the lock of a prompt round during the block. Yield False if another process runs one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [Lock.PROMPT_ROUND])
        mine = bool(cursor.fetchone()[0])
        try:
            yield mine
        finally:
            if mine:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [Lock.PROMPT_ROUND])


@contextmanager
def batch_lock(message: Message) -> Iterator[bool]:
    """Hold the shared lock of a batch. Yield False if the message is being paused."""
    with message_lock(message, Lock.BATCH, lock="advisory_lock_shared") as mine:
        yield mine


def batch_may_continue(message: Message) -> bool:
    """Return whether a batch may go on: the message is live and not being paused."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock_shared(%s, %s) FROM messaging_message WHERE id = %s AND state = ANY(%s)",
            [Lock.PAUSING, message.pk % 2**31, message.pk, list(RUNNING)],
        )
        row = cursor.fetchone()
    return row is not None and bool(row[0])


def block_batches_and_rounds(message: Message) -> None:
    """Wait for batches and the slice of a round in progress. None begins until this transaction ends."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT}s"])
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [Lock.PAUSING, message.pk % 2**31])
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [Lock.BATCH, message.pk % 2**31])
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    except OperationalError as wrong:
        if not isinstance(wrong.__cause__, psycopg.errors.LockNotAvailable):
            raise
        log.warning("message %s: a batch takes more than %s seconds; it may still go out", message.pk, LOCK_TIMEOUT)
    Message.objects.select_for_update(no_key=True).filter(pk=message.pk).first()


def wait_for_visits() -> None:
    """Wait for the visits in progress. Those that begin meanwhile see the committed state."""
    under_way = visits_under_way()
    deadline = time.monotonic() + LOCK_TIMEOUT
    while under_way and time.monotonic() < deadline:
        time.sleep(LOCK_POLL_INTERVAL)
        under_way &= visits_under_way()
    if under_way:
        log.warning("%s visits take more than %s seconds; they may still show something", len(under_way), LOCK_TIMEOUT)


def visits_under_way() -> set[str]:
    """Return the virtual transaction ids of visits, recognised by the lock that they share."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = 0 AND objid = %s AND objsubid = 1 AND pid <> pg_backend_pid()",
            [Lock.VISITS],
        )
        return {transaction for (transaction,) in cursor.fetchall()}


# Rows


def lock_customers_of(
    rows: QuerySet[DeliveryRecord] | QuerySet[Conversation], *, and_addresses: Collection[str] = ()
) -> None:
    """Lock the customers of these rows until the transaction ends. Call it before the rows are locked.

    With addresses, lock all customers who have one of them too.

    While this waits, a merge may move the rows to another customer. It then releases its locks and starts over, so that
    customers are locked in order. Read the rows after this, not before.
    """
    while True:
        mark = transaction.savepoint()
        customers = set(rows.values_list("customer_id", flat=True))
        Customer.objects.filter(Q(pk__in=customers) | has_address(and_addresses)).lock()
        if customers.issuperset(rows.values_list("customer_id", flat=True)):
            transaction.savepoint_commit(mark)
            return
        transaction.savepoint_rollback(mark)


def lock_customers_with_rows(customers: Iterable[int]) -> None:
    """Lock customers, their conversations, their direct messages and their records until the transaction ends."""
    found = Customer.objects.filter(pk__in=customers).lock()
    for rows in (
        Conversation.objects.filter(customer__in=found),
        Message.objects.filter(to_customer__in=found),
        DeliveryRecord.objects.filter(customer__in=found),
    ):
        list(rows.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
