"""What the statements of a worker read during a launch, whose records the statistics do not count yet."""

from collections.abc import Iterator

import pytest
from django.utils import timezone

from audiences import transactions
from delivery.channels import CHANNELS, Envelope
from delivery.maintenance.sweep import withdraw_rest_of_stopped
from delivery.matching.lifecycle import finish_one_offs, stop
from delivery.matching.recheck import recheck_due
from delivery.sending.batch import messages_due
from delivery.sending.dispatcher import Dispatcher
from messaging.models import Channel
from tests.factories import CustomerFactory, MessageFactory
from tests.support.launches import blocks_read, launching
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db(transaction=True)
BATCH = 5


class Silent:
    def send(self, _envelope: Envelope) -> str:
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def sender(settings, monkeypatch) -> Iterator[Dispatcher]:
    settings.IN_FLIGHT = BATCH
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Silent)
    sender = Dispatcher(clock=timezone.now)
    yield sender
    sender.close()


@pytest.mark.parametrize("known", [0, 20], ids=["an empty table", "a small table"])
def test_batch_reads_no_records_of_others_once_its_plans_are_discarded(sender, monkeypatch, known):
    """PostgreSQL plans the statements anew only once the statistics change, and a launch inserts a million records."""
    people = [CustomerFactory(email=f"{number}@x.example") for number in range(10 * BATCH)]

    def blocks_of_a_batch() -> int:
        read = blocks_read()
        assert sender.claim(message)
        while sender.batches:
            sender.step()
        return blocks_read() - read

    with launching(MessageFactory(one_off=True), after=people[-1].pk) as launch:
        launch.describe(known)
        message = MessageFactory(one_off=True, live=True)
        usual = [blocks_of_a_batch() for _ in range(7)][-1]
        # Committed: the planner reads up to 100 blocks for the end of an index that a launch is still filling.
        launch.insert(50_000)
        monkeypatch.setattr(transactions, "PLANS_LAST", 0)

        assert blocks_of_a_batch() < 3 * usual

    assert message.records.filter(status="sent").count() == 8 * BATCH


@pytest.mark.parametrize("is_committed", [False, True], ids=["during the launch", "after the launch"])
def test_search_for_due_finished_and_stopped_messages_does_not_read_the_records_of_a_launch(is_committed):
    """Each worker searches every two seconds, and in the same thread it matches what has just changed."""
    known = CustomerFactory(email="ada@x.example")
    due, done = MessageFactory(one_off=True, live=True), MessageFactory(one_off=True, live=True)
    mark_records_sent(done.records.all(), at=timezone.now())
    for _ in range(20):
        MessageFactory(live=True)
        stop(MessageFactory(live=True))
    with launching(MessageFactory(one_off=True), after=known.pk) as launch:
        launch.cursor.execute("ANALYZE messaging_message")
        launch.insert(20_000, status="skipped")
        launch.analyze()
        launch.begin()
        launch.insert(50_000)
        if is_committed:
            launch.cursor.connection.commit()
        read = blocks_read()
        assert messages_due(at=timezone.now()) == [due]
        assert finish_one_offs() == 1
        withdraw_rest_of_stopped()

        assert blocks_read() - read < 400
    done.refresh_from_db()
    assert done.state == "sent"


def test_recheck_of_an_ongoing_message_does_not_read_the_records_that_wait_for_a_worker():
    """Workers recheck each ongoing message every two seconds; a million of its records may be due."""
    known = CustomerFactory(email="ada@x.example")
    message = MessageFactory(live=True)
    with launching(message, after=known.pk) as launch:
        launch.insert(5_000)
        launch.insert(1, reason="window")
        launch.analyze()
        launch.insert(50_000)
        read = blocks_read()

        assert recheck_due(message, at=timezone.now()) == 1

        assert blocks_read() - read < 100
