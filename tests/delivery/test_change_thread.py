"""The change thread of a worker matches a changed customer within seconds."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db.models import F
from django.utils import timezone

from audiences.models import Customer
from delivery import change_thread, tasks
from delivery.conversations import threads
from delivery.matching import ongoing, rounds
from delivery.models import AnswerMail, ChannelOutage, ConnectionShare, DeliveryRecord, Pace
from delivery.monitoring import health
from delivery.sending import connections
from messaging.models import Channel, Checking, Message
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db(transaction=True)

# In seconds; a busy machine needs longer than the two of the aim.
MATCHED_WITHIN = 30


def test_changed_customer_gets_a_record_and_a_nudge_to_send_it(monkeypatch):
    nudged, ended = threading.Event(), threading.Event()
    monkeypatch.setattr(tasks, "enqueue_dispatch", nudged.set)
    ada = CustomerFactory(email="a@x.example", name="Ada")
    rules = [rule("name", "is", "Eve")]
    message = MessageFactory(live=True, at=timezone.now(), rules=rules, checking=Checking.AT_ONCE)
    rounds.run_round(at=timezone.now())
    thread = threading.Thread(target=change_thread.watch, kwargs={"until": ended})
    thread.start()
    try:
        Customer.objects.filter(pk=ada.pk).update(name="Eve")
        assert nudged.wait(MATCHED_WITHIN)
    finally:
        ended.set()
        thread.join(timeout=20)

    assert message.records.get().customer == ada


@pytest.fixture
def due(monkeypatch) -> Message:
    """A message that has been due for a while."""
    at = timezone.now() - timedelta(minutes=1)
    CustomerFactory(email="a@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)
    return message


@pytest.fixture
def nudged_at(monkeypatch) -> Callable[[int], list[int]]:
    """Look each second for so many seconds, and return in which of them the dispatcher was nudged."""
    clock, found = SimpleNamespace(second=0), []
    monkeypatch.setattr(change_thread, "time", SimpleNamespace(monotonic=lambda: clock.second))
    monkeypatch.setattr(tasks, "enqueue_dispatch", lambda: found.append(clock.second))

    def look(seconds: int) -> list[int]:
        found.clear()
        watch = change_thread.SendingWatch()
        for clock.second in range(seconds):
            watch.look()
        return list(found)

    return look


def test_due_message_that_no_worker_sends_is_nudged_until_one_does_less_and_less_often(due, nudged_at):
    assert nudged_at(40) == [0, 2, 6, 14, 30]

    connections.renew_share(Channel.EMAIL, holder=uuid4(), in_use=1, is_answered=True, is_refused=False)
    assert nudged_at(1) == []


def test_dispatcher_that_stopped_renewing_its_share_counts_as_gone_within_3_seconds(due, nudged_at):
    connections.renew_share(Channel.EMAIL, holder=uuid4(), in_use=1, is_answered=True, is_refused=False)
    assert connections.channels_at_work() == {Channel.EMAIL}
    ConnectionShare.objects.update(until=F("until") - timedelta(seconds=3))

    assert connections.channels_at_work() == set()
    assert nudged_at(1) == [0]


def test_nobody_is_nudged_for_records_that_cannot_be_sent_now(due, nudged_at):
    at = timezone.now()
    ChannelOutage.record_refusal(Channel.EMAIL, why="Down.", at=at)
    assert nudged_at(1) == []

    ChannelOutage.objects.all().delete()
    used_up = {"warm_up": [1], "warm_up_from": at.date(), "day": at.date(), "taken_today": 1}
    Pace.objects.create(channel=Channel.EMAIL, **used_up)
    assert nudged_at(1) == []

    Pace.objects.all().delete()
    DeliveryRecord.objects.update(due_at=at + timedelta(minutes=1))
    assert nudged_at(1) == []
    DeliveryRecord.objects.update(due_at=at - timedelta(minutes=1))
    assert nudged_at(1) == [0]


def test_due_answer_email_that_no_worker_sends_is_nudged(monkeypatch):
    at, nudged = timezone.now() - timedelta(minutes=1), []
    monkeypatch.setattr(tasks, "enqueue_answer_emails", lambda: nudged.append("answers"))
    thread = threads.open_by_customer(CustomerFactory(email="ann@x.example"), body="Hi", at=at)
    AnswerMail.objects.create(part=thread.parts.create(body="Hello", created_at=at), due_at=at)
    change_thread.SendingWatch().look()
    assert nudged == ["answers"]

    connections.renew_share(
        Channel.EMAIL, holder=uuid4(), in_use=0, is_answered=False, is_refused=False, is_urgent=True
    )
    change_thread.SendingWatch().look()
    assert nudged == ["answers"]


def test_sweep_that_is_late_is_queued_by_a_worker(monkeypatch):
    """Tasks of a beat whose clock is ten minutes behind have expired when a worker takes them."""
    queued = []
    monkeypatch.setattr(tasks, "enqueue_sweep", lambda: queued.append("sweep"))
    health.record_sweep(at=timezone.now() - timedelta(minutes=1))
    change_thread.SendingWatch().look()
    assert queued == []

    health.record_sweep(at=timezone.now() - timedelta(minutes=4))
    change_thread.SendingWatch().look()
    assert queued == ["sweep"]


def test_thread_looks_seldom_without_such_a_message_and_goes_on_after_an_error(monkeypatch):
    CustomerFactory(email="a@x.example")
    assert change_thread.match_changes() == change_thread.IDLE_INTERVAL
    MessageFactory(live=True, at=timezone.now(), checking=Checking.AT_ONCE)
    rounds.run_round(at=timezone.now())
    assert change_thread.match_changes() == change_thread.BUSY_INTERVAL

    ended, looks = threading.Event(), []

    def look() -> timedelta:
        looks.append(time.monotonic())
        if len(looks) == 1:
            raise RuntimeError("The database is away.")
        ended.set()
        return change_thread.BUSY_INTERVAL

    monkeypatch.setattr(change_thread, "match_changes", look)
    monkeypatch.setattr(change_thread, "IDLE_INTERVAL", timedelta(seconds=0.01))
    thread = threading.Thread(target=change_thread.watch, kwargs={"until": ended})
    thread.start()
    thread.join(timeout=20)

    assert (thread.is_alive(), len(looks)) == (False, 2)
