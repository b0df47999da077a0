"""Several copies in flight, against a mail server that takes its time: as many as it takes, and all else exact."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from audiences.models import Customer
from delivery import locks, process, shutdown, tasks
from delivery.conversations import answer_emails, threads
from delivery.matching import direct, lifecycle, ongoing
from delivery.models import AnswerMail, ChannelOutage, ConnectionShare, DeliveryRecord, Pace, Reason, Status
from delivery.sending import dispatcher
from messaging.models import Message
from tests.factories import CustomerFactory, MessageFactory, SenderFactory
from tests.support.slow_server import SlowServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(settings) -> Iterator[SlowServer]:
    """A mail server with 20 ms per answer, and it is the one of the settings."""
    server = SlowServer(delay=0.02)
    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_TIMEOUT = 10
    yield server
    server.close()


def to_people(number: int, **facts) -> Message:
    first = Customer.objects.count()
    Customer.objects.bulk_create(CustomerFactory.build(email=f"{first + n}@x.example") for n in range(number))
    message = MessageFactory(live=True, at=timezone.now(), **facts)
    ongoing.match(message, at=timezone.now())
    return message


def send_all() -> int:
    return dispatcher.dispatch(clock=timezone.now, until=timezone.now() + timedelta(seconds=60))


@contextmanager
def working(count: int = 1, *, send: Callable[[], int] = send_all) -> Iterator[list[Future[int]]]:
    """Let so many dispatchers work during the block, and wait for them."""

    def work() -> int:
        try:
            return send()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        done = [pool.submit(work) for _ in range(count)]
        yield done
        for each in done:
            each.result(60)


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_copies_are_in_flight_at_the_same_time_each_once_and_over_few_connections(server, settings):
    settings.EMAIL_CONNECTIONS = 8
    message = to_people(120)

    assert send_all() == 120

    assert message.records.counts()["sent"] == 120
    assert Counter(email.recipient for email in server.accepted).most_common(1)[0][1] == 1
    assert 6 <= server.most_in_flight <= server.most_connections <= 8
    eventually(lambda: server.connections == 0)


def test_pause_that_has_returned_lets_nothing_begin_and_waits_for_the_copies_in_flight(server, settings):
    settings.EMAIL_CONNECTIONS = 8
    message = to_people(300)
    with working():
        eventually(lambda: server.in_flight >= 6)
        lifecycle.pause(message)
        returned, in_flight = time.monotonic(), server.in_flight

    assert in_flight == 0
    assert max(email.began for email in server.emails) < returned
    counts = message.records.counts()
    assert (counts["sent"], counts["waiting"]) == (len(server.accepted), 300 - len(server.accepted))
    assert len(server.accepted) < 300


def test_pause_says_how_many_copies_a_slow_server_still_holds(server, settings, monkeypatch):
    settings.EMAIL_CONNECTIONS, server.delay = 4, 2.0
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 1)
    message = to_people(8)
    with working():
        eventually(lambda: server.in_flight)
        handed_over = lifecycle.pause(message)
        in_flight = server.in_flight

    assert handed_over == in_flight > 0
    assert message.records.counts()["sent"] == len(server.accepted) < 8


def test_opt_out_reaches_copies_that_are_claimed_and_not_begun(server, settings):
    settings.EMAIL_CONNECTIONS, server.delay = 1, 0.15
    message = to_people(10)
    with working():
        eventually(lambda: server.emails)
        Customer.objects.exclude(email=server.emails[0].recipient).update(unsubscribed_from_emails=True)
        opted_out = time.monotonic()

    # A copy begins at most half a second after it was checked.
    assert all(email.began < opted_out + 0.5 for email in server.emails)
    assert len(server.accepted) <= 3
    rest = message.records.exclude(status=Status.SENT)
    assert set(rest.values_list("status", "reason")) == {(Status.WITHDRAWN, Reason.UNSUBSCRIBED)}


def test_worker_asked_to_stop_finishes_the_copies_in_flight_and_puts_the_rest_back(server, settings):
    settings.EMAIL_CONNECTIONS = 8
    message = to_people(200)
    try:
        with working():
            eventually(lambda: server.in_flight >= 6)
            shutdown.request_for_all()
            asked = time.monotonic()
    finally:
        process.reset()

    counts = message.records.counts()
    assert (counts["sent"], counts["waiting"]) == (len(server.accepted), 200 - len(server.accepted))
    assert server.in_flight == 0
    # A thread may have decided to begin just before.
    assert sum(email.began > asked for email in server.emails) <= 8
    assert set(message.records.filter(status=Status.WAITING).values_list("attempts", "reason")) == {(0, Reason.QUEUED)}


def test_direct_message_goes_ahead_of_a_large_one_within_a_second(server, settings):
    settings.EMAIL_CONNECTIONS = 2
    to_people(400)
    customer = CustomerFactory(email="vip@x.example")
    with working():
        eventually(lambda: len(server.accepted) >= 20)
        asked = time.monotonic()
        direct.send_to_one(
            customer,
            channel="email",
            format="",
            sender=SenderFactory(),
            subject="Hello",
            body="<p>Hello</p>",
            by=None,
            at=timezone.now(),
        )
        eventually(lambda: any(email.recipient == "vip@x.example" for email in server.emails))
        shutdown.request_for_all()
    process.reset()

    (found,) = [email for email in server.accepted if email.recipient == "vip@x.example"]
    assert found.began - asked < 1


def test_server_that_takes_five_connections_gets_five_and_no_outage_is_recorded(server, settings):
    settings.EMAIL_CONNECTIONS, server.allows = 20, 5
    message = to_people(200)

    assert send_all() == 200

    assert message.records.counts()["sent"] == 200
    assert set(message.records.values_list("attempts", flat=True)) == {1}
    assert server.refused > 0
    assert server.most_connections <= 5
    assert not ChannelOutage.objects.exists()


def test_server_whose_connections_another_dispatcher_has_is_no_outage(server, settings):
    settings.EMAIL_CONNECTIONS = server.allows = 4
    message = to_people(400)
    with working():
        eventually(ConnectionShare.objects.filter(in_use=4, is_answered=True).exists)
        settings.EMAIL_CONNECTIONS = 20
        with working():
            eventually(lambda: sum(ConnectionShare.objects.values_list("is_answered", flat=True)) == 2)

    assert message.records.counts()["sent"] == 400
    assert server.refused > 0
    assert not ChannelOutage.objects.exists()


def test_server_that_goes_away_is_an_outage_with_two_dispatchers_too(server, settings):
    settings.EMAIL_CONNECTIONS = 8
    to_people(400)
    with working(2):
        eventually(lambda: sum(ConnectionShare.objects.values_list("is_answered", flat=True)) == 2)
        server.allows = 0
        server.drop()
        eventually(ChannelOutage.objects.exists)

    assert not DeliveryRecord.objects.filter(status=Status.SENDING).exists()
    assert server.refused < 100


def test_dispatcher_left_without_a_connection_gives_its_records_back_and_ends(server, settings):
    settings.EMAIL_CONNECTIONS = 2
    message = to_people(120)
    with working(2) as done:
        eventually(lambda: sum(ConnectionShare.objects.values_list("is_answered", flat=True)) == 2)
        settings.EMAIL_CONNECTIONS = 1
        eventually(lambda: sum(each.done() for each in done) == 1)
        assert message.records.filter(status=Status.WAITING).count() > 20

    assert message.records.counts()["sent"] == 120


def test_server_that_takes_no_connection_is_an_outage(server, settings):
    server.allows = 0
    message = to_people(5)

    assert send_all() == 0

    assert "Too many connections" in ChannelOutage.objects.get().why
    assert set(message.records.values_list("status", "attempts")) == {(Status.WAITING, 0)}


def test_server_that_goes_away_with_copies_in_flight_is_one_outage(server, settings):
    settings.EMAIL_CONNECTIONS = 8
    message = to_people(200)
    with working():
        eventually(lambda: server.in_flight >= 6)
        in_flight = server.in_flight
        server.allows = 0
        server.drop()

    assert ChannelOutage.objects.count() == 1
    counts = message.records.counts()
    assert counts["uncertain"] <= in_flight
    assert counts["sending"] == 0
    assert counts["sent"] + counts["uncertain"] + counts["waiting"] == 200


def test_copies_in_flight_keep_to_the_throttle_of_four_workers(server, settings):
    settings.EMAIL_CONNECTIONS = 10
    Pace.objects.create(channel="email", per_second=60)
    message = to_people(300)
    with working(4):
        pass

    assert message.records.counts()["sent"] == 300
    # Once all are connected: the first copies wait for that, and what they lost is made up for.
    moments = sorted(email.began for email in server.emails)[60:]
    # Never faster; a busy machine loses slots.
    assert 60 * 0.9 <= (len(moments) - 1) / (moments[-1] - moments[0]) <= 60 * 1.06
    assert server.most_in_flight >= 2


def test_sending_threads_and_only_they_send(server, monkeypatch):
    from delivery.channels.email import Email

    names = set()
    send = Email.send_once

    def noting(self, message):
        names.add(threading.current_thread().name)
        return send(self, message)

    monkeypatch.setattr(Email, "send_once", noting)
    to_people(10)
    send_all()

    assert names == {"sending-email"}


def test_three_dispatchers_share_the_connections_and_never_exceed_them(server, settings):
    settings.EMAIL_CONNECTIONS = 6
    message = to_people(500)
    with working(3):
        eventually(lambda: sorted(ConnectionShare.objects.values_list("in_use", flat=True)) == [2, 2, 2])

    assert message.records.counts()["sent"] == 500
    assert server.most_connections <= 6
    assert not ConnectionShare.objects.exists()


def test_dispatcher_that_has_all_connections_gives_some_back_to_one_that_comes_later(server, settings):
    settings.EMAIL_CONNECTIONS = 6
    message = to_people(400)
    with working():
        eventually(lambda: server.most_connections == 6)
        with working():
            eventually(lambda: sorted(ConnectionShare.objects.values_list("in_use", flat=True)) == [3, 3])

    assert message.records.counts()["sent"] == 400
    assert server.most_connections <= 6


def test_backlog_asks_for_one_more_dispatcher_and_a_few_records_for_none(server, settings):
    settings.EMAIL_CONNECTIONS = 2
    asked = []
    to_people(5)
    for number in (0, 120):
        to_people(number)
        dispatcher.dispatch(
            clock=timezone.now,
            until=timezone.now() + timedelta(seconds=60),
            ask_for_another=lambda number=number: asked.append(number),
        )

    assert asked == [120]


def answer_customers(count: int = 1) -> None:
    """Answer so many customers, each in a conversation, so that the emails are due now."""
    asked = timezone.now() - timedelta(hours=1)
    grace = User.objects.create_user("grace", is_staff=True)
    for number in range(count):
        customer = CustomerFactory(email=f"asks{number}@x.example", last_seen_at=asked, unsubscribed_from_emails=True)
        thread = threads.open_by_customer(customer, body="Where is it?", at=asked)
        threads.reply_by_teammate(thread, teammate=grace, body="Here", at=asked + timedelta(minutes=1))


def send_answers() -> int:
    return answer_emails.send_due_answer_emails(clock=timezone.now, until=timezone.now() + timedelta(seconds=30))


@pytest.mark.parametrize("total", [4, 20])
def test_answer_email_gets_a_connection_of_a_campaign_that_has_all_of_them(server, settings, total):
    settings.EMAIL_CONNECTIONS, server.allows = total, 4
    message = to_people(400)
    answer_customers()
    try:
        with working():
            # After a refusal it may use fewer than four, so wait for the most that were open.
            eventually(lambda: server.most_connections == 4)
            eventually(ConnectionShare.objects.filter(is_answered=True).exists)
            asked = time.monotonic()
            assert send_answers() == 1
            before = len(server.accepted)
            eventually(lambda: len(server.accepted) >= before + 20)
            shutdown.request_for_all()
    finally:
        process.reset()

    (found,) = [email for email in server.accepted if email.recipient == "asks0@x.example"]
    assert found.began - asked < 3
    assert message.records.filter(status=Status.WAITING, attempts=0).exists()
    assert server.most_connections <= 4
    assert server.refused == 0 or total > 4
    assert not ChannelOutage.objects.exists()
    assert not ConnectionShare.objects.exists()


def test_answer_email_takes_the_only_connection_of_a_campaign_which_continues_later(server, settings, monkeypatch):
    settings.EMAIL_CONNECTIONS = server.allows = 1
    queued: list[object] = []
    monkeypatch.setattr(tasks, "enqueue_task", queued.append)
    message = to_people(60)
    answer_customers()
    with working():
        eventually(ConnectionShare.objects.filter(is_answered=True).exists)
        tasks.forward_answers()

    assert "asks0@x.example" in {email.recipient for email in server.accepted}
    assert queued == [tasks.hand_over_due]
    assert message.records.filter(status=Status.WAITING, attempts=0).count() > 5
    send_all()
    assert message.records.counts()["sent"] == 60
    assert (server.most_connections, server.refused) == (1, 0)


def test_answer_email_gets_a_slot_of_the_throttle_beside_a_campaign(server):
    Pace.objects.create(channel="email", per_second=20)
    message = to_people(300)
    answer_customers(3)
    try:
        with working(2):
            eventually(lambda: len(server.accepted) >= 5)
            asked = time.monotonic()
            assert send_answers() == 3
            took = time.monotonic() - asked
            shutdown.request_for_all()
    finally:
        process.reset()

    assert took < 6
    assert message.records.filter(status=Status.WAITING).count() > 100


def test_answers_are_settled_although_the_database_connection_is_lost(server):
    server.delay = 0.3
    answer_customers(6)
    with working(send=send_answers) as (sent,):
        eventually(lambda: server.in_flight >= 2)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    assert sent.result() == 6
    assert set(AnswerMail.objects.values_list("status", "attempts")) == {(Status.SENT, 1)}
    assert len(server.emails) == 6
