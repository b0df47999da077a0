"""Leases are set and judged by the database's clock: a machine whose own clock is wrong ends no one's lease."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.utils import timezone

from audiences.models import Notification, Subscription
from delivery import tasks
from delivery.channels import CHANNELS
from delivery.conversations import answer_emails, threads
from delivery.matching import ongoing
from delivery.models import AnswerMail, DeliveryRecord
from delivery.sending import claim
from delivery.webhooks import dispatcher as webhooks
from messaging.models import Channel
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db
WRONG = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def nothing_is_queued(monkeypatch, settings, tmp_path) -> None:
    monkeypatch.setattr(tasks, "enqueue_task", lambda *_, **__: True)
    settings.FLIGHTS_DIR = str(tmp_path)


def claimed_record(at: datetime) -> Callable[[], str]:
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)
    assert len(claim.claim(message, at=at, token=uuid4()).records) == 1
    return lambda: DeliveryRecord.objects.get().status


def claimed_answer(at: datetime) -> Callable[[], str]:
    thread = threads.open_by_customer(CustomerFactory(email="ann@x.example"), body="Hi", at=at)
    AnswerMail.objects.create(part=thread.parts.create(body="Hello", created_at=at), due_at=at)
    assert answer_emails.ANSWER_EMAILS.claim(at=at) is not None
    return lambda: AnswerMail.objects.get().status


def claimed_notification(at: datetime) -> Callable[[], str]:
    to = Subscription.objects.create(url="https://x.example/", topics=["user.created"], created_at=at, updated_at=at)
    Notification.objects.create(subscription=to, topic="user.created", created_at=at, due_at=at)
    assert len(webhooks.OUTBOX.claim(Notification.objects.due(at), at=at, limit=1)) == 1
    return lambda: Notification.objects.get().state


HELD = {"record": claimed_record, "answer email": claimed_answer, "webhook": claimed_notification}
SWEEPS = (tasks.sweep, tasks.forward_answers, tasks.tell_subscribers)


@pytest.mark.parametrize("held", HELD)
def test_work_in_hand_stays_with_its_worker_whatever_the_clock_of_another_machine_says(held):
    status = HELD[held](timezone.now())

    for off in (WRONG, -WRONG, timedelta(days=1)):
        with time_machine.travel(datetime.now(UTC) + off):
            for task in SWEEPS:
                task()

    assert status() == "sending"


@pytest.mark.parametrize("off", [WRONG, -WRONG])
def test_machine_with_a_wrong_clock_sends_due_records_once_and_at_once(off, monkeypatch):
    given: list[str] = []

    class Taking:
        def send(self, envelope) -> str:
            given.append(envelope.to[0])
            return "taken"

        def close(self) -> None:
            """Do nothing."""

    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Taking)
    at = timezone.now()
    for name in ("ann", "bob"):
        CustomerFactory(email=f"{name}@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)

    with time_machine.travel(at + off):
        tasks.hand_over_due()
    tasks.hand_over_due()

    assert sorted(given) == ["ann@x.example", "bob@x.example"]
    sent_at = message.records.values_list("sent_at", flat=True)
    assert all(at <= moment <= at + timedelta(minutes=1) for moment in sent_at)


def test_lease_of_a_worker_that_died_ends_though_its_clock_was_ahead():
    with time_machine.travel(timezone.now() + WRONG):
        clock = tasks.DatabaseClock()
        status = claimed_record(clock())
    DeliveryRecord.objects.update(leased_until=timezone.now() - timedelta(seconds=1))

    tasks.sweep()

    assert (status(), DeliveryRecord.objects.get().leased_until) == ("uncertain", None)
