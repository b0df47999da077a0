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
from tests.support.launches import blocks_read, launching

pytestmark = pytest.mark.django_db(transaction=True)
OTHERS = 50_000
# A visit reads about 110 blocks, each of the few pages of an index again for each part of the statement.
MOST_BLOCKS = 150


@pytest.fixture
def launch() -> Iterator[None]:
    """A launch that has inserted its records and not committed them; the statistics know of none that wait."""
    with launching(MessageFactory(one_off=True), after=CustomerFactory().pk + 1) as launch:
        launch.insert(OTHERS, status="skipped")
        launch.analyze()
        launch.begin()
        launch.insert(OTHERS)
        launch.analyze()
        yield


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
    assert blocks_read() - before < MOST_BLOCKS


@pytest.mark.parametrize("known", [0, 20], ids=["no statistics", "a small table"])
@pytest.mark.parametrize("cap", [None, 1])
def test_visit_with_an_old_plan_reads_no_records_of_others(cap, known):
    """PostgreSQL plans the statement anew only once the statistics change, and a launch inserts a million records."""
    Workspace.current()
    Workspace.objects.update(cap_messages=cap)
    ann, *others = (CustomerFactory() for _ in range(8))
    with launching(MessageFactory(one_off=True, live=True), after=others[-1].pk) as launch:
        launch.insert(OTHERS)
        launch.analyze()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE delivery_deliveryrecord CASCADE")
        if known:
            launch.insert(known)
            launch.analyze()
        shown = MessageFactory(one_off=True, in_app=True, live=True)
        for other in others:
            visit(other, at=timezone.now())
        launch.insert(OTHERS)
        before = blocks_read()

        assert [one.message for one in visit(ann, at=timezone.now()).shown] == [shown.pk]

        assert blocks_read() - before < MOST_BLOCKS
