"""Messages and conversations of the API, and the messenger's ping."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.models import Customer, Integration, Workspace
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Status
from delivery.visits import visit
from messaging.models import Message, Sender
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> APIClient:
    _, token = Integration.issue(name="tests")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def teammate(django_user_model):
    return django_user_model.objects.create(
        username="ada", email="ada@acme.example", first_name="Ada", last_name="Byron", is_staff=True
    )


def signed(**settings: object) -> dict[str, object]:
    """A ping's body with the hash the customer's server would make."""
    who = settings.get("user_id") or settings.get("email")
    user_hash = identity_verification.user_hash(Workspace.current().identity_secret, str(who))
    return {"app_id": "outbound", "user": {**settings, "user_hash": user_hash}}


def ping(**settings: object):
    return APIClient().post("/messenger/ping", signed(**settings), format="json")


# The ping


def test_user_hash_is_the_hmac_that_official_libraries_make():
    expected = "f02877f24c9dd37542268a28627ebaf2e07d0d114d9482abcdc20f60874b40b3"

    assert identity_verification.user_hash("abc123", "1") == expected


def test_ping_creates_the_customer_and_returns_in_app_messages():
    MessageFactory(in_app=True, body="<p>Hi {{ first_name }}</p>", live=True)

    answered = ping(user_id="u1", name="Ann Lee")

    assert answered.status_code == 200
    (message,) = answered.json()["messages"]
    assert (message["body"], message["format"], message["from"]["name"]) == ("<p>Hi Ann</p>", "chat", "Ada")
    assert answered.json()["unread_count"] == 1
    assert Customer.objects.get(user_id="u1").session_count == 1


def test_id_with_invalid_characters_is_not_found(client):
    answered = client.post(
        "/messenger/ping", {"user_id": "\ud800", "user_hash": "0" * 64}, content_type="application/json"
    )

    assert answered.status_code == 403


@pytest.mark.parametrize("user_hash", [None, "", "0" * 64, "é", 7])
def test_ping_without_the_right_hash_is_forbidden_and_changes_nothing(user_hash):
    body = {"user": {"user_id": "u1", "user_hash": user_hash}}

    answered = APIClient().post("/messenger/ping", body, format="json")

    assert answered.status_code == 403
    assert "user_hash" in answered.json()["errors"][0]["message"]
    assert not Customer.objects.exists()


def test_hash_of_the_email_counts_only_without_a_user_id():
    workspace = Workspace.current()
    by_email = identity_verification.user_hash(workspace.identity_secret, "ann@x.example")
    body = {"user": {"email": "ann@x.example", "user_hash": by_email}}
    assert APIClient().post("/messenger/ping", body, format="json").status_code == 200
    body["user"]["user_id"] = "somebody-else"

    assert APIClient().post("/messenger/ping", body, format="json").status_code == 403


def test_optional_hash_may_be_missing_but_not_wrong():
    Workspace.current()
    Workspace.objects.update(require_user_hash=False)

    assert APIClient().post("/messenger/ping", {"user": {"user_id": "u1"}}, format="json").status_code == 200
    wrong = {"user": {"user_id": "u1", "user_hash": "wrong"}}
    assert APIClient().post("/messenger/ping", wrong, format="json").status_code == 403


def test_ping_without_a_user_returns_no_messages():
    assert APIClient().post("/messenger/ping", {"user": {}, "app_id": "x"}, format="json").json()["messages"] == []


def test_bad_value_in_a_ping_is_reported_and_the_visit_continues():
    ping(user_id="u1", seats=5)

    answered = ping(user_id="u1", seats="many", plan="pro")

    (error,) = answered.json()["errors"]
    assert "seats" in error["message"]
    assert Customer.objects.get(user_id="u1").attributes == {"seats": 5, "plan": "pro"}


def test_company_named_in_a_ping_is_joined_and_seen():
    ping(user_id="u1", company={"id": "6", "name": "Acme", "plan": "pro"})

    customer = Customer.objects.get(user_id="u1")
    company = customer.companies.get()
    assert (company.name, company.last_seen_at) == ("Acme", customer.last_seen_at)


def test_browser_never_undoes_an_opt_out():
    CustomerFactory(user_id="u1", email="a@x.example", unsubscribed_from_emails=True)

    ping(user_id="u1", unsubscribed_from_emails=False)

    assert Customer.objects.get(user_id="u1").unsubscribed_from_emails


# The GET that triggers


def test_get_of_conversations_matches_emails_for_that_user_once_in_fifteen_minutes(api):
    CustomerFactory(user_id="u1", email="a@x.example")
    message = MessageFactory(live=True)

    first = api.get("/api/conversations", {"type": "user", "user_id": "u1"})
    second = api.get("/api/conversations", {"type": "user", "user_id": "u1"})

    assert (first["X-Outbound-Matching"], second["X-Outbound-Matching"]) == ("ran", "limited")
    assert first["X-Outbound-Matching-Next"] == second["X-Outbound-Matching-Next"]
    assert message.records.get().status == Status.WAITING


@pytest.mark.parametrize("reference", ["user_id", "email", "intercom_user_id", "id"])
def test_get_of_conversations_finds_the_user_by_any_identifier(api, reference):
    customer = CustomerFactory(user_id="u1", email="a@x.example")
    message = MessageFactory(live=True)
    named = {"user_id": "u1", "email": "A@x.example"}.get(reference, str(customer.pk))

    answered = api.get("/api/conversations", {"type": "user", reference: named})

    assert answered["X-Outbound-Matching"] == "ran"
    assert message.records.count() == 1


@pytest.mark.django_db(transaction=True)
def test_only_one_of_twenty_concurrent_gets_matches(api):
    CustomerFactory(user_id="u1", email="a@x.example")
    Workspace.current()
    MessageFactory(live=True)

    def ask(_: int) -> str:
        try:
            answered = api.get("/api/conversations", {"type": "user", "user_id": "u1"})
            return f"{answered.status_code} {answered['X-Outbound-Matching']}"
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))

    assert sorted(answers) == ["200 limited"] * 19 + ["200 ran"]
    assert DeliveryRecord.objects.count() == 1


def test_unknown_user_is_not_found(api):
    answered = api.get("/api/conversations", {"type": "user", "user_id": "nobody"})

    assert answered.status_code == 404
    assert answered.json()["errors"][0]["message"] == "No such user_id[nobody]"


def test_list_has_the_conversation_an_in_app_message_started(api, at):
    customer = CustomerFactory(user_id="u1", name="Ann")
    MessageFactory(in_app=True, body="<p>Hi <b>{{ first_name }}</b></p>", live=True)
    visit.visit(customer, at=at)

    listed = api.get("/api/conversations", {"type": "user", "user_id": "u1"}).json()

    assert listed["type"] == "conversation.list"
    assert listed["pages"] == {"type": "pages", "next": None, "page": 1, "per_page": 20, "total_pages": 1}
    (conversation,) = listed["conversations"]
    assert conversation["conversation_message"]["body"] == "<p>Hi <b>Ann</b></p>"
    assert conversation["conversation_message"]["delivered_as"] == "automated"
    assert conversation["created_at"] == int(at.timestamp())
    assert conversation["customer_first_reply"] is None
    assert "conversation_parts" not in conversation
    whole = api.get(f"/api/conversations/{conversation['id']}", {"display_as": "plaintext"}).json()
    assert whole["conversation_message"]["body"] == "Hi Ann"
    assert whole["conversation_parts"]["conversation_parts"] == []


@pytest.mark.parametrize(("format_", "subject"), [("announcement", "News for Ann"), ("chat", "")])
def test_conversation_has_the_title_that_its_customer_read(api, at, format_, subject):
    customer = CustomerFactory(user_id="u1", name="Ann")
    MessageFactory(channel="in_app", format=format_, subject="News for {{ first_name }}", live=True)
    visit.visit(customer, at=at)

    (listed,) = api.get("/api/conversations", {"type": "user", "user_id": "u1"}).json()["conversations"]
    whole = api.get(f"/api/conversations/{listed['id']}").json()

    assert listed["conversation_message"]["subject"] == subject
    assert whole["conversation_message"]["subject"] == subject


@pytest.mark.parametrize(
    ("query", "field"),
    [({"type": "lead"}, "type"), ({"order": "name"}, "order"), ({"order": "asc", "sort": "desc"}, "order"),
     ({"order": "created_at", "sort": "updated_at"}, "order"), ({"display_as": "pdf"}, "display_as"),
     ({"page": "0"}, "page"), ({"per_page": "x"}, "per_page"), ({"type": "user"}, "user_id"),
     ({"type": "admin", "admin_id": "999"}, "admin_id"), ({"type": "user", "user_id": "a\0b"}, "user_id")],
)  # fmt: skip
def test_bad_query_gets_an_error_that_names_the_field(api, query, field):
    answered = api.get("/api/conversations", query)

    assert answered.status_code in (400, 404)
    assert answered.json()["errors"][0]["field"] == field


# POST /messages


def message_to(customer: Customer, teammate, **facts: object) -> dict[str, object]:
    return {
        "message_type": "email",
        "subject": "Hey",
        "body": "<p>Hello {{ first_name }}</p>",
        "template": "plain",
        "from": {"type": "admin", "id": str(teammate.pk)},
        "to": {"type": "user", "user_id": customer.user_id},
        **facts,
    }


def test_email_to_one_customer_is_due_at_once(api, teammate):
    customer = CustomerFactory(user_id="u1", email="ann@x.example")

    answered = api.post("/api/messages/", message_to(customer, teammate), format="json")

    assert answered.status_code == 200
    body = answered.json()
    assert body["owner"] == {"type": "admin", "id": str(teammate.pk), "name": "Ada Byron", "email": "ada@acme.example"}
    message = Message.objects.get(pk=body["id"].removeprefix("msg_"))
    assert (message.state, message.channel, message.to_customer) == ("live", "email", customer)
    assert (message.records.get().status, message.records.get().reason) == (Status.WAITING, "queued")
    assert Sender.objects.get().teammate == teammate


@pytest.mark.parametrize("kind", ["email", "inapp"])
def test_body_as_long_as_an_html_email_is_stored_completely(api, teammate, kind):
    customer = CustomerFactory(user_id="u1", email="ann@x.example")
    row = '<p style="color: #123456">A row of a table.</p>'
    body = row * (100_000 // len(row))

    answered = api.post("/api/messages", message_to(customer, teammate, message_type=kind, body=body), format="json")

    assert answered.status_code == 200, answered.json()
    assert Message.objects.get().version.body.count("A row of a table.") == 100_000 // len(row)


def test_customer_message_may_be_as_long_as_a_reply(api):
    CustomerFactory(user_id="u1")
    sent = {"from": {"type": "user", "user_id": "u1"}, "body": "word " * 15_000}

    assert api.post("/api/messages", sent, format="json").status_code == 200
    refused = api.post("/api/messages", {**sent, "body": "x" * 100_001}, format="json")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "body")


def test_inapp_to_one_customer_reaches_them_on_their_next_visit(api, teammate, at):
    customer = CustomerFactory(user_id="u1", name="Ann")
    sent = message_to(customer, teammate, message_type="inapp", body="Hello there\n\nAnn")
    answered = api.post("/api/messages", sent, format="json")

    shown = visit.visit(customer, at=at + timedelta(minutes=1)).shown

    assert [message.body for message in shown] == ["<p>Hello there</p><p>Ann</p>"]
    listed = api.get("/api/conversations", {"type": "user", "user_id": "u1"}).json()["conversations"]
    assert listed[0]["conversation_message"]["id"] == answered.json()["id"]
    assert listed[0]["conversation_message"]["delivered_as"] == "admin_initiated"


def test_email_to_an_unsubscribed_user_is_forbidden(api, teammate):
    customer = CustomerFactory(user_id="u1", email="ann@x.example", unsubscribed_from_emails=True)

    answered = api.post("/api/messages", message_to(customer, teammate), format="json")

    assert answered.status_code == 403
    assert answered.json()["errors"][0]["message"] == "This user is unsubscribed from emails"
    assert not Message.objects.exists()


def test_email_to_a_lead_who_has_not_confirmed_the_address_is_forbidden(api, teammate, at):
    lead = CustomerFactory(lead=True, email="bea@x.example")
    sent = message_to(lead, teammate, to={"type": "contact", "id": str(lead.pk)})
    Workspace.current()
    Workspace.objects.update(double_opt_in=True)

    answered = api.post("/api/messages", sent, format="json")

    assert answered.status_code == 403
    assert answered.json()["errors"][0]["message"] == "This contact has not confirmed their email address"
    Customer.objects.update(opted_in_at=at)
    assert api.post("/api/messages", sent, format="json").status_code == 200


@pytest.mark.parametrize(
    ("facts", "status", "word"),
    [
        ({"subject": ""}, 422, "subject"),
        ({"body": ""}, 422, "body"),
        ({"message_type": "fax"}, 400, "message_type"),
        ({"template": "fancy"}, 400, "template"),
        ({"from": {"type": "admin", "id": "999"}}, 404, "from"),
        ({"from": "me"}, 400, "from"),
        ({"from": {"type": "admin"}}, 422, "from"),
        ({"to": {"type": "company", "user_id": "u1"}}, 400, "type"),
        ({"to": {"id": []}}, 400, "id must be a string"),
        ({"to": {"user_id": "nobody"}}, 404, "nobody"),
        ({"body": "<p>{{ nickname }}</p>"}, 400, "nickname"),
        ({"subject": "two\nlines"}, 400, "line"),
        ({"body": "x" * 100_001}, 400, "body is longer than 100,000 characters"),
        ({"body": "<p>{{ company.name }}</p>"}, 400, "company"),
    ],
)
def test_message_that_cannot_be_sent_is_refused_with_the_reason_and_nothing_is_written(
    api, teammate, facts, status, word
):
    customer = CustomerFactory(user_id="u1", email="ann@x.example")

    answered = api.post("/api/messages", message_to(customer, teammate, **facts), format="json")

    assert answered.status_code == status, answered.json()
    error = answered.json()["errors"][0]
    assert word in error["message"] + error.get("field", "")
    assert status != 422 or error["field"] == word
    assert not Message.objects.exists()


def test_customer_writes_to_us(api):
    CustomerFactory(user_id="u1")

    body = {"from": {"type": "user", "user_id": "u1"}, "body": "Is <b>this</b> on?"}
    answered = api.post("/api/messages", body, format="json").json()

    conversation = api.get(f"/api/conversations/{answered['conversation_id']}").json()
    assert answered["type"] == "user_message"
    assert "&lt;b&gt;" in conversation["conversation_message"]["body"]
    assert conversation["conversation_message"]["author"]["type"] == "user"


def test_every_endpoint_but_the_ping_needs_a_token():
    for address in ("/api/conversations", "/api/conversations/1", "/api/messages"):
        assert APIClient().get(address).status_code == 401


# Unsubscribe


def test_unsubscribe_link_confirms_on_get_and_unsubscribes_on_post(client, at):
    from delivery import rendering

    customer = CustomerFactory(email="ann@x.example")
    message = MessageFactory(rules=[rule("email", "has_any_value")], live=True, at=at)
    ongoing.match(message, at=at)
    address = rendering.unsubscribe_url(message.records.get().pk)

    asked = client.get(address)
    customer.refresh_from_db()
    assert b"<form" in asked.content
    assert not customer.unsubscribed_from_emails
    client.post(address)

    customer.refresh_from_db()
    assert customer.unsubscribed_from_emails
    assert customer.unsubscribed_by_customer_at is not None
    assert message.records.get().unsubscribed_at is not None


def test_invalid_unsubscribe_link_is_not_found(client):
    assert client.get("/m/unsubscribe/12:forged").status_code == 404
