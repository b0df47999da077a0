"""Outgoing webhooks to a real server on this machine: signed, retried, settled once."""

import hashlib
import hmac
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection

from audiences import intake, webhook_outbox
from audiences.intake.attributes.fields import raise_refusal
from audiences.models import Notification, Subscription, Topic, Workspace
from delivery import tasks
from delivery.conversations import threads
from delivery.customers import merge
from delivery.matching import ongoing
from delivery.models.record_log import EVENTS
from delivery.tracking import links
from delivery.webhooks import dispatcher
from delivery.webhooks.dispatcher import BACK_OFF
from delivery.webhooks.notification import ITEMS
from tests.factories import CustomerFactory, MessageFactory, TagFactory
from tests.support.webhook_subscriber import Subscriber, serve

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def this_machine_is_allowed(settings) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    with serve() as server:
        yield server


@pytest.fixture
def hanging() -> Iterator[Subscriber]:
    """A server that answers only when it is allowed to."""
    with serve() as server:
        server.may_answer.clear()
        yield server


def subscribe(server: Subscriber, at, *, number: int = 1) -> list[Subscription]:
    return [
        Subscription.objects.create(
            url=server.url, topics=["user.created"], secret="s3cret", created_at=at, updated_at=at
        )
        for _ in range(number)
    ]


@pytest.fixture
def subscription(subscriber, at) -> Subscription:
    """A subscription to each topic but those of messages, which have tests of their own."""
    topics = [topic for topic in Topic if topic not in (Topic.PING, Topic.ALL, *EVENTS)]
    return Subscription.objects.create(url=subscriber.url, topics=topics, secret="s3cret", created_at=at, updated_at=at)


def dispatch_at(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def test_every_topic_has_a_payload():
    assert {topic.value.split(".")[0] for topic in Topic if topic is not Topic.ALL} == {*ITEMS} - {"tag"}


def test_notification_is_sent_once_and_signed(subscriber, subscription, at):
    customer = intake.identify({"user_id": "u1", "email": "ann@x.example", "name": "Ann"}, at=at)

    assert (dispatch_at(at), dispatch_at(at)) == (1, 0)

    [(headers, body)] = subscriber.heard
    assert headers["X-Hub-Signature"] == "sha1=" + hmac.new(b"s3cret", body, hashlib.sha1).hexdigest()
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    [told] = subscriber.notifications
    assert (told["type"], told["topic"], told["delivery_attempts"]) == ("notification_event", "user.created", 1)
    assert told["created_at"] == told["first_sent_at"] == int(at.timestamp())
    item = told["data"]["item"]
    assert (item["type"], item["id"], item["email"]) == ("user", str(customer.pk), "ann@x.example")
    row = Notification.objects.get()
    assert (row.state, row.response_status, row.settled_at) == ("delivered", 200, at)


def test_payload_of_every_customer_topic(subscriber, subscription, at):
    customer = intake.identify(
        {"user_id": "u1", "email": "ann@x.example", "companies": [{"company_id": "6", "name": "Acme"}]}, at=at
    )
    intake.identify({"user_id": "u1", "email": "ann@y.example", "unsubscribed_from_emails": True}, at=at)
    label = TagFactory(name="VIP")
    intake.add_tag(label, [customer], at=at)
    intake.add_tag(label, [customer], at=at)
    intake.remove_tag(label, [customer], at=at)
    intake.record_event(customer, "ordered", at, {"price": 5}, at=at)
    intake.record_event(customer, "ordered", at, {"price": 5}, at=at)
    intake.archive_customer(customer, at=at)
    intake.archive_customer(customer, at=at)

    dispatch_at(at)

    told = {entry["topic"]: entry["data"]["item"] for entry in subscriber.notifications}
    assert [entry["topic"] for entry in subscriber.notifications] == [
        "user.created",
        "company.created",
        "user.email.updated",
        "user.unsubscribed",
        "user.tag.created",
        "user.tag.deleted",
        "event.created",
        "user.deleted",
    ]
    assert told["company.created"]["name"] == "Acme"
    assert told["user.tag.created"]["tag"]["name"] == "VIP"
    assert told["user.tag.created"]["user"]["user_id"] == "u1"
    assert (told["event.created"]["event_name"], told["event.created"]["metadata"]) == ("ordered", {"price": 5})


def test_lead_is_sent_as_a_contact(subscriber, subscription, at):
    lead = CustomerFactory(lead=True)
    intake.add_tag(TagFactory(), [lead], at=at)
    intake.archive_customer(lead, at=at)

    dispatch_at(at)

    assert [entry["topic"] for entry in subscriber.notifications] == ["contact.tag.created", "contact.deleted"]


def test_merge_of_a_lead_is_sent(subscriber, subscription, at):
    user, known, unknown = CustomerFactory(user_id="u1"), CustomerFactory(lead=True), CustomerFactory(lead=True)
    for lead, name in ((known, "u1"), (unknown, "u2")):
        merge.log_in(lead, {"user_id": name}, at=at, source=intake.Source.REST, on_bad_value=raise_refusal)

    dispatch_at(at)

    signed_up = [
        entry["data"]["item"]["id"] for entry in subscriber.notifications if entry["topic"] == "contact.signed_up"
    ]
    assert signed_up == [str(user.pk), str(unknown.pk)]


def test_unsubscribe_by_link_is_sent_once_for_each_customer_with_the_address(subscriber, subscription, at):
    customer = CustomerFactory(email="ann@x.example")
    message = MessageFactory(live=True)
    ongoing.match(message, at=at)
    other = CustomerFactory(email="ann@x.example")

    for _ in range(2):
        links.unsubscribe(message.records.select_related("customer").get(), at=at)
    dispatch_at(at)

    sent = [(entry["topic"], entry["data"]["item"]["id"]) for entry in subscriber.notifications]
    assert sent == [("user.unsubscribed", str(one.pk)) for one in (customer, other)]


def test_reply_is_sent_with_its_conversation_and_that_part(subscriber, subscription, at):
    begun = threads.open_by_customer(CustomerFactory(user_id="u1"), body="Hello?", at=at)
    threads.reply_by_customer(begun, body="First", at=at)
    threads.reply_by_customer(begun, body="Second", at=at)

    dispatch_at(at)

    created, first, second = subscriber.notifications
    assert created["topic"] == "conversation.user.created"
    assert created["data"]["item"]["conversation_message"]["body"] == "<p>Hello?</p>"
    assert created["data"]["item"]["conversation_parts"]["conversation_parts"] == []
    bodies = [
        [p["body"] for p in t["data"]["item"]["conversation_parts"]["conversation_parts"]] for t in (first, second)
    ]
    assert bodies == [["<p>First</p>"], ["<p>Second</p>"]]
    assert second["data"]["item"]["user"]["user_id"] == "u1"


def test_ping_is_sent_for_any_topics(subscriber, subscription, at):
    webhook_outbox.announce_ping(subscription, at=at)

    dispatch_at(at)

    assert [entry["topic"] for entry in subscriber.notifications] == ["ping"]


def test_rolled_back_change_writes_no_notification(subscription, at):
    with pytest.raises(intake.Refused):
        intake.identify({"user_id": "u1", "companies": [{"company_id": "6"}], "signed_up_at": "soon"}, at=at)

    assert not Notification.objects.exists()


def test_failed_notification_is_retried_with_the_same_payload(subscriber, subscription, at):
    customer = intake.identify({"user_id": "u1", "name": "Ann"}, at=at)
    subscriber.status = 500
    when = at

    assert (dispatch_at(when), dispatch_at(when)) == (1, 0)
    intake.identify({"id": str(customer.pk), "name": "Ann Lee"}, at=at)
    for wait in BACK_OFF:
        assert dispatch_at(when + wait - timedelta(seconds=1)) == 0
        when += wait
        assert dispatch_at(when) == 1

    row = Notification.objects.get()
    assert (row.state, row.attempts, row.detail) == ("failed", len(BACK_OFF) + 1, "HTTP status 500.")
    assert dispatch_at(when + timedelta(days=9)) == 0
    assert {entry["data"]["item"]["name"] for entry in subscriber.notifications} == {"Ann"}
    assert [entry["delivery_attempts"] for entry in subscriber.notifications] == list(range(1, len(BACK_OFF) + 2))
    subscription.refresh_from_db()
    assert subscription.failing_since == at


def test_failing_subscription_uses_one_attempt_per_batch(subscriber, subscription, at):
    for name in ("u1", "u2", "u3"):
        intake.identify({"user_id": name}, at=at)
    subscriber.status = 503

    assert dispatch_at(at) == 1
    subscriber.status = 200
    assert dispatch_at(at + BACK_OFF[0]) == 3

    assert [entry["data"]["item"]["user_id"] for entry in subscriber.notifications] == ["u1", "u1", "u2", "u3"]
    assert sorted(Notification.objects.values_list("attempts", flat=True)) == [1, 1, 2]
    subscription.refresh_from_db()
    assert subscription.failing_since is None


def test_redirect_is_not_followed(subscriber, subscription, at):
    intake.identify({"user_id": "u1"}, at=at)
    subscriber.status = 302

    dispatch_at(at)

    assert Notification.objects.get().detail == "HTTP status 302."


def test_status_410_deactivates_the_subscription(subscriber, subscription, at):
    intake.identify({"user_id": "u1"}, at=at)
    subscriber.status = 410

    dispatch_at(at)
    intake.identify({"user_id": "u2"}, at=at)

    subscription.refresh_from_db()
    assert not subscription.active
    assert Notification.objects.get().state == "failed"


def test_expired_lease_is_sent_again(subscriber, subscription, at):
    intake.identify({"user_id": "u1"}, at=at)
    assert len(dispatcher.OUTBOX.claim(Notification.objects.due(at), at=at, limit=1)) == 1

    assert dispatch_at(at + dispatcher.OUTBOX.lease) == 0
    assert dispatch_at(at + dispatcher.OUTBOX.lease + timedelta(seconds=1)) == 1


def test_unreachable_server_is_retried(subscription, at):
    Subscription.objects.update(url="http://127.0.0.1:1/")
    intake.identify({"user_id": "u1"}, at=at)

    dispatch_at(at)

    row = Notification.objects.get()
    assert (row.state, row.response_status) == ("waiting", None)
    assert "refused" in row.detail


@pytest.mark.django_db(transaction=True)
def test_only_one_worker_dispatches_at_a_time(subscriber, subscription, at):
    Workspace.current()
    intake.identify({"user_id": "u1"}, at=at)

    def other_worker() -> int:
        try:
            return dispatch_at(at)
        finally:
            connection.close()

    with dispatcher.single_dispatcher() as is_mine, ThreadPoolExecutor(1) as pool:
        assert is_mine
        assert pool.submit(other_worker).result() == 0

    assert dispatch_at(at) == 1


def test_worker_is_nudged_after_the_commit(subscription, at, monkeypatch, django_capture_on_commit_callbacks):
    nudged: list[object] = []
    monkeypatch.setattr(tasks, "enqueue_task", nudged.append)

    with django_capture_on_commit_callbacks(execute=True):
        intake.identify({"user_id": "u1"}, at=at)
        assert nudged == []

    assert nudged == [tasks.tell_subscribers]


def test_sweep_enqueues_notifications_jobs_and_snoozed_conversations(subscription, at, monkeypatch):
    nudged: list[object] = []
    monkeypatch.setattr(tasks, "enqueue_task", nudged.append)
    begun = threads.open_by_customer(CustomerFactory(), body="Hello?", at=at)
    threads.snooze(begun, until=at, teammate=None, at=at)

    tasks.sweep()

    begun.refresh_from_db()
    assert begun.state == "open"
    assert {tasks.tell_subscribers, tasks.work_off_jobs} <= set(nudged)


def test_log_is_kept_for_30_days(subscriber, subscription, at):
    intake.identify({"user_id": "u1"}, at=at)
    dispatch_at(at)

    assert dispatcher.delete_old_notifications(at=at + timedelta(days=30)) == 0
    assert dispatcher.delete_old_notifications(at=at + timedelta(days=31)) == 1


def test_payload_error_fails_only_its_own_notification(subscriber, subscription, at):
    customer = intake.identify({"user_id": "u1"}, at=at)
    intake.record_event(customer, "ordered", None, None, at=at)
    intake.record_event(customer, "paid", None, None, at=at)
    customer.events.filter(name="ordered").delete()

    dispatch_at(at)

    assert [told["data"]["item"].get("event_name") for told in subscriber.notifications] == [None, "paid"]
    given_up = Notification.objects.get(state="failed")
    assert (given_up.about["event"], given_up.settled_at) == ("ordered", at)
    assert given_up.detail == "The payload could not be built."
    subscription.refresh_from_db()
    assert subscription.failing_since is None


class Waiting:
    """A dispatcher that was begun, and is asked step by step."""

    def __init__(self, at) -> None:
        self.streams = dispatcher.Streams(clock=lambda: at, until=at + timedelta(seconds=1))

    def begin(self) -> None:
        self.streams.begin(self.streams.claim())

    def settle(self) -> None:
        self.streams.settle_answers(timeout=5)

    def in_flight(self) -> list[int]:
        return [one.subscription_id for one in self.streams.in_flight.values()]


def test_subscriber_that_hangs_delays_no_other(subscriber, hanging, at):
    (slow,), _ = subscribe(hanging, at), subscribe(subscriber, at)
    for name in ("u1", "u2", "u3"):
        intake.identify({"user_id": name}, at=at)
    waiting = Waiting(at)

    with waiting.streams:
        for _ in range(3):
            waiting.begin()
            waiting.settle()
        waiting.begin()
        assert waiting.in_flight() == [slow.pk]
        hanging.may_answer.set()
        waiting.streams.settle_rest()

    assert [told["data"]["item"]["user_id"] for told in subscriber.notifications] == ["u1", "u2", "u3"]
    assert len(hanging.heard) == 1


def test_each_subscription_has_one_request_in_flight_and_its_notifications_in_order(subscriber, hanging, at):
    subscribe(hanging, at)
    for number in range(5):
        intake.identify({"user_id": f"u{number}"}, at=at)
    threading.Timer(0.3, hanging.may_answer.set).start()

    assert dispatch_at(at) == 5

    assert [told["data"]["item"]["user_id"] for told in hanging.notifications] == [f"u{number}" for number in range(5)]
    assert hanging.most_at_once == 1


def test_notification_written_while_another_subscriber_hangs_is_sent_at_once(subscriber, hanging, at):
    subscribe(hanging, at)
    intake.identify({"user_id": "u1"}, at=at)
    waiting = Waiting(at)

    with waiting.streams:
        waiting.begin()
        subscribe(subscriber, at)
        intake.identify({"user_id": "u2"}, at=at)
        waiting.begin()
        waiting.settle()
        hanging.may_answer.set()
        waiting.streams.settle_rest()

    assert [told["data"]["item"]["user_id"] for told in subscriber.notifications] == ["u2"]


def test_slow_subscribers_use_at_most_half_of_the_threads(settings, subscriber, hanging, at):
    settings.WEBHOOK_CONNECTIONS = 4
    subscribe(hanging, at, number=5)
    Subscription.objects.update(failing_since=at)
    (fast,) = subscribe(subscriber, at)
    intake.identify({"user_id": "u1"}, at=at)
    waiting = Waiting(at)

    with waiting.streams:
        waiting.begin()
        assert len(waiting.in_flight()) == 3
        assert fast.pk in waiting.in_flight()
        waiting.begin()
        assert len(waiting.in_flight()) == 3
        waiting.settle()
        assert len(waiting.in_flight()) == 2
        hanging.may_answer.set()
        waiting.streams.send_due()

    assert len(hanging.heard) == 5


def test_slow_subscriber_is_sent_to_over_the_only_connection(settings, subscriber, subscription, at):
    settings.WEBHOOK_CONNECTIONS = 1
    Subscription.objects.update(failing_since=at)
    intake.identify({"user_id": "u1"}, at=at)

    assert dispatch_at(at) == 1


def test_subscription_in_flight_at_another_worker_is_left_alone(subscriber, subscription, at):
    for name in ("u1", "u2"):
        intake.identify({"user_id": name}, at=at)
    (taken,) = dispatcher.OUTBOX.claim(Notification.objects.due(at), at=at, limit=1)

    assert dispatch_at(at) == 0
    dispatcher.OUTBOX.settle(taken, status="delivered", settled_at=at)
    assert dispatch_at(at) == 1
    assert [told["data"]["item"]["user_id"] for told in subscriber.notifications] == ["u2"]


def test_sending_thread_uses_no_database_connection(subscriber, subscription, at, monkeypatch):
    used: list[bool] = []

    def post(*_request: object, **_headers: object) -> int:
        used.append(connection.connection is not None)
        return 200

    monkeypatch.setattr(dispatcher.safe_http, "post", post)
    intake.identify({"user_id": "u1"}, at=at)

    assert dispatch_at(at) == 1
    assert used == [False]


def test_unforeseen_error_of_a_request_is_retried_and_stops_no_other(subscriber, subscription, at, monkeypatch):
    def post(*_request: object, **_headers: object) -> int:
        raise ZeroDivisionError("not foreseen")

    monkeypatch.setattr(dispatcher.safe_http, "post", post)
    intake.identify({"user_id": "u1"}, at=at)

    dispatch_at(at)

    row = Notification.objects.get()
    assert (row.state, row.detail) == ("waiting", "ZeroDivisionError: not foreseen")


def test_paused_subscription_is_sent_to_at_once_on_request(subscriber, subscription, at):
    subscriber.status = 500
    intake.identify({"user_id": "u1"}, at=at)
    dispatch_at(at)
    subscriber.status = 200

    assert dispatcher.send_again(Notification.objects.get(), at=at)
    assert dispatch_at(at) == 1
    Subscription.objects.update(paused_until=at + timedelta(minutes=1))
    webhook_outbox.announce_ping(subscription, at=at)
    assert dispatch_at(at) == 1
