"""POST /conversations/{id}/reply, in each of the forms clients send (wire 5.7, 5.8)."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from audiences.models import Integration
from delivery.api.replies import ACTIONS
from delivery.conversations import threads
from delivery.models import Conversation, PartType
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(settings) -> APIClient:
    settings.API_RATE_LIMIT = 0
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='tests')[1]}")
    return client


@pytest.fixture
def ada(django_user_model):
    return django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)


@pytest.fixture
def begun(at) -> Conversation:
    customer = CustomerFactory(user_id="u1", email="ann@x.example")
    return threads.open_by_customer(customer, body="Hello?", at=at)


@pytest.fixture
def reply(api, begun):
    def post(to: object = None, **sent: object):
        return api.post(f"/api/conversations/{to or begun.pk}/reply", sent, format="json")

    return post


def test_every_kind_of_part_can_be_added_by_a_teammate():
    assert set(ACTIONS) == set(PartType)


@pytest.mark.parametrize("named", [{"user_id": "u1"}, {"email": "Ann@x.example"}, {"intercom_user_id": None}])
def test_user_replies_by_each_identifier(reply, begun, named):
    named = {key: value or str(begun.customer_id) for key, value in named.items()}

    answered = reply(type="user", message_type="comment", body="Anybody?", conversation_id="ignored", **named)

    assert answered.status_code == 200, answered.json()
    [part] = answered.json()["conversation_parts"]["conversation_parts"]
    assert (part["part_type"], part["body"]) == ("comment", "<p>Anybody?</p>")
    assert part["author"] == {"type": "user", "id": str(begun.customer_id)}


def test_body_may_repeat_the_conversation_id_as_the_node_client_sends_it(reply, begun, ada):
    CustomerFactory(pk=begun.pk + 1000)  # Not with the conversation's id.

    by_user = reply(id=str(begun.pk), intercom_user_id=str(begun.customer_id), type="user", body="Mighty fine")
    by_ada = reply(id=str(begun.pk), type="admin", admin_id=str(ada.pk), message_type="comment", body="Is it?")
    to_last = reply("last", id="last", type="user", user_id="u1", body="It is")

    assert [answer.status_code for answer in (by_user, by_ada, to_last)] == [200, 200, 200], by_user.json()


def test_user_replies_with_files_only(reply):
    files = ["https://files.example/a/cat.png", "https://files.example/"]

    answered = reply(type="user", user_id="u1", attachment_urls=files)

    [part] = answered.json()["conversation_parts"]["conversation_parts"]
    assert [(file["name"], file["content_type"]) for file in part["attachments"]] == [
        ("cat.png", "image/png"),
        ("files.example", None),
    ]


def test_teammate_answers_and_the_last_reply_goes_to_the_newest_conversation(reply, begun, ada, at):
    newer = threads.open_by_customer(begun.customer, body="Another", at=at + timedelta(hours=1))
    last = reply("last", type="admin", message_type="comment", admin_id=str(ada.pk), user_id="u1", body="Hi").json()
    first = reply(type="admin", admin_id=ada.pk, body="<b>Hi</b>").json()

    assert last["id"] == str(newer.pk)
    [part] = first["conversation_parts"]["conversation_parts"]
    assert (part["author"], part["body"]) == ({"type": "admin", "id": str(ada.pk)}, "<b>Hi</b>")
    assert (first["read"], first["waiting_since"]) == (False, None)


def test_note_assignment_close_open_and_snooze(reply, ada):
    by = {"type": "admin", "admin_id": str(ada.pk)}
    until = int(timezone.now().timestamp()) + 3600
    reply(**by, message_type="note", body="Careful")
    assert reply(**by, message_type="assignment", assignee_id=str(ada.pk)).json()["assignee"]["id"] == str(ada.pk)
    assert reply(**by, message_type="assignment", assignee_id="0").json()["assignee"]["type"] == "nobody_admin"
    assert reply(**by, message_type="close", body="Bye").json()["state"] == "closed"
    assert reply(**by, message_type="open").json()["open"]
    # The official clients leave `type` out here.
    snoozed = reply(message_type="snoozed", admin_id=str(ada.pk), snoozed_until=until).json()

    assert (snoozed["state"], snoozed["snoozed_until"], snoozed["open"]) == ("snoozed", until, False)
    parts = [part["part_type"] for part in snoozed["conversation_parts"]["conversation_parts"]]
    assert parts == ["note", "assignment", "assignment", "comment", "close", "open", "snoozed"]


@pytest.mark.parametrize("address", ["/api/conversations/{}", "/api/conversations/{}/reply"])
def test_read_is_accepted_at_both_urls(api, begun, ada, at, address):
    threads.reply_by_teammate(begun, teammate=ada, body="Hi", at=at)

    answered = api.put(address.format(begun.pk), {"read": True}, format="json")

    assert (answered.status_code, answered.json()["read"]) == (200, True)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"type": "user", "body": "x"}, 400, "user_id"),
        ({"type": "user", "user_id": "nobody", "body": "x"}, 404, "nobody"),
        ({"type": "user", "user_id": "u2", "body": "x"}, 403, "another user"),
        ({"type": "user", "user_id": "u1"}, 422, "body"),
        ({"type": "user", "user_id": "u1", "body": "x", "message_type": "close"}, 400, "message_type"),
        ({"type": "user", "user_id": "u1", "attachment_urls": ["javascript:x"]}, 400, "attachment_urls"),
        ({"type": "user", "user_id": "u1", "attachment_urls": ["https://[x"]}, 400, "attachment_urls"),
        ({"type": "user", "user_id": "u1", "body": "x", "attachment_urls": {}}, 400, "attachment_urls"),
        ({"type": "user", "intercom_user_id": [], "body": "x"}, 400, "id must be a string"),
        ({"type": "user", "user_id": "u1", "attachment_urls": ["https://x.example"] * 6}, 400, "attachment_urls"),
        ({"type": "robot", "body": "x"}, 400, "type"),
        ({"type": "admin", "body": "x"}, 422, "admin_id"),
        ({"type": "admin", "admin_id": "999", "body": "x"}, 404, "999"),
        ({"type": "admin", "email": "nobody@x.example", "body": "x"}, 404, "nobody@x.example"),
        ({"type": "admin", "admin_id": "ADA", "message_type": "shout"}, 400, "message_type"),
        ({"type": "admin", "admin_id": "ADA", "message_type": "comment"}, 422, "body"),
        ({"type": "admin", "admin_id": "ADA", "message_type": "assignment"}, 422, "assignee_id"),
        ({"type": "admin", "admin_id": "ADA", "message_type": "snoozed"}, 422, "snoozed_until"),
        ({"type": "admin", "admin_id": "ADA", "message_type": "snoozed", "snoozed_until": 1}, 400, "future"),
    ],
)
def test_invalid_reply_is_refused_and_adds_nothing(reply, begun, ada, sent, status, said):
    CustomerFactory(user_id="u2")
    sent = {key: str(ada.pk) if value == "ADA" else value for key, value in sent.items()}

    answered = reply(**sent)

    assert answered.status_code == status, answered.json()
    error = answered.json()["errors"][0]
    assert said in error["message"] + error.get("field", "")
    assert status != 422 or error["field"] == said
    assert not begun.parts.exists()


def test_missing_conversation_is_not_found(reply):
    assert reply(999, type="user", user_id="u1", body="x").status_code == 404
    CustomerFactory(user_id="quiet")
    assert reply("last", type="user", user_id="quiet", body="x").status_code == 404
