"""A worker whose database session ends has lost its locks on messages, so a pause no longer waits for its copies."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction

from audiences.locks import Lock
from delivery.channels import CHANNELS, Envelope
from delivery.matching import lifecycle
from delivery.sending import batch, dispatcher
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.concurrency import elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

HELD = (
    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid, objid) = (%s, %s) AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Asking:
    """A channel that asks for each copy of one message whether a session has the lock of this message."""

    def __init__(self, subject: str, question: Callable[[], bool]) -> None:
        self.subject, self.question = subject, question
        self.answers: list[bool] = []

    def send(self, envelope: Envelope) -> str:
        if envelope.subject == self.subject:
            self.answers.append(self.question())
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def message(at) -> Message:
    for number in range(3):
        CustomerFactory(email=f"{number}@x.example")
    return MessageFactory(one_off=True, live=True, at=at, subject="News")


@pytest.fixture
def channel(message, monkeypatch) -> Asking:
    def is_locked() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(HELD, [Lock.BATCH, message.pk % 2**31])
            return cursor.fetchone() is not None

    channel = Asking("News", lambda: elsewhere(is_locked))
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


def end_session() -> None:
    """Lose the database in the midst of a transaction; Django opens another session for the next statement."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def end_session_from_outside() -> None:
    """Lose the database between two transactions."""
    ours = connection.connection.info.backend_pid

    def end() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [ours])

    elsewhere(end)


def dispatch(at: datetime) -> None:
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def test_no_copy_begins_without_the_lock_after_a_claim_lost_the_database(at, message, channel, monkeypatch):
    other = MessageFactory(one_off=True, live=True, at=at, subject="Offer")
    claim, claims = batch.claim, Counter[Message]()

    def lose(of: Message, **facts: object) -> object:
        claims[of] += 1
        if of == other and claims[of] == 1:
            end_session()
        return claim(of, **facts)

    monkeypatch.setattr(batch, "claim", lose)
    monkeypatch.setattr(dispatcher, "DATABASE_RETRY_PAUSE", 0)
    dispatch(at)

    assert claims[other] > 1
    assert (message.records.counts()["sent"], other.records.counts()["sent"]) == (3, 3)
    assert channel.answers == [True] * 3


def test_copies_claimed_before_a_pause_do_not_begin_after_it_if_the_lock_was_lost(at, message, channel, monkeypatch):
    monkeypatch.setattr(batch, "PAUSE_CHECK_INTERVAL", timedelta(0))
    sender = dispatcher.Dispatcher(clock=lambda: at)
    sender.claim_due()
    connection.close()
    # The pause has nothing to wait for. After the resume the audience has to be judged again.
    lifecycle.pause(message)
    message_lifecycle.resume(message, at=at)
    while sender.batches:
        sender.step()
    sender.close()

    assert channel.answers == []
    assert message.records.counts()["waiting"] == 3
    dispatch(at)
    assert message.records.counts()["sent"] == 3


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("losses", [1, 9])
def test_database_lost_outside_a_transaction_holds_up_no_message_that_is_not_its_cause(
    at, message, monkeypatch, losses
):
    other = MessageFactory(one_off=True, live=True, at=at, subject="Offer")
    open_message, opened = batch.open_message, Counter[Message]()

    def lose(of: Message) -> object:
        opened[of] += 1
        if of == message and opened[of] <= losses:
            end_session_from_outside()
        return open_message(of)

    monkeypatch.setattr(batch, "open_message", lose)
    monkeypatch.setattr(dispatcher, "DATABASE_RETRY_PAUSE", 0)
    dispatch(at)

    assert other.records.counts()["sent"] == 3
    assert message.records.counts()["sent"] == (3 if losses == 1 else 0)
