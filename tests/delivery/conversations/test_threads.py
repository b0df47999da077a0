"""Threads: replies of customers and teammates, notes, assignment and state."""

from datetime import timedelta

import pytest

from audiences.models import Notification, Subscription, Topic
from delivery.conversations import threads
from delivery.models import Conversation, PartType
from delivery.visits import visit
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def teammate(django_user_model):
    return django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)


@pytest.fixture
def started(at) -> Conversation:
    """A conversation started by one of our messages."""
    customer = CustomerFactory()
    MessageFactory(in_app=True, live=True)
    visit.visit(customer, at=at)
    return Conversation.objects.get()


def subscribe(*topics: Topic, at) -> Subscription:
    url = "https://hooks.example/outbound"
    return Subscription.objects.create(url=url, topics=list(topics), created_at=at, updated_at=at)


def test_conversation_enters_the_inbox_at_the_first_reply(started, teammate, at):
    assert not Conversation.objects.in_inbox().exists()

    threads.reply_by_teammate(started, teammate=teammate, body="Any questions?", at=at)

    assert Conversation.objects.in_inbox().get() == started
    assert started.first_reply_at is None


def test_customers_reply_waits_for_an_answer_and_counts_for_the_message(started, at):
    later = at + timedelta(minutes=5)

    part = threads.reply_by_customer(started, body="Yes & <no>", at=later)
    threads.reply_by_customer(started, body="Hello?", at=later + timedelta(minutes=1))

    assert part.body == "<p>Yes &amp; &lt;no&gt;</p>"
    assert (started.first_reply_at, started.waiting_since, started.read) == (later, later, True)
    assert (started.record.replied_at, started.record.opened_at) == (later, later)
    started.customer.refresh_from_db()
    assert started.customer.last_heard_from_at == later + timedelta(minutes=1)


def test_teammates_reply_ends_the_waiting_and_is_unread(started, teammate, at):
    threads.reply_by_customer(started, body="Hello?", at=at)

    part = threads.reply_by_teammate(started, teammate=teammate, body="<b>Hi</b><script>x()</script>", at=at)

    assert part.body == "<b>Hi</b>"
    assert (started.waiting_since, started.read) == (None, False)
    threads.mark_read(started)
    assert Conversation.objects.get().read


def test_reading_an_old_version_leaves_a_newer_answer_unread(started, teammate, at):
    read = started.updated_at.isoformat()
    threads.reply_by_teammate(started, teammate=teammate, body="Hi", at=at + timedelta(microseconds=9))

    assert not threads.mark_read(started, version=read)
    assert not Conversation.objects.get().read
    assert threads.mark_read(started, version=Conversation.objects.get().updated_at.isoformat())
    assert Conversation.objects.get().read


def test_note_does_not_mark_the_conversation_unread(started, teammate, at):
    threads.mark_read(started)

    threads.add_note(started, teammate=teammate, body="Careful\n\nwith them", at=at)

    assert started.read
    assert started.parts.get().body == "<p>Careful</p><p>with them</p>"
    assert not Conversation.objects.in_inbox().exists()


@pytest.mark.parametrize("state", ["closed", "snoozed"])
def test_customers_reply_reopens_closed_and_snoozed_conversations(started, teammate, at, state):
    if state == "closed":
        threads.close(started, teammate=teammate, at=at)
    else:
        threads.snooze(started, until=at + timedelta(days=1), teammate=teammate, at=at)
    assert started.state == state

    threads.reply_by_customer(started, body="One more thing", at=at)

    assert (started.state, started.snoozed_until) == ("open", None)


def test_snoozed_conversation_wakes_at_its_time(started, teammate, at):
    threads.snooze(started, until=at + timedelta(hours=1), teammate=teammate, at=at)

    assert threads.wake_snoozed(at=at + timedelta(minutes=59)) == 0
    assert threads.wake_snoozed(at=at + timedelta(hours=1)) == 1

    started.refresh_from_db()
    assert started.state == "open"
    assert started.parts.last().part_type == PartType.OPEN


def test_conversation_is_assigned_and_unassigned(started, teammate, at):
    threads.assign(started, to=teammate, teammate=teammate, at=at)
    assert started.assignee == teammate

    part = threads.assign(started, to=None, teammate=teammate, at=at)

    assert (started.assignee, part.assigned_to) == (None, None)


def test_parts_are_announced_only_to_subscribed_topics(started, teammate, at):
    subscribe(Topic.CONVERSATION_USER_REPLIED, Topic.CONVERSATION_ADMIN_CLOSED, at=at)
    subscribe(Topic.USER_CREATED, at=at)

    part = threads.reply_by_customer(started, body="Hello?", at=at)
    threads.reply_by_teammate(started, teammate=teammate, body="Hi", at=at)
    threads.close(started, teammate=teammate, at=at)

    told = Notification.objects.order_by("pk")
    assert [row.topic for row in told] == ["conversation.user.replied", "conversation.admin.closed"]
    assert told[0].about == {"conversation": started.pk, "part": part.pk}
    assert told[0].customer == started.customer
