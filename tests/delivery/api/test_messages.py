"""POST /messages by channel, the result at GET /messages/{id}, and ids that no conversation has."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from audiences.models import Customer, Integration
from delivery.conversations import threads
from delivery.models import Conversation, DeliveryRecord
from delivery.visits import visit
from messaging.models import Message
from tests.factories import CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory

pytestmark = pytest.mark.django_db

CHANNELS = {
    None: ("in_app", "chat"),
    "inapp": ("in_app", "chat"),
    "announcement": ("in_app", "announcement"),
    "push": ("push", ""),
    "email": ("email", ""),
}


@pytest.fixture
def api() -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='tests')[1]}")
    return client


@pytest.fixture
def teammate(django_user_model):
    return django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)


@pytest.fixture
def ann(at) -> Customer:
    customer = CustomerFactory(user_id="ann", email="ann@x.example")
    customer.devices.create(token="a-phone", created_at=at)
    return customer


def message_to_ann(teammate, **facts: object) -> dict[str, object]:
    by = {"from": {"type": "admin", "id": str(teammate.pk)}, "to": {"type": "user", "user_id": "ann"}}
    return {**by, "subject": "Hey", "body": "Hello", **facts}


@pytest.mark.parametrize("kind", CHANNELS)
def test_message_goes_out_by_the_channel_of_its_type_and_in_app_by_default(api, teammate, ann, kind):
    named = {"message_type": kind, "link": "https://x.example/"} if kind else {}

    answered = api.post("/api/messages", message_to_ann(teammate, **named), format="json")

    assert answered.status_code == 200, answered.json()
    message = Message.objects.get()
    assert (message.channel, message.format) == CHANNELS[kind]
    assert answered.json()["message_type"] == (kind or "inapp")
    assert message.version.link == ("https://x.example/" if kind == "push" else "")
    assert message.version.subject == ("Hey" if kind in ("email", "announcement", "push") else "")


@pytest.mark.parametrize(
    ("facts", "ignored"),
    [
        ({}, "subject"),
        ({"subject": "", "template": "plain", "link": "https://x.example/"}, "template, link"),
        ({"subject": "", "company_id": "6"}, "company_id"),
        ({"message_type": "email"}, None),
        ({"message_type": "push", "template": "plain", "titel": "x"}, "titel, template"),
    ],
)
def test_key_without_effect_in_this_message_is_named_in_a_header(api, teammate, ann, facts, ignored):
    MembershipFactory(customer=ann, company__company_id="6")

    answered = api.post("/api/messages", message_to_ann(teammate, **facts), format="json")

    assert answered.status_code == 200, answered.json()
    assert answered.headers.get("X-Outbound-Ignored-Keys") == ignored


def test_text_with_a_company_variable_needs_a_company_of_the_customer(api, teammate, ann):
    MembershipFactory(customer=ann, company__company_id="6", company__name="Acme")
    CompanyFactory(company_id="7")
    sent = message_to_ann(teammate, message_type="email", body="Hello {{ company.name }}")

    errors = [
        api.post("/api/messages", {**sent, **named}, format="json").json()["errors"][0]
        for named in ({}, {"company_id": "7"}, {"company_id": "8"})
    ]

    assert [error["field"] for error in errors] == ["company_id"] * 3
    assert api.post("/api/messages", {**sent, "company_id": "6"}, format="json").status_code == 200
    assert DeliveryRecord.objects.get().company.company_id == "6"


def test_answer_says_where_status_times_and_conversation_can_be_read(api, teammate, ann, at, settings):
    answered = api.post("/api/messages", message_to_ann(teammate), format="json").json()
    address = answered["links"]["self"].removeprefix(settings.PUBLIC_URL)
    assert address == f"/api/messages/{answered['id']}"

    waiting = api.get(address).json()
    assert waiting == answered
    assert (waiting["status"], waiting["sent_at"], waiting["conversation_id"]) == ("waiting", None, None)
    assert waiting["reason"] == "Waits for the customer's next visit"
    assert waiting["to"] == {"type": "user", "id": str(ann.pk)}

    visit.visit(ann, at=at + timedelta(days=400))
    shown = api.get(address).json()
    assert (shown["status"], shown["reason"], shown["sent_at"] > shown["created_at"]) == ("sent", None, True)
    conversation = api.get(f"/api/conversations/{shown['conversation_id']}").json()
    assert conversation["conversation_message"]["id"] == answered["id"]


def test_customers_message_is_read_at_its_address_too(api, ann, settings):
    sent = {"from": {"type": "user", "user_id": "ann"}, "body": "Hi", "subject": "x", "to": {"type": "user"}}
    answered = api.post("/api/messages", sent, format="json")

    assert answered.headers["X-Outbound-Ignored-Keys"] == "to, subject"
    made = answered.json()
    assert api.get(made["links"]["self"].removeprefix(settings.PUBLIC_URL)).json() == made
    begun = api.get(f"/api/conversations/{made['conversation_id']}").json()
    assert begun["conversation_message"]["id"] == made["id"]


def test_id_of_a_message_never_finds_a_conversation_nor_the_reverse(api, teammate, ann, at):
    api.post("/api/messages", message_to_ann(teammate), format="json")
    message = Message.objects.get()
    stranger = threads.open_by_customer(CustomerFactory(user_id="bob"), body="Hi", at=at)
    Conversation.objects.filter(pk=stranger.pk).update(id=message.pk)
    answer = {"type": "admin", "admin_id": str(teammate.pk), "message_type": "comment", "body": "For Ann only"}

    for used in (f"msg_{message.pk}", f"umsg_{message.pk}"):
        replied = api.post(f"/api/conversations/{used}/reply", answer, format="json")
        read = api.put(f"/api/conversations/{used}", {"read": True}, format="json")
        found = api.get(f"/api/conversations/{used}")

        assert {replied.status_code, read.status_code, found.status_code} == {404}
        assert f"GET /messages/{used} returns its conversation_id" in replied.json()["errors"][0]["message"]
    assert not Conversation.objects.get().parts.exists()
    assert api.get(f"/api/messages/{message.pk}").status_code == 404
    assert api.get(f"/api/messages/umsg_{message.pk}").json()["conversation_id"] == str(message.pk)
    assert api.get(f"/api/conversations/{message.pk}").json()["user"]["id"] != str(ann.pk)


def test_message_to_an_audience_is_found_in_the_outbound_list_only(api):
    message = MessageFactory(live=True)

    answered = api.get(f"/api/messages/msg_{message.pk}")

    assert answered.status_code == 404
    assert f"GET /outbound/msg_{message.pk}" in answered.json()["errors"][0]["message"]
    unknown = ("msg_999999", "msg_", "umsg_x", "msg_1 or 1")
    assert [api.get(f"/api/messages/{pk}").status_code for pk in unknown] == [404] * 4
