"""The home page: live messages, daily sends, stuck messages, replies and first steps."""

import json
import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from delivery.models import Conversation, DeliveryRecord, Reason, Status
from delivery.reporting import counters
from messaging import lifecycle
from messaging.models import Message
from tests.factories import AT, CustomerFactory, MessageFactory
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
HOME = "/admin/"


@pytest.fixture(autouse=True)
def beat_runs(db) -> None:
    PeriodicTask.objects.update(last_run_at=timezone.now())


def text(answer) -> str:
    page = re.sub(r"<(script|style).*?</\\1>", " ", answer.content.decode(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def stuck(answer) -> dict[str, str]:
    return {one.what: one.why for one in answer.context["stuck"]}


def send(message: Message, *, at) -> None:
    mark_records_sent(message.records.all(), at=at)


def test_new_workspace_shows_the_first_steps(console):
    page = console.get(HOME)

    assert [step.button for step in page.context["steps"]] == ["People", "Add a sender", "New message"]
    assert "No message is live." in text(page)
    assert "No replies yet." in text(page)


def test_workspace_in_use_shows_no_first_steps(console):
    CustomerFactory()
    MessageFactory()

    assert console.get(HOME).context["steps"] == []


def test_teammate_without_permissions_sees_an_empty_home(log_in_with):
    page = log_in_with().get(HOME)

    assert page.status_code == 200
    assert "Sent per day" not in text(page)
    assert page.context["steps"] == []


def test_home_shows_live_messages_with_counts(console):
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(title="Welcome", one_off=True, live=True)
    MessageFactory(title="A draft")
    send(message, at=timezone.now())
    DeliveryRecord.objects.update(opened_at=timezone.now())

    page = console.get(HOME)

    assert "Welcome One-off email 1 100 % 0" in text(page)
    assert [row["message"].title for row in page.context["live"]] == ["Welcome"]


def test_chart_shows_sent_copies_per_day_and_channel(console):
    CustomerFactory(email="ada@acme.example")
    now = timezone.now()
    send(MessageFactory(one_off=True, live=True), at=now)
    chat = MessageFactory(one_off=True, in_app=True, live=True)
    chat.records.update(status=Status.SENT, sent_at=now - timedelta(days=29), reason="")
    counters.fold_changes()

    chart = console.get(HOME).context["chart"]

    drawn = {one["label"]: one["data"] for one in json.loads(chart.data)["datasets"]}
    assert len(chart.labels) == 30
    assert drawn["Email"] == [0] * 29 + [1]
    assert drawn["In-app"] == [1] + [0] * 29


def test_home_says_that_no_message_is_stuck(console):
    page = console.get(HOME)

    assert stuck(page) == {}
    assert "No message is stuck." in text(page)


def test_trouble_is_stuck(console):
    message = MessageFactory(title="Welcome", live=True)
    Message.objects.filter(pk=message.pk).update(problem="A rule names a tag that is gone.")

    assert stuck(console.get(HOME)) == {"Welcome": "A rule names a tag that is gone."}


def test_message_that_paused_itself_is_stuck(console):
    message = MessageFactory(title="Welcome", live=True)
    Message.objects.filter(pk=message.pk).update(state="paused", paused_because="Many complaints.")

    assert stuck(console.get(HOME)) == {"Welcome": "It has paused itself. Many complaints."}


def test_late_scheduled_message_is_stuck(console):
    message = MessageFactory(title="Sale", one_off=True)
    lifecycle.schedule(message, for_=timezone.now() + timedelta(days=1), at=timezone.now())
    assert stuck(console.get(HOME)) == {}
    Message.objects.update(scheduled_for=timezone.now() - timedelta(hours=1))

    assert stuck(console.get(HOME))["Sale"].startswith("It was scheduled to go live ")


def test_message_with_overdue_copies_is_stuck(console):
    CustomerFactory(email="ada@acme.example")
    now = timezone.now()
    message = MessageFactory(title="Sale", one_off=True, live=True, at=now)
    assert stuck(console.get(HOME)) == {}
    message.records.update(due_at=now - timedelta(minutes=20))

    assert stuck(console.get(HOME))["Sale"].startswith("Due since ")


def test_messages_with_uncertain_or_failed_copies_are_stuck(console):
    CustomerFactory(email="ada@acme.example")
    CustomerFactory(email="bob@acme.example")
    now = timezone.now()
    first = MessageFactory(title="One", one_off=True, live=True, at=now)
    second = MessageFactory(title="Two", one_off=True, live=True, at=now)
    DeliveryRecord.objects.update(status=Status.SENDING, claim=uuid4(), leased_until=now)
    first.records.all().mark_uncertain(reason=Reason.LOST_TOUCH, detail="")
    second.records.all().mark_failed(reason=Reason.REJECTED, detail="no such user")
    counters.fold_changes()

    found = stuck(console.get(HOME))

    assert found["One"] == "2 copies are uncertain and may or may not have been sent."
    assert found["Two"] == "2 copies failed."


def test_a_silent_schedule_is_stuck(console):
    PeriodicTask.objects.filter(name="Send due messages").update(last_run_at=timezone.now() - timedelta(hours=1))

    assert "Is the scheduler (celery beat) running?" in stuck(console.get(HOME))["Send due messages"]
    PeriodicTask.objects.filter(name="Send due messages").update(enabled=False)
    assert stuck(console.get(HOME))["Send due messages"] == "This task is disabled in the schedule."


def test_shows_the_newest_replies_first(console):
    for name, hours in (("Ada", 2), ("Bob", 1)):
        when = AT - timedelta(hours=hours)
        thread = {"created_at": when, "updated_at": when, "first_reply_at": when, "inbox_at": when}
        Conversation.objects.create(customer=CustomerFactory(name=name), **thread)
    Conversation.objects.create(customer=CustomerFactory(name="Silent"), created_at=AT, updated_at=AT)

    replies = [str(reply["customer"]) for reply in console.get(HOME).context["replies"]]

    assert [name.split(" ")[0] for name in replies] == ["Bob", "Ada"]


def test_queries_do_not_grow_with_the_messages(console, django_assert_max_num_queries):
    def make(many: int) -> None:
        CustomerFactory(email=f"ada{many}@acme.example")
        for _ in range(many):
            Message.objects.filter(pk=MessageFactory(one_off=True, live=True).pk).update(problem="Something.")

    make(2)
    console.get(HOME)
    with django_assert_max_num_queries(100) as few:
        console.get(HOME)
    make(8)
    with django_assert_max_num_queries(len(few.captured_queries)):
        console.get(HOME)
