"""Events of messages for subscribers: written with the fact by triggers, once each, in any number."""

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audiences import intake
from audiences.intake.attributes.fields import raise_refusal
from audiences.models import Notification, Subscription, Topic
from delivery import change_thread, tasks
from delivery.channels import CHANNELS, Envelope, Rejected
from delivery.conversations import threads
from delivery.customers import erase, merge
from delivery.inbound import feedback
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Status
from delivery.models.record_log import EVENTS, SCANNER_WINDOW
from delivery.sending import uncertain
from delivery.tracking import in_app, links
from delivery.visits import visit
from delivery.webhooks import dispatcher
from delivery.webhooks.notification import standard_secret, standard_signature
from messaging.models import Channel
from tests.factories import CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory
from tests.support.records import mark_records_sent
from tests.support.sending import send_one_batch
from tests.support.webhook_subscriber import Subscriber, serve

pytestmark = pytest.mark.django_db

LATER = timedelta(hours=1)


@pytest.fixture
def subscriber(settings) -> Iterator[Subscriber]:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with serve() as server:
        yield server


def subscribe(at, *, topics=(Topic.ALL,), url="https://shop.example/hooks", **facts) -> Subscription:
    return Subscription.objects.create(url=url, topics=list(topics), created_at=at, updated_at=at, **facts)


def sent_record(at, **facts) -> DeliveryRecord:
    CustomerFactory(user_id="ann", email="ann@x.example", name="Ann")
    message = MessageFactory(one_off=True, live=True, at=at, title="Welcome", **facts)
    mark_records_sent(message.records.all(), at=at)
    return message.records.select_related("customer", "message").get()


def events() -> list[str]:
    """The topics of the message events that were written, in their order, without the prefix."""
    rows = Notification.objects.filter(topic__startswith="message.").order_by("pk")
    return [topic.removeprefix("message.") for topic in rows.values_list("topic", flat=True)]


def dispatch_at(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def report(record: DeliveryRecord, *kinds: FeedbackType, at) -> None:
    for kind in kinds:
        feedback.HANDLERS[kind](record, Feedback(type=kind, at=at, address="ann@x.example"))


def test_each_topic_of_messages_is_an_event_of_records():
    assert {topic for topic in Topic if topic.startswith("message.")} == set(EVENTS)


def test_each_fact_of_an_email_gives_one_event_however_often_it_is_reported(at):
    subscribe(at)
    record = sent_record(at)
    soon = at + LATER
    for when in (soon, soon + LATER):
        links.update_engagement_times(record, at=when, clicked=False)
        links.update_engagement_times(record, at=when, clicked=True)
        threads.reply_by_customer(threads.conversation_of_record(record, at=when), body="Hello", at=when)
        report(record, FeedbackType.ACCEPTED, FeedbackType.BOUNCED, FeedbackType.NO_MAILBOX, at=when)
        report(record, FeedbackType.COMPLAINED, FeedbackType.UNSUBSCRIBED, at=when)
        links.unsubscribe(record, at=when)

    assert events() == ["sent", "opened", "clicked", "replied", "bounced", "complained", "unsubscribed"]
    moments = Notification.objects.filter(topic__in=EVENTS).order_by("pk").values_list("created_at", "due_at")
    assert list(moments) == [(at, at), *[(soon, soon)] * 6]


def test_outcomes_of_sending_are_events_with_their_reason(at, subscriber, monkeypatch):
    class Moody:
        def send(self, envelope: Envelope) -> str:
            raise {"a": Rejected("550 No such list."), "b": RuntimeError("The line went dead.")}[envelope.to[0][0]]

        def close(self) -> None:
            """Nothing to close."""

    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Moody)
    subscribe(at, topics=["message.failed", "message.uncertain", "message.sent"], url=subscriber.url)
    for name in "ab":
        CustomerFactory(email=f"{name}@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)

    send_one_batch(message, clock=lambda: at)
    assert events() == ["failed", "uncertain"]
    uncertain.mark_as_sent(message.records.all(), at=at)

    assert dispatch_at(timezone.now()) == 3
    told = [(body["topic"], body["data"]["item"]["reason"]) for body in subscriber.notifications]
    assert told[0] == ("message.failed", "Refused: 550 No such list.")
    assert [topic for topic, _ in told] == ["message.failed", "message.uncertain", "message.sent"]


def test_payload_names_the_message_the_customer_and_the_company_and_is_signed_both_ways(at, subscriber):
    subscribe(at, url=subscriber.url, secret="s3cret")
    customer = CustomerFactory(user_id="ann", email="ann@x.example", name="Ann")
    company = CompanyFactory(company_id="6", name="Acme")
    MembershipFactory(customer=customer, company=company)
    message = MessageFactory(one_off=True, live=True, at=at, title="Renewal", body="Hello {{ company.name }}")
    mark_records_sent(message.records.all(), at=at)

    dispatch_at(at)

    [(headers, body)] = subscriber.heard
    [notification] = subscriber.notifications
    assert (notification["type"], notification["topic"]) == ("notification_event", "message.sent")
    assert notification["data"]["item"] == {
        "type": "message_event",
        "event": "sent",
        "happened_at": int(at.timestamp()),
        "delivery_id": str(message.records.get().pk),
        "message": {
            "type": "message",
            "id": f"msg_{message.pk}",
            "title": "Renewal",
            "message_type": "email",
            "send_type": "one_off",
        },
        "user": {
            "type": "user",
            "id": str(customer.pk),
            "user_id": "ann",
            "email": "ann@x.example",
            "name": "Ann",
        },
        "company": {"type": "company", "id": str(company.pk), "company_id": "6"},
        "sent_at": int(at.timestamp()),
        "reason": None,
    }
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-id"] == notification["id"]
    assert headers["webhook-timestamp"] == str(int(at.timestamp()))
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()


def test_signature_is_the_one_of_the_specification():
    # The published example of the libraries for Standard Webhooks.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'

    assert standard_signature(signed, secret=secret) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert standard_secret(secret) == secret
    assert standard_secret("s3cret") == "whsec_" + base64.b64encode(b"s3cret").decode()


def test_without_a_subscriber_to_the_topic_nothing_is_written(at):
    subscribe(at, topics=["user.created", "message.failed"])
    subscribe(at, topics=["message.sent"], active=False)

    record = sent_record(at)
    links.update_engagement_times(record, at=at, clicked=True)

    assert events() == []


def test_subscription_to_everything_gets_other_topics_too(at):
    subscribe(at)

    intake.identify({"user_id": "u1"}, at=at)

    assert list(Notification.objects.values_list("topic", flat=True)) == ["user.created"]


def test_events_of_many_copies_are_written_by_the_statement_that_settles_them(at):
    for _ in range(2):
        subscribe(at, topics=["message.sent"])
    for number in range(50):
        CustomerFactory(email=f"c{number}@x.example")
    message = MessageFactory(one_off=True, live=True, at=at)

    with CaptureQueriesContext(connection) as queries:
        mark_records_sent(message.records.all(), at=at)

    assert not [query for query in queries if "audiences_notification" in query["sql"]]
    assert events() == ["sent"] * 100
    keys = Notification.objects.order_by("pk").values_list("about__record", flat=True)
    assert list(keys) == sorted([*message.records.values_list("pk", flat=True)] * 2)


def test_in_app_message_is_sent_when_a_visit_shows_it(at):
    subscribe(at)
    customer = CustomerFactory(user_id="ann")
    MessageFactory(in_app=True, live=True, at=at)
    for _ in range(2):
        visit.visit(customer, at=at)
    record = DeliveryRecord.objects.select_related("message", "version").get()
    for _ in range(2):
        in_app.record_open(record, at=at)
        in_app.record_click(record, at=at)

    assert events() == ["sent", "opened", "clicked"]
    # No scanner opens it, so the events need not wait.
    assert set(Notification.objects.values_list("due_at", flat=True)) == {at}


def test_click_of_a_scanner_is_never_told(at, subscriber):
    subscribe(at, topics=["message.opened", "message.clicked"], url=subscriber.url)
    record = sent_record(at)
    second = timedelta(seconds=1)
    for after in (2, 3):
        links.update_engagement_times(record, at=at + after * second, clicked=True)
        DeliveryRecord.objects.filter(pk=record.pk).update(opened_at=None, clicked_at=None)
    # The customer really opens it, and a reclassified click leaves a later moment of the same open.
    links.update_engagement_times(record, at=at + 4 * second, clicked=False)
    DeliveryRecord.objects.filter(pk=record.pk).update(opened_at=at + 5 * second)

    assert dispatch_at(at + SCANNER_WINDOW - second) == 0
    dispatch_at(at + SCANNER_WINDOW)

    told = [(body["topic"], body["data"]["item"]["happened_at"]) for body in subscriber.notifications]
    assert told == [("message.opened", int(at.timestamp()) + 5)]
    assert Notification.objects.count() == 1


def test_merge_gives_no_event_and_moves_those_that_wait(at):
    subscribe(at, topics=["message.sent"])
    lead, user = CustomerFactory(lead=True), CustomerFactory(user_id="ann")
    message = MessageFactory(in_app=True, one_off=True, live=True, at=at)
    DeliveryRecord.objects.create(message=message, customer=lead, status=Status.SENT, sent_at=at, matched_at=at)
    DeliveryRecord.objects.filter(customer=user).update(status=Status.SENT, sent_at=at, reason="")
    assert events() == ["sent", "sent"]

    merge.log_in(lead, {"user_id": "ann"}, at=at, source=intake.Source.REST, on_bad_value=raise_refusal)

    assert events() == ["sent", "sent"]
    assert set(Notification.objects.values_list("customer", flat=True)) == {user.pk}


def test_erasure_deletes_the_events_of_the_customer(at):
    subscribe(at)
    record = sent_record(at)

    erase.erase(record.customer, at=at)

    assert events() == []


@pytest.mark.django_db(transaction=True)
def test_change_thread_wakes_the_dispatcher_for_events_that_triggers_wrote(at, monkeypatch):
    nudged, ended = threading.Event(), threading.Event()
    monkeypatch.setattr(tasks, "enqueue_webhooks", nudged.set)
    assert change_thread.wake_webhooks() == change_thread.IDLE_INTERVAL
    subscribe(at, topics=["message.sent"])
    assert change_thread.wake_webhooks() == change_thread.WEBHOOK_INTERVAL
    assert not nudged.is_set()
    sent_record(at)
    with dispatcher.single_dispatcher():
        change_thread.wake_webhooks()
    assert not nudged.is_set()

    thread = threading.Thread(target=change_thread.watch, kwargs={"until": ended})
    thread.start()
    try:
        assert nudged.wait(30)
    finally:
        ended.set()
        thread.join(timeout=20)


def test_dispatcher_finds_the_request_in_flight_beside_a_backlog_by_an_index(at):
    subscription = subscribe(at, topics=["message.sent"])
    Notification.objects.bulk_create(
        Notification(subscription=subscription, topic="message.sent", created_at=at, due_at=at) for _ in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audiences_notification")
        in_flight = Notification.objects.filter(subscription=subscription, state="sending", leased_until__gte=at)
        plan = in_flight.explain()

    assert "notification_in_flight" in plan
