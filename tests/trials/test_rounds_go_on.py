"""An error or a held lock of one message does not hold up the others."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg.errors import LockNotAvailable, QueryCanceled

from delivery import locks, rendering
from delivery.channels import CHANNELS, Envelope
from delivery.matching import direct, lifecycle, ongoing, recheck, rounds
from delivery.matching import sql as matching_sql
from delivery.models import Status
from delivery.sending import dispatcher
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message
from tests.factories import CustomAttributeFactory, CustomerFactory, MessageFactory, rule
from tests.support.concurrency import at_once

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("migrated")]


class Noting:
    """A channel that records the subjects it received."""

    def __init__(self) -> None:
        self.subjects: list[str] = []

    def send(self, envelope: Envelope) -> str:
        self.subjects.append(envelope.subject)
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def channel(monkeypatch) -> Noting:
    channel = Noting()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


def matched(at: datetime, **facts) -> Message:
    message = MessageFactory(live=True, at=at, **facts)
    ongoing.match(message, at=at)
    return message


def hand_over(at: datetime) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def test_message_whose_rules_broke_while_it_waited_does_not_silence_its_channel(at, channel, settings):
    settings.IN_FLIGHT = 1
    plan = CustomAttributeFactory(name="plan")
    for number in range(12):  # More records than one turn takes.
        CustomerFactory(email=f"{number}@x.example", attributes={"plan": "pro"})
    tuesday = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    broken = matched(at, subject="broken", rules=[rule("custom_attributes.plan", "is", "pro")], window=tuesday)
    matched(at, subject="whole", window=tuesday)
    with connection.cursor() as cursor:  # Bypasses the triggers.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM audiences_customattribute WHERE id = %s", [plan.pk])
        cursor.execute("SET session_replication_role = DEFAULT")

    hand_over(at.replace(day=5, hour=9))

    assert channel.subjects == ["whole"] * 12
    broken.refresh_from_db()
    assert "plan" in broken.problem


def test_message_that_cannot_be_finished_holds_up_no_other(at, channel, monkeypatch):
    CustomerFactory(email="ann@x.example")
    poison = matched(at, subject="poison")
    matched(at, subject="wholesome")
    render = rendering.Copy.render

    def fail(copy: rendering.Copy, filled: object, *, record_id: int) -> object:
        if poison.records.filter(pk=record_id).exists():
            raise RecursionError("What nobody thought of.")
        return render(copy, filled, record_id=record_id)

    monkeypatch.setattr(rendering.Copy, "render", fail)

    hand_over(at)

    assert channel.subjects == ["wholesome"]
    assert poison.records.get().status == Status.WAITING


def test_direct_message_is_sent_before_messages_to_audiences(at, channel):
    customer = CustomerFactory(email="ann@x.example")
    matched(at, subject="to all")
    alone = MessageFactory(subject="to Ann", to_customer=customer, live=True, at=at)
    direct.insert_direct_record(customer, alone, at=at)

    hand_over(at)

    assert channel.subjects == ["to Ann", "to all"]


def test_worker_waits_briefly_if_other_workers_hold_all_due_records(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    held, over = threading.Event(), threading.Event()
    asked = []

    def count(execute: Callable[..., object], sql: str, *rest: object) -> object:
        asked.append(sql)
        return execute(sql, *rest)

    def hold() -> None:
        with transaction.atomic():
            Message.objects.select_for_update().get(pk=message.pk)
            held.set()
            over.wait(10)

    def work() -> None:
        held.wait(10)
        now = timezone.now()
        with connection.execute_wrapper(count):
            dispatcher.dispatch(clock=timezone.now, until=now + timedelta(seconds=0.7))
        over.set()

    assert at_once([hold, work]).wrong == []
    assert channel.subjects == []
    assert 0 < len(asked) < 300
    assert hand_over(at) == 1


def test_held_records_are_rechecked_completely_although_our_clock_is_behind(at, monkeypatch):
    """The process that resumed it has a clock two seconds ahead of this worker's."""
    monkeypatch.setattr(matching_sql, "SLICE", 2)
    for number in range(5):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at)
    lifecycle.pause(message)
    message_lifecycle.resume(message, at=at + timedelta(seconds=2))

    run = at_once([lambda: recheck.recheck_held(message, at=at + timedelta(seconds=1))], within=10)

    assert run.wrong == []
    message.refresh_from_db()
    assert message.recheck_before is None
    assert message.records.counts()["waiting"] == 5


def test_record_that_another_worker_rechecks_stays_held(at):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    lifecycle.pause(message)
    later = at + timedelta(minutes=5)
    message_lifecycle.resume(message, at=later)
    judging, go_on = threading.Event(), threading.Event()

    def judge_and_die() -> None:
        with transaction.atomic():
            list(message.records.select_for_update())
            judging.set()
            go_on.wait(10)
            transaction.set_rollback(True)

    def judge_meanwhile() -> None:
        judging.wait(10)
        recheck.recheck_held(message, at=later)
        go_on.set()

    assert at_once([judge_and_die, judge_meanwhile]).wrong == []
    message.refresh_from_db()
    assert message.recheck_before == later
    recheck.recheck_held(message, at=later)
    message.refresh_from_db()
    assert message.recheck_before is None


def test_pause_does_not_wait_indefinitely_for_a_silent_mail_server(at, monkeypatch, caplog):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0.3)
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    handing, over = threading.Event(), threading.Event()

    class Deaf(Noting):
        def send(self, envelope: Envelope) -> str:
            handing.set()
            over.wait(10)
            return ""

    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Deaf)

    def pause() -> float:
        handing.wait(10)
        began = time.monotonic()
        lifecycle.pause(message)
        over.set()
        return time.monotonic() - began

    run = at_once([lambda: hand_over(at), pause])

    assert run.wrong == []
    assert 0.3 <= max(took for took in run.returned if isinstance(took, float)) < 3
    assert "it may still go out" in caplog.text
    assert message.records.get().status == Status.SENT


@pytest.fixture
def insert_after(monkeypatch) -> Callable[..., None]:
    """Let something happen each time a round inserts records, so many times."""
    insert = ongoing.insert_new_records

    def let_happen(event: Callable[[], object], *, times: int, of: Message | None = None) -> None:
        left = times

        def insert_or_fail(message: Message, *args: object, **how: object) -> int:
            nonlocal left
            if left and message == (of or message):
                left -= 1
                event()
            return insert(message, *args, **how)

        monkeypatch.setattr(ongoing, "insert_new_records", insert_or_fail)

    return let_happen


def lose_connection() -> None:
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def test_round_that_loses_its_connection_once_matches_the_message_nevertheless(at, insert_after):
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(live=True, at=at)
    insert_after(lose_connection, times=1)

    assert rounds.match_ongoing(at=at) == 1

    message.refresh_from_db()
    assert (message.problem, message.last_matched_at) == ("", at)


def wait_in_vain() -> None:
    raise OperationalError from LockNotAvailable("canceling statement due to lock timeout")


@pytest.mark.parametrize("event", [lose_connection, wait_in_vain])
def test_outage_of_the_database_is_not_blamed_on_the_message_and_the_next_round_matches_it(
    at, insert_after, event, caplog
):
    CustomerFactory(email="ann@x.example")
    message, other = MessageFactory(live=True, at=at), MessageFactory(live=True, at=at)
    insert_after(event, times=2, of=message)

    assert rounds.match_ongoing(at=at) == 1

    message.refresh_from_db()
    assert (message.problem, message.records.count(), other.records.count()) == ("", 0, 1)
    assert f"message {message.pk} cannot be matched" in caplog.text
    assert rounds.match_ongoing(at=at + timedelta(hours=1)) == 1
    assert message.records.count() == 1


def take_too_long() -> None:
    raise OperationalError from QueryCanceled("canceling statement due to statement timeout")


def test_rules_that_take_too_long_are_a_problem_of_the_message(at, insert_after):
    message = MessageFactory(live=True, at=at)
    insert_after(take_too_long, times=2)

    rounds.match_ongoing(at=at)

    message.refresh_from_db()
    assert message.problem == ongoing.MATCHING_FAILED
