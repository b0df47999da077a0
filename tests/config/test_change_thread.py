"""The change thread of a worker matches a changed customer within seconds."""

import threading
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from audiences.models import Customer
from config import change_thread
from delivery import tasks
from delivery.matching import rounds
from messaging.models import Checking
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
