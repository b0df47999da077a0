"""Saved replies: their pages, and their text filled in for the customer of a conversation."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from delivery.conversations import threads
from delivery.models import Conversation
from messaging.models import SavedReply
from tests.factories import AT, CustomAttributeFactory, CustomerFactory, MembershipFactory

pytestmark = pytest.mark.django_db
ADD = reverse("admin:messaging_savedreply_add")


@pytest.fixture
def thread() -> Conversation:
    CustomAttributeFactory(name="plan", kind="text")
    ada = CustomerFactory(name="Ada Byron", attributes={"plan": "<b>pro</b>"})
    MembershipFactory(customer=ada, company__name="Byron & Co")
    return threads.open_by_customer(ada, body="Hello", at=AT)


def found(console, thread: Conversation, words: str = "") -> list[dict]:
    return console.get(reverse("admin:conversation_saved_replies", args=[thread.pk]), {"q": words}).json()["replies"]


def test_reply_is_filled_in_for_the_customer_and_escaped(console, thread):
    text = "Hello {{ first_name }},\n\nyou are on {{ custom_attributes.plan }} at {{ company.name }}."
    SavedReply.objects.create(name="Plan", body=text)

    (reply,) = found(console, thread)

    assert (reply["name"], reply["missing"]) == ("Plan", [])
    assert "Hello Ada," in reply["html"]
    assert "&lt;b&gt;pro&lt;/b&gt; at Byron &amp; Co." in reply["html"]


def test_value_that_is_not_known_is_shown_as_such_unless_it_has_a_default(console, thread):
    text = "Hello {{ first_name | default: 'there' }} from {{ city }}, {{ phone | default: 'no phone' }}."
    SavedReply.objects.create(name="Place", body=text)

    (reply,) = found(console, thread)

    assert reply["missing"] == ["city"]
    assert "Hello Ada from [city], no phone." in reply["html"]


def test_replies_are_found_by_all_words_in_name_and_text(console, thread):
    SavedReply.objects.create(name="Refund", body="The money is on its way.")
    SavedReply.objects.create(name="Delay", body="We are sorry for the delay of your refund.")
    SavedReply.objects.create(name="Hello", body="Hello")

    assert [reply["name"] for reply in found(console, thread)] == ["Delay", "Hello", "Refund"]
    assert [reply["name"] for reply in found(console, thread, "refund")] == ["Delay", "Refund"]
    assert [reply["name"] for reply in found(console, thread, "refund MONEY")] == ["Refund"]
    assert found(console, thread, "nothing") == []
    answer = console.get(reverse("admin:conversation_saved_replies", args=[thread.pk]), {"q": "x" * 300})
    assert answer.status_code == 400


def test_reply_whose_variable_was_removed_names_the_error(console, thread):
    SavedReply.objects.create(name="Broken", body="Hello {{ name | }")

    assert found(console, thread)[0]["wrong"].startswith("This reply has an error: ")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("Hello {{ nothing }}", "Line 1"),
        ("Hello\n{{ name", "Line 2"),
        ("{{ unsubscribe_url }}", "An answer has no link to unsubscribe."),
        ("", "This field is required."),
    ],
)
def test_text_that_cannot_be_filled_in_is_refused_at_its_field(console, body, says):
    answer = console.post(ADD, {"name": "Reply", "body": body})

    assert says in " ".join(answer.context["adminform"].form.errors["body"])
    assert not SavedReply.objects.exists()


def test_reply_is_written_changed_and_deleted_with_an_entry_in_the_log(console):
    console.post(ADD, {"name": "Refund", "body": "Hello"})
    reply = SavedReply.objects.get()
    again = console.post(ADD, {"name": "refund", "body": "Hello"})
    assert "A saved reply with this name already exists." in again.content.decode()

    change = reverse("admin:messaging_savedreply_change", args=[reply.pk])
    console.post(change, {"name": "Refund", "body": "Bye", "seen": console.get(change).context["seen"]})
    assert SavedReply.objects.get().body == "Bye"
    assert "from “Hello” to “Bye”" in LogEntry.objects.first().change_message

    console.post(reverse("admin:messaging_savedreply_delete", args=[reply.pk]), {"post": "yes"})
    assert not SavedReply.objects.exists()
