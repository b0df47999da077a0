"""Nobody becomes, reads or is written to as somebody else: keys browsers keep, and addresses that are only said."""

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
    """The long way of a visit, and the short one."""
    for _ in range(2 if request.param == "a later one" else 0):
        Browser().ping(user_id="warm")


def stranger(*, leaves: str) -> Browser:
    """A browser whose visitor wrote, and left somebody's address."""
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")
    assert browser.say("email", email=leaves).status_code == 200
    return browser


def previews(browser: Browser) -> list[str]:
    return [thread["preview"] for thread in browser.list()]


@pytest.mark.usefixtures("_visits")
def test_the_key_of_a_lead_whom_a_sync_made_a_user_speaks_for_nobody():
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
def test_the_key_of_who_logged_in_lets_nobody_in_after_they_logged_out():
    browser = stranger(leaves="ann@x.example")
    key = browser.visitor
    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())
    browser.ping(user_id="ann")
    browser.visitor = key

    assert browser.ping().json()["user"] is None
    assert previews(browser) == []


def test_what_is_said_to_an_address_reaches_its_user_and_no_lead_who_typed_it(api, ada):
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
def test_who_proves_their_address_is_not_a_user_who_only_said_it():
    intruder = Browser()
    intruder.ping(user_id="mallory", email="ann@x.example")
    ann = Browser()

    found = ann.ping(email="ann@x.example").json()["user"]

    ann.say("conversations", body="My secret")
    assert found["id"] != str(Customer.objects.get(user_id="mallory").pk)
    intruder.ping(user_id="mallory", email="ann@x.example")
    assert previews(intruder) == []


def test_whom_a_sync_knows_by_an_address_is_found_by_it_and_not_who_only_said_it(api):
    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())
    Browser().ping(user_id="mallory", email="ann@x.example")

    assert api.get("/api/users", {"email": "ann@x.example"}).json()["user_id"] == "ann"


def test_an_address_that_was_said_is_known_once_a_sync_says_so_too():
    Browser().ping(user_id="ann", email="ann@x.example")
    ann = Customer.objects.get(user_id="ann")
    assert ann.email_is_said

    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())

    ann.refresh_from_db()
    assert not ann.email_is_said


def test_what_a_page_says_again_of_an_address_that_is_known_changes_nothing():
    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=timezone.now())

    Browser().ping(user_id="ann", email="ann@x.example")

    assert not Customer.objects.get(user_id="ann").email_is_said


def test_a_message_that_waits_for_one_address_is_not_for_whoever_says_it(api, ada):
    CustomerFactory(user_id=None, email="ann@x.example")
    told = {"message_type": "inapp", "body": "Your code is 1234", "from": {"type": "admin", "id": str(ada.pk)}}
    api.post("/api/messages", {**told, "to": {"type": "user", "email": "ann@x.example"}}, format="json")

    assert Browser().ping(user_id="mallory", email="ann@x.example").json()["messages"] == []


@pytest.mark.usefixtures("_visits")
@pytest.mark.parametrize("zero", [0, 0.0, "0", False])
def test_a_user_id_of_nought_has_to_be_proved(zero):
    MessageFactory(in_app=True, live=True, rules=[rule("user_id", "is", "0")])
    nought = CustomerFactory(user_id="0", phone="1")
    browser = Browser()
    browser.ping()

    said = {"user": {"user_id": zero, "phone": "evil"}, "visitor": browser.visitor}
    answered = browser.post("/messenger/ping", said, format="json")

    assert answered.status_code in (400, 403)
    nought.refresh_from_db()
    assert nought.phone == "1"


def test_who_was_known_by_an_address_alone_is_made_the_user_they_are_by_the_api(api):
    """For a website that names user_ids from today on: nothing of anybody is lost."""
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


def test_a_lead_who_is_a_user_by_now_is_not_asked_for_again():
    browser = stranger(leaves="ann@x.example")
    browser.ping(email="ann@x.example")

    assert Customer.objects.get().role == Role.USER
    assert not Visitor.objects.exists()
