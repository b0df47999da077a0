"""No customer becomes another, reads their data or gets their messages, by visitor keys or unverified addresses."""

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from audiences import intake
from audiences.models import Customer, Integration
from audiences.models.customers import Role
from delivery.models import Visitor
from tests.delivery.api.messenger.test_ping import Browser
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> APIClient:
    _, token = Integration.issue(name="tests")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def ada(django_user_model):
    return django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)


@pytest.fixture(params=["the first visit to a process", "a later one"])
def _visits(request):
    """The full path of a visit, and the fast path."""
    for _ in range(2 if request.param == "a later one" else 0):
        Browser().ping(user_id="warm")


def stranger(*, leaves: str) -> Browser:
    """The browser of a lead with another customer's address."""
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")
    assert browser.say("email", email=leaves).status_code == 200
    return browser


def previews(browser: Browser) -> list[str]:
    return [thread["preview"] for thread in browser.list()]


@pytest.mark.usefixtures("_visits")
def test_visitor_key_ends_when_a_sync_makes_the_lead_a_user():
    browser = stranger(leaves="ann@x.example")
    lead = Customer.objects.get(role=Role.LEAD)
    intake.identify({"id": str(lead.pk), "user_id": "ann", "email": "ann@x.example"}, at=timezone.now())
    ann = Browser()
    ann.ping(user_id="ann")
    ann.say("conversations", body="My secret")

    assert browser.ping().json()["user"] is None
    assert previews(browser) == []
    assert browser.say("conversations", body="Again").status_code == 200
    assert not Customer.objects.get(user_id="ann").conversations.filter(body__contains="Again").exists()


@pytest.mark.usefixtures("_visits")
def test_visitor_key_of_a_user_is_invalid_after_logout():
    browser = stranger(leaves="ann@x.example")
    key = browser.visitor
    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())
    browser.ping(user_id="ann")
    browser.visitor = key

    assert browser.ping().json()["user"] is None
    assert previews(browser) == []


def test_message_to_an_address_reaches_the_user_and_not_the_lead(api, ada):
    ann = CustomerFactory(user_id="ann", email="ann@x.example", last_seen_at=timezone.now())
    browser = stranger(leaves="ann@x.example")
    told = {"message_type": "inapp", "body": "Your code is 1234", "from": {"type": "admin", "id": str(ada.pk)}}

    sent = api.post("/api/messages", {**told, "to": {"type": "user", "email": "ann@x.example"}}, format="json")

    assert sent.status_code == 200
    assert browser.ping().json()["messages"] == []
    assert api.get("/api/users", {"email": "ann@x.example"}).json()["user_id"] == "ann"
    assert api.post("/api/users", {"email": "ann@x.example", "name": "Ann"}, format="json").json()["user_id"] == "ann"
    api.post("/api/events", {"event_name": "paid", "email": "ann@x.example", "created_at": 1}, format="json")
    assert ann.events.exists()


@pytest.mark.usefixtures("_visits")
def test_proved_address_does_not_identify_a_user_with_it_unverified():
    intruder = Browser()
    intruder.ping(user_id="mallory", email="ann@x.example")
    ann = Browser()

    found = ann.ping(email="ann@x.example").json()["user"]

    ann.say("conversations", body="My secret")
    assert found["id"] != str(Customer.objects.get(user_id="mallory").pk)
    intruder.ping(user_id="mallory", email="ann@x.example")
    assert previews(intruder) == []


def test_sync_by_address_finds_the_verified_customer(api):
    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())
    Browser().ping(user_id="mallory", email="ann@x.example")

    assert api.get("/api/users", {"email": "ann@x.example"}).json()["user_id"] == "ann"


def test_sync_verifies_an_address():
    Browser().ping(user_id="ann", email="ann@x.example")
    ann = Customer.objects.get(user_id="ann")
    assert ann.email_is_said

    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())

    ann.refresh_from_db()
    assert not ann.email_is_said


def test_page_that_repeats_a_verified_address_changes_nothing():
    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())

    Browser().ping(user_id="ann", email="ann@x.example")

    assert not Customer.objects.get(user_id="ann").email_is_said


def test_waiting_message_for_an_address_is_not_shown_to_a_claimant(api, ada):
    CustomerFactory(user_id=None, email="ann@x.example")
    told = {"message_type": "inapp", "body": "Your code is 1234", "from": {"type": "admin", "id": str(ada.pk)}}
    api.post("/api/messages", {**told, "to": {"type": "user", "email": "ann@x.example"}}, format="json")

    assert Browser().ping(user_id="mallory", email="ann@x.example").json()["messages"] == []


@pytest.mark.usefixtures("_visits")
@pytest.mark.parametrize("zero", [0, 0.0, "0", False])
def test_user_id_zero_must_be_proved(zero):
    MessageFactory(in_app=True, live=True, rules=[rule("user_id", "is", "0")])
    nought = CustomerFactory(user_id="0", phone="1")
    browser = Browser()
    browser.ping()

    said = {"user": {"user_id": zero, "phone": "evil"}, "visitor": browser.visitor}
    answered = browser.post("/messenger/ping", said, format="json")

    assert answered.status_code in (400, 403)
    nought.refresh_from_db()
    assert nought.phone == "1"


def test_api_converts_a_customer_known_by_address_into_a_user(api):
    """For a website that begins to send user_ids: customers keep all their data."""
    MessageFactory(in_app=True, live=True)
    browser = Browser()
    assert len(browser.ping(email="ann@x.example").json()["messages"]) == 1
    browser.say("conversations", body="Hello")
    known = Customer.objects.get(email="ann@x.example")

    answered = api.post(
        "/api/contacts/convert",
        {"contact": {"id": str(known.pk)}, "user": {"user_id": "ann", "email": "ann@x.example"}},
        format="json",
    )

    assert answered.status_code == 200
    now = Browser()
    now.ping(user_id="ann")
    assert len(previews(now)) == 2
    assert Customer.objects.present().get().user_id == "ann"


def test_lead_who_became_a_user_has_no_visitor_key():
    browser = stranger(leaves="ann@x.example")
    browser.ping(email="ann@x.example")

    assert Customer.objects.get().role == Role.USER
    assert not Visitor.objects.exists()
