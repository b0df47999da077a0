"""Workers that die, wake up, are asked to stop or lose the database; and pauses that take effect at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.conf import settings as configured
from django.db import connection
from django.db.utils import OperationalError
from django.utils import timezone

from delivery import locks, process, shutdown
from delivery.channels import CHANNELS, Rejected, Unavailable
from delivery.maintenance import sweep
from delivery.matching import lifecycle, ongoing
from delivery.models import ConnectionShare, DeliveryRecord, Reason, Status
from delivery.sending import claim, dispatcher, journal
from delivery.sending import outcome as sending_outcome
from delivery.sending import settle as sending_settle
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.concurrency import elsewhere

pytestmark = pytest.mark.django_db


class Telling:
    """A channel whose effect is chosen by the number of the copy."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.does = lambda _number: None

    def send(self, envelope) -> str:
        self.given.append(envelope.to[0])
        self.does(len(self.given))
        return f"id {len(self.given)}"

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def channel(monkeypatch) -> Telling:
    channel = Telling()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


@pytest.fixture(autouse=True)
def in_hand(settings, tmp_path):
    settings.FLIGHTS_DIR = str(tmp_path / "in-hand")
    yield
    process.reset()


def to_people(number: int, at, **facts) -> Message:
    for n in range(number):
        CustomerFactory(email=f"{n:03}@x.example")
    message = MessageFactory(live=True, at=at, **facts)
    ongoing.match(message, at=at)
    return message


def hand_over(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def dies(message: Message, *, at, begun: int, taken: int) -> list[int]:
    """Have a worker claim a batch, begin some copies, learn the result of some, and die. Return its records."""
    token = uuid4()
    notes = journal.start_journal(token)
    batch = claim.claim(message, at=at, token=token)
    pks = [record.pk for record in batch.records]
    for number, pk in enumerate(pks[:begun]):
        notes.sending(pk)
        if number < taken:
            notes.accepted(pk, f"id of {pk}")
    notes.abandon()
    return pks


def statuses(pks) -> list[str]:
    return list(DeliveryRecord.objects.filter(pk__in=pks).order_by("pk").values_list("status", flat=True))


def test_of_a_dead_worker_only_the_copy_being_sent_is_uncertain_and_the_rest_wait_again(at):
    message = to_people(10, at)
    pks = dies(message, at=at, begun=4, taken=3)

    sweep.sweep(at=at + timedelta(seconds=1))

    assert statuses(pks) == [Status.SENT] * 3 + [Status.UNCERTAIN] + [Status.WAITING] * 6
    sent, uncertain, waiting = (DeliveryRecord.objects.get(pk=pks[n]) for n in (0, 3, 4))
    assert (sent.sent_at, sent.provider_id) == (at, f"id of {sent.pk}")
    assert (uncertain.reason, uncertain.taken_at) == (Reason.WORKER_DIED, at)
    assert (waiting.reason, waiting.attempts, waiting.claim) == (Reason.QUEUED, 0, None)


@pytest.mark.parametrize("spoilt", ["<x\0y>", "<x> \ud800"])
def test_journal_with_characters_the_database_refuses_does_not_block_other_journals(at, spoilt):
    message = to_people(2, at)
    token = uuid4()
    notes = journal.start_journal(token)
    (first, second) = claim.claim(message, at=at, token=token).records
    notes.sending(first.pk)
    notes.accepted(first.pk, "id")
    notes.sending(second.pk)
    notes.abandon()
    (notes,) = Path(configured.FLIGHTS_DIR).iterdir()
    notes.write_bytes(notes.read_bytes().replace(b" id\n", f" {spoilt}\n".encode("utf-8", "surrogatepass")))

    sweep.sweep(at=at)

    assert statuses([first.pk, second.pk]) == [Status.SENT, Status.UNCERTAIN]
    assert not list(Path(configured.FLIGHTS_DIR).iterdir())


def test_one_batch_of_the_dead_that_cannot_be_settled_keeps_no_other_from_it(at, monkeypatch, settings):
    settings.IN_FLIGHT = 10
    message = to_people(20, at)
    batches = [dies(message, at=at, begun=1, taken=1) for _ in range(2)]
    settle = sending_settle.settle_abandoned_batch

    def settle_all_but_one(landed, **moment) -> int:
        if batches[0][0] in landed.taken:
            raise ValueError("wrong")
        return settle(landed, **moment)

    monkeypatch.setattr(sending_settle, "settle_abandoned_batch", settle_all_but_one)

    sweep.sweep(at=at)

    assert statuses(batches[1])[0] == Status.SENT
    assert set(statuses(batches[0])) == {Status.SENDING}


def test_copy_that_a_dead_worker_noted_as_refused_is_tried_again(at):
    message = to_people(1, at)
    notes = journal.start_journal(token := uuid4())
    (record,) = claim.claim(message, at=at, token=token).records
    notes.sending(record.pk)
    notes.rejected(record.pk)
    notes.abandon()

    sweep.sweep(at=at)

    assert statuses([record.pk]) == [Status.WAITING]


def test_worker_that_lives_is_left_alone(at):
    message = to_people(3, at)
    journal.start_journal(token := uuid4())
    pks = [record.pk for record in claim.claim(message, at=at, token=token).records]

    sweep.sweep(at=at)

    assert statuses(pks) == [Status.SENDING] * 3


@pytest.mark.parametrize("spoilt", ["another boot", "cut off", "garbled", "gone"])
def test_batch_with_an_untrusted_journal_is_uncertain_once_the_lease_expires(at, spoilt):
    message = to_people(3, at)
    pks = dies(message, at=at, begun=1, taken=0)
    (notes,) = Path(configured.FLIGHTS_DIR).iterdir()
    words = notes.read_text()
    notes.write_text(
        {"another boot": f"x{words}", "cut off": words[:-1], "garbled": f"{words}begun x\n", "gone": ""}[spoilt]
    )
    if spoilt == "gone":
        notes.unlink()

    sweep.sweep(at=at + claim.LEASE)
    assert list(Path(configured.FLIGHTS_DIR).iterdir()) == []
    assert statuses(pks) == [Status.SENDING] * 3
    sweep.sweep(at=at + claim.LEASE + timedelta(seconds=1))

    assert statuses(pks) == [Status.UNCERTAIN] * 3


def test_journal_that_cannot_be_settled_does_not_stop_sending(at, channel, monkeypatch):
    def fails(**_facts) -> None:
        raise ValueError("What nobody thought of.")

    to_people(3, at)
    monkeypatch.setattr(sending_settle, "recover_from_journals", fails)

    assert hand_over(at) == 3


def test_notes_of_another_database_are_left_to_it(at, monkeypatch):
    message = to_people(1, at)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(journal, "database_name", lambda: "another")
        pks = dies(message, at=at, begun=0, taken=0)

    sweep.sweep(at=at)

    assert statuses(pks) == [Status.SENDING]
    assert len(list(Path(configured.FLIGHTS_DIR).iterdir())) == 1


def test_unwritable_journal_folder_does_not_stop_sending(at, channel, settings, tmp_path):
    (tmp_path / "file").touch()
    settings.FLIGHTS_DIR = str(tmp_path / "file" / "none")
    to_people(3, at)

    assert hand_over(at) == 3


def test_journal_on_a_full_disk_warns_once_and_the_next_batch_has_another_journal(caplog):
    lost = journal.start_journal(uuid4())
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, lost.file)
    os.close(full)

    for pk in (1, 2, 3):
        lost.sending(pk)
    lost.release()
    found = journal.start_journal(uuid4())

    assert [record.getMessage() for record in caplog.records] == [
        f"the journal {lost.path} cannot be written, so its batch is uncertain after a kill: "
        "[Errno 28] No space left on device"
    ]
    assert (lost.path.exists(), found.path.exists()) == (False, True)
    found.close()


@pytest.mark.django_db(transaction=True)
def test_batch_whose_lease_is_over_is_not_gone_on_with(at, channel, settings):
    settings.EMAIL_CONNECTIONS = 1
    message = to_people(5, at)
    now = [at]

    def sleeps(number: int) -> None:
        if number == 2:
            # First, as the dispatcher renews the lease as soon as its clock says so.
            elsewhere(lambda: sending_settle.expire_leases(at=at + claim.LEASE + timedelta(seconds=1)))
            now[0] = at + claim.LEASE

    channel.does = sleeps
    dispatcher.dispatch(clock=lambda: now[0], until=at + timedelta(seconds=1))

    assert len(channel.given) == 2
    assert message.records.counts()["uncertain"] == 5


@pytest.mark.django_db(transaction=True)
def test_slow_mail_server_makes_nothing_uncertain_while_its_worker_lives(at, channel, settings):
    settings.EMAIL_CONNECTIONS = 1
    message = to_people(10, at)
    now = [at]

    def takes_its_time(_number: int) -> None:
        now[0] += timedelta(seconds=50)
        elsewhere(lambda: sweep.sweep(at=now[0]))

    channel.does = takes_its_time
    dispatcher.dispatch(clock=lambda: now[0], until=at + timedelta(seconds=1))

    assert now[0] - at > claim.LEASE
    assert message.records.counts()["sent"] == 10


def test_worker_asked_to_stop_finishes_its_copy_and_puts_the_rest_back(at, channel, settings):
    settings.EMAIL_CONNECTIONS = 1
    message = to_people(15, at)
    channel.does = lambda number: shutdown.request_for_all() if number == 3 else None

    hand_over(at)

    counts = message.records.counts()
    assert (len(channel.given), counts["sent"], counts["waiting"], counts["sending"]) == (3, 3, 12, 0)
    assert set(message.records.filter(status=Status.WAITING).values_list("attempts", "reason")) == {(0, Reason.QUEUED)}


def test_sigterm_waits_for_the_copy_in_hand_and_then_takes_its_course(at, channel, settings):
    settings.EMAIL_CONNECTIONS = 1
    message = to_people(5, at)
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(message.records.counts()["sending"]))

    def asks_to_stop(number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            while not shutdown.is_requested():
                time.sleep(0.001)

    channel.does = asks_to_stop
    try:
        hand_over(at)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert heard == [0]
    assert message.records.counts()["sent"] == 2


def test_worker_stopped_at_once_leaves_one_copy_in_doubt(at, channel, settings):
    settings.EMAIL_CONNECTIONS = 1
    message = to_people(5, at)

    def ends(number: int) -> None:
        if number == 2:
            raise SystemExit(1)

    channel.does = ends
    with pytest.raises(SystemExit):
        hand_over(at)

    counts = message.records.counts()
    assert (counts["sent"], counts["uncertain"], counts["waiting"]) == (1, 1, 3)


def test_database_lost_before_a_batch_is_settled_is_waited_for(at, channel, monkeypatch):
    message = to_people(3, at)
    settle, tries = sending_settle.settle_batches, []

    def fails_twice(parts, *, at):
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("the server closed the connection")
        settle(parts, at=at)

    monkeypatch.setattr(sending_settle, "settle_batches", fails_twice)
    monkeypatch.setattr(sending_outcome, "DATABASE_RETRY_PAUSE", 0)
    monkeypatch.setattr(type(connection), "in_atomic_block", False, raising=False)
    monkeypatch.setattr(connection, "close", lambda: None)
    batch = claim.Batch(message, None, uuid4(), [], at + claim.LEASE)
    withdrawn = []
    parts = [(batch, sending_outcome.Outcome())]
    sending_settle.settle_with_retry(parts, clock=lambda: at, on_lost=lambda: withdrawn.append(len(tries)))

    assert len(tries) == 3
    assert withdrawn == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_batch_that_is_settled_at_the_second_try_keeps_the_session_that_holds_its_lock(channel, monkeypatch):
    at = timezone.now()
    message = to_people(1, at)
    settle, sessions = sending_settle.settle_batches, []

    def fails_once(parts, *, at):
        sessions.append(connection.connection)
        if len(sessions) < 2:
            raise OperationalError("deadlock detected")
        settle(parts, at=at)

    monkeypatch.setattr(sending_settle, "settle_batches", fails_once)
    hand_over(at)

    assert sessions[0] is sessions[1]
    assert message.records.counts()["sent"] == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", [ValueError("nobody foresaw this"), OperationalError("no space left on device")])
def test_results_that_cannot_be_settled_are_left_to_the_journal_and_other_messages_go_on(
    at, channel, monkeypatch, fault
):
    first, second = to_people(15, at), MessageFactory(live=True, at=at)
    settle, now = sending_settle.settle_batches, [at]

    def fails_for_first(parts, *, at):
        if any(batch.message == first for batch, _ in parts):
            # Longer than the lease, for which a lost database is waited for.
            now[0] += claim.LEASE
            raise fault
        settle(parts, at=at)

    monkeypatch.setattr(sending_settle, "settle_batches", fails_for_first)
    monkeypatch.setattr(sending_outcome, "DATABASE_RETRY_PAUSE", 0)
    dispatcher.dispatch(clock=lambda: now[0], until=at + timedelta(hours=1))
    ongoing.match(second, at=now[0])
    dispatcher.dispatch(clock=lambda: now[0], until=now[0] + timedelta(hours=1))
    monkeypatch.setattr(sending_settle, "settle_batches", settle)
    dispatcher.dispatch(clock=lambda: now[0], until=now[0] + timedelta(hours=1))

    assert (first.records.counts()["sent"], second.records.counts()["sent"]) == (15, 15)
    assert len(channel.given) == 30
    assert not ConnectionShare.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_worker_that_lost_the_database_ends_once_its_leases_are_over(at, channel, monkeypatch, settings):
    settings.EMAIL_CONNECTIONS = 1
    message = to_people(5, at)
    check, now, is_lost = locks.batch_may_continue, [at], threading.Event()

    def is_unreachable(message: Message) -> bool:
        if is_lost.is_set():
            now[0] += timedelta(minutes=1)
            raise OperationalError("the server closed the connection")
        return check(message)

    def loses(number: int) -> None:
        if number == 2:
            is_lost.set()
            time.sleep(0.2)

    channel.does = loses
    monkeypatch.setattr(locks, "batch_may_continue", is_unreachable)
    monkeypatch.setattr(dispatcher, "DATABASE_RETRY_PAUSE", 0.01)
    dispatcher.dispatch(clock=lambda: now[0], until=at + timedelta(seconds=1))
    sweep.sweep(at=now[0])

    assert is_lost.is_set()
    counts = message.records.counts()
    assert (counts["sent"], counts["waiting"]) == (len(channel.given), 5 - len(channel.given))


@pytest.mark.parametrize("refusal", [Rejected("no"), Unavailable("later")])
def test_refused_copies_of_a_worker_that_ended_before_it_settled_are_tried_again(at, channel, monkeypatch, refusal):
    message = to_people(1, at)

    def refuses(_number: int) -> None:
        raise refusal

    def ends(*_args, **_facts) -> None:
        raise SystemExit(1)

    channel.does = refuses
    monkeypatch.setattr(sending_settle, "settle_batch", ends)
    with pytest.raises(SystemExit):
        hand_over(at)
    assert message.records.counts()["sending"] == 1

    sweep.sweep(at=at)

    assert message.records.counts()["waiting"] == 1


DIES = """
import os, signal, sys, django
django.setup()
from uuid import uuid4
from django.utils import timezone
from delivery.sending import claim, journal
from messaging.models import Message
notes = journal.start_journal(token := uuid4())
batch = claim.claim(Message.objects.get(), at=timezone.now(), token=token)
notes.sending(batch.records[0].pk)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.django_db(transaction=True)
def test_process_killed_with_a_batch_in_hand_leaves_one_in_doubt(settings):
    at = timezone.now() - timedelta(minutes=1)
    message = to_people(12, at)
    place = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    there = {**os.environ, "DATABASE_URL": place.geturl(), "FLIGHTS_DIR": settings.FLIGHTS_DIR, "SECRET_KEY": "x"}
    there["IN_FLIGHT"] = "10"
    killed = subprocess.run([sys.executable, "-c", DIES], env=there, check=False)  # noqa: S603
    assert killed.returncode == -signal.SIGKILL
    assert message.records.counts()["sending"] == 10

    sweep.sweep(at=timezone.now())

    counts = message.records.counts()
    assert (counts["uncertain"], counts["waiting"], counts["sending"]) == (1, 11, 0)


@pytest.mark.django_db(transaction=True)
def test_pause_breaks_off_a_slow_batch(channel, settings):
    settings.EMAIL_CONNECTIONS = 1
    at = timezone.now()
    message = to_people(10, at)
    begun = threading.Event()

    def is_slow(_number: int) -> None:
        begun.set()
        time.sleep(0.15)

    channel.does = is_slow

    def work() -> None:
        try:
            dispatcher.dispatch(clock=timezone.now, until=at + timedelta(seconds=20))
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        assert begun.wait(10)
        lifecycle.pause(message)
        returned = len(channel.given)
        done.result(20)

    assert len(channel.given) == returned < 5
    counts = message.records.counts()
    assert (counts["sent"], counts["waiting"], counts["sending"]) == (returned, 10 - returned, 0)
