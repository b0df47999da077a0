"""What the statement of a visit reads."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.utils import timezone

from audiences.models import Workspace
from delivery.api.messenger import conversations
from delivery.models import DeliveryRecord
from delivery.visits.visit import visit
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db(transaction=True)
OTHERS = 50_000
LIMIT = 150
INSERT = """
INSERT INTO delivery_deliveryrecord (message_id, customer_id, status, reason, due_at, matched_at, detail, attempts,
 provider_id, variables)
SELECT %s, %s + n, %s, '', now(), now(), '', 0, '', '{}' FROM generate_series(1, %s) AS n
"""
# By PostgreSQL's statistics, once it has written those of this session: blocks of the table and of its indexes.
FETCHED = (
    "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit FROM pg_statio_all_tables"
    " WHERE relid = 'delivery_deliveryrecord'::regclass"
)


@pytest.fixture
def launch() -> Iterator[None]:
    """A launch that has inserted its records and not committed them; the statistics know of none that wait."""
    message, first = MessageFactory(one_off=True), CustomerFactory().pk
    other = connection.copy()
    with other.cursor() as cursor:
        # Neither triggers nor foreign keys.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(INSERT, [message.pk, first, "skipped", OTHERS])
        cursor.execute("ANALYZE delivery_deliveryrecord")
        other.set_autocommit(False)
        cursor.execute(INSERT, [message.pk, first + OTHERS, "waiting", OTHERS])
        cursor.execute("ANALYZE delivery_deliveryrecord")
    yield
    other.rollback()
    other.close()


def blocks_read() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(FETCHED)
        return cursor.fetchone()[0]


@pytest.mark.parametrize("cap", [None, 1])
@pytest.mark.usefixtures("launch")
def test_visit_during_a_launch_reads_no_records_of_others(cap):
    ann, now = CustomerFactory(), timezone.now()
    Workspace.current()
    Workspace.objects.update(cap_messages=cap)
    shown = MessageFactory(one_off=True, in_app=True, live=True)
    before = blocks_read()

    assert not conversations.is_expected(ann)
    assert [one.message for one in visit(ann, at=now).shown] == [shown.pk]

    assert DeliveryRecord.objects.filter(customer=ann, status="sent").count() == 1
    assert blocks_read() - before < LIMIT


@pytest.mark.parametrize("known", [0, 20], ids=["no statistics", "a small table"])
@pytest.mark.parametrize("cap", [None, 1])
def test_visit_with_an_old_plan_reads_no_records_of_others(cap, known):
    """PostgreSQL plans the statement anew only once the statistics change, and a launch inserts a million records."""
    Workspace.current()
    Workspace.objects.update(cap_messages=cap)
    ann, *others = (CustomerFactory() for _ in range(8))
    launched = MessageFactory(one_off=True, live=True)
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(INSERT, [launched.pk, ann.pk + 8, "waiting", OTHERS])
        cursor.execute("ANALYZE delivery_deliveryrecord")
        cursor.execute("TRUNCATE delivery_deliveryrecord CASCADE")
        if known:
            cursor.execute(INSERT, [launched.pk, ann.pk + 8 + OTHERS, "waiting", known])
            cursor.execute("ANALYZE delivery_deliveryrecord")
        shown = MessageFactory(one_off=True, in_app=True, live=True)
        for one in others:
            visit(one, at=timezone.now())
        cursor.execute(INSERT, [launched.pk, ann.pk + 8, "waiting", OTHERS])
    other.close()
    before = blocks_read()

    assert [one.message for one in visit(ann, at=timezone.now()).shown] == [shown.pk]

    assert blocks_read() - before < LIMIT
