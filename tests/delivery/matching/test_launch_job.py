"""Large launches by a worker: progress, and cancellation before the end."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from django.utils import timezone

from audiences.locks import Lock
from audiences.models import Customer, KindChange
from delivery import locks
from delivery.maintenance import attribute_kinds, sweep
from delivery.matching import launch, launch_job
from delivery.matching import sql as matching_sql
from delivery.models import DeliveryRecord, LaunchProgress, VisitorKind
from delivery.tracking import hits
from messaging import lifecycle
from messaging.models import Message, State, WrongState
from tests.factories import AT, CustomAttributeFactory, CustomerFactory, MessageFactory, rule
from tests.support.servers import free_port


class Worker:
    """A worker that launches a message and stops before its second slice until the test continues it."""

    def __init__(self, message: Message, monkeypatch) -> None:
        self.rests, self.may_go_on = threading.Event(), threading.Event()
        write = matching_sql.execute

        def execute(sql, params):
            made = write(sql, params)
            if params.get("start") == 0 and "start" in params:
                self.rests.set()
                assert self.may_go_on.wait(20)
            return made

        monkeypatch.setattr(matching_sql, "SLICE", 2)
        monkeypatch.setattr(matching_sql, "execute", execute)
        self.thread = threading.Thread(target=self.launch, args=(message.pk,))
        self.thread.start()
        assert self.rests.wait(20)

    def launch(self, pk: int) -> None:
        launch_job.launch(pk, at=timezone.now())
        connection.close()

    def end(self) -> None:
        self.may_go_on.set()
        self.thread.join(20)


@pytest.mark.django_db
def test_message_set_live_meanwhile_has_no_trouble(at):
    CustomerFactory()
    message = MessageFactory(one_off=True)
    launch_job.request_launch(message, at=at)
    launch.launch(Message.objects.get(pk=message.pk), at=at)

    launch_job.launch(message.pk, at=at)

    message.refresh_from_db()
    assert (message.state, message.launching_at, message.problem) == (State.LIVE, None, "")


@pytest.mark.django_db(transaction=True)
def test_merging_a_lead_does_not_wait_for_a_launch(at):
    lead = CustomerFactory(lead=True)
    message = MessageFactory(one_off=True, rules=[rule("role", "is", "lead")])
    became: list[int] = []

    def logs_in() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
        became.append(Customer.objects.filter(pk=lead.pk).update(user_id="ann"))
        connection.close()

    def meanwhile(made: int, _all: int) -> None:
        if made:
            thread = threading.Thread(target=logs_in)
            thread.start()
            thread.join(20)

    launch.launch(message, at=at, progress=meanwhile)

    assert became == [1]


@pytest.mark.django_db(transaction=True)
def test_open_of_a_sample_copy_does_not_wait_for_the_rest(at):
    for number in range(5):
        CustomerFactory(email=f"{number}@x.example")
    message = MessageFactory(one_off=True)
    launch.launch(message, at=at, sample=2)
    record = message.records.first()
    counted: list[bool] = []

    def opens() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
        hits.count_hit(record, link=None, who=VisitorKind.PERSON, at=at)
        counted.append(True)
        connection.close()

    def meanwhile(made: int, _all: int) -> None:
        if not made:
            thread = threading.Thread(target=opens)
            thread.start()
            thread.join(20)

    launch.send_to_rest(message, at=at, progress=meanwhile)

    assert counted == [True]


@pytest.fixture
def asked_for(transactional_db) -> Message:
    """A one-off to five customers with a requested launch."""
    CustomerFactory.create_batch(5)
    message = MessageFactory(one_off=True)
    launch_job.request_launch(message, at=timezone.now())
    return message


def when_waiting_for_a_lock(do) -> threading.Thread:
    """Do something once a session waits for an advisory lock, as a cancellation does."""

    def watch() -> None:
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = %s"
        for _ in range(2000):
            with connection.cursor() as cursor:
                cursor.execute(waits, [Lock.LAUNCH])
                if cursor.fetchone()[0]:
                    break
            threading.Event().wait(0.01)
        do()
        connection.close()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_launch_in_progress_is_cancelled_and_no_customer_is_recorded(asked_for, monkeypatch):
    worker = Worker(asked_for, monkeypatch)
    waiter = when_waiting_for_a_lock(worker.may_go_on.set)

    launch_job.cancel_launch(asked_for, at=timezone.now())
    worker.end()
    waiter.join()

    asked_for.refresh_from_db()
    assert (asked_for.state, asked_for.launching_at, asked_for.problem) == (State.DRAFT, None, "")
    assert not DeliveryRecord.objects.exists()
    assert asked_for.audience_count is None


def test_a_change_of_the_attribute_with_the_same_number_does_not_call_off_a_launch(asked_for):
    number = asked_for.pk
    attribute = CustomAttributeFactory()
    KindChange.objects.create(pk=number, attribute=attribute, to="number", lose_at_most=0, values=0, asked_at=AT)
    launched = []

    def launch_meanwhile() -> None:
        launched.append(launch_job.launch(number, at=timezone.now()))
        connection.close()

    with transaction.atomic():
        assert attribute_kinds.lock_kind_change(number) is not None
        thread = threading.Thread(target=launch_meanwhile)
        thread.start()
        thread.join(20)

    assert launched == [True]
    assert DeliveryRecord.objects.count() == 5


def test_progress_of_a_launch_is_visible_while_a_worker_carries_it_out(asked_for, monkeypatch):
    assert launch_job.launch_progress(asked_for) is None
    worker = Worker(asked_for, monkeypatch)
    try:
        progress = launch_job.launch_progress(asked_for)
        assert progress is not None
        assert (progress.made, progress.total) == (0, 5)
    finally:
        worker.end()

    assert launch_job.launch_progress(asked_for) is None
    assert DeliveryRecord.objects.count() == 5


def test_launch_whose_second_connection_is_refused_goes_on_without_progress(asked_for, monkeypatch, caplog):
    def copy_connection():
        second = DatabaseWrapper({**connection.settings_dict, "PORT": str(free_port())}, connection.alias)
        opened.append(second)
        return second

    opened: list[DatabaseWrapper] = []
    monkeypatch.setattr(connection, "copy", copy_connection)
    monkeypatch.setattr(matching_sql, "SLICE", 2)

    assert launch_job.launch(asked_for.pk, at=timezone.now())

    asked_for.refresh_from_db()
    assert (asked_for.state, DeliveryRecord.objects.count()) == (State.LIVE, 5)
    assert len(opened) == 1
    assert caplog.text.count("goes on without progress") == 1


def test_request_and_cancellation_delete_the_progress_of_a_killed_worker(asked_for):
    LaunchProgress.objects.create(message=asked_for, made=3, total=5)

    launch_job.cancel_launch(asked_for, at=timezone.now())
    assert launch_job.launch_progress(asked_for) is None

    LaunchProgress.objects.create(message=asked_for, made=3, total=5)
    launch_job.request_launch(asked_for, at=timezone.now())
    assert launch_job.launch_progress(asked_for) is None


def test_the_page_shows_the_progress_and_a_cancel_button(admin_client, asked_for, monkeypatch):
    worker = Worker(asked_for, monkeypatch)
    try:
        shown = admin_client.get(f"/admin/messaging/message/{asked_for.pk}/launching/").content.decode()
    finally:
        worker.end()

    assert "0 of 5 recipients are prepared" in shown
    assert "until then you can cancel the launch" in shown


def test_late_cancellation_says_to_stop_the_message(asked_for):
    launch_job.launch(asked_for.pk, at=timezone.now())

    with pytest.raises(WrongState, match="Stop it once it is live"):
        launch_job.cancel_launch(asked_for, at=timezone.now())


def test_cancelling_waits_no_longer_than_a_click_does(asked_for, monkeypatch):
    worker = Worker(asked_for, monkeypatch)
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0.2)
    try:
        with pytest.raises(WrongState, match="could not be cancelled right now"):
            launch_job.cancel_launch(asked_for, at=timezone.now())
    finally:
        worker.end()

    assert Message.objects.get().state == State.LIVE


def test_a_running_scheduled_launch_is_cancelled_permanently(transactional_db, monkeypatch):
    CustomerFactory.create_batch(5)
    message, at = MessageFactory(one_off=True), timezone.now()
    lifecycle.schedule(message, for_=at + timedelta(hours=1), at=at, reviewed_count=5)
    due = at + timedelta(hours=2)
    launch_job.request_launch(message, at=due)

    launch_job.cancel_launch(message, at=due)
    sweep.sweep(at=due)

    message.refresh_from_db()
    assert (message.state, message.launching_at, message.scheduled_for) == (State.DRAFT, None, None)
    assert not DeliveryRecord.objects.exists()


def test_scheduled_message_cancelled_early_still_goes_live_at_its_time(transactional_db):
    CustomerFactory.create_batch(5)
    message, at = MessageFactory(one_off=True, in_app=True), timezone.now()
    lifecycle.schedule(message, for_=at + timedelta(hours=1), at=at, reviewed_count=5)
    launch_job.request_launch(message, at=at)
    launch_job.cancel_launch(message, at=at)
    assert Message.objects.get().state == State.SCHEDULED

    sweep.sweep(at=at + timedelta(hours=2))

    assert (Message.objects.get().state, DeliveryRecord.objects.count()) == (State.LIVE, 5)
