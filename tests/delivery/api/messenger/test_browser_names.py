"""Unproven browsers add no attribute, kind or event name; staff see the refused names."""

from datetime import timedelta

import pytest

from audiences import intake
from audiences.intake import NotInCatalogue, Source
from audiences.intake.attributes import refused_names
from audiences.intake.source import CATALOGUE_LIMITS, MAX_ATTRIBUTES, MAX_FROM_BROWSERS
from audiences.models import (
    CustomAttribute,
    Customer,
    Event,
    EventName,
    Integration,
    Job,
    JobItem,
    RefusedName,
    Workspace,
)
from delivery import tasks
from tests.delivery.api.messenger.test_ping import Browser
from tests.factories import AT, CustomAttributeFactory, CustomerFactory, EventSummaryFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def lead() -> Browser:
    """The browser of a lead, so that its facts are stored."""
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")
    return browser


@pytest.fixture
def unproven() -> Browser:
    """The browser of a named user in a workspace that requires no proof."""
    Workspace.current()
    Workspace.objects.update(require_user_hash=False)
    return Browser()


@pytest.fixture
def server() -> Browser:
    """The website's own server."""
    _, token = Integration.issue(name="Shop")
    api = Browser()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return api


def names() -> list[str]:
    return sorted(CustomAttribute.objects.values_list("name", flat=True))


def ping_unproven(browser: Browser, **settings: object):
    """Ping with a user and without a proof."""
    answered = browser.post("/messenger/ping", {"user": {"user_id": "ann", **settings}}, format="json")
    browser.credentials(HTTP_AUTHORIZATION=f"Bearer {answered.json()['token']}")
    return answered


def test_visitor_adds_no_attributes_but_the_server_does(lead, server):
    lead.ping(**{f"junk{n}": "x" for n in range(400)})

    server.post("/api/users", {"user_id": "1", "custom_attributes": {"plan": "pro"}}, format="json")

    assert names() == ["plan"]
    assert Customer.objects.get(user_id="1").attributes == {"plan": "pro"}


def test_visitor_does_not_set_the_kind_of_an_attribute(lead, server):
    lead.ping(seats=True)

    server.post("/api/users", {"user_id": "1", "custom_attributes": {"seats": 5}}, format="json")

    assert Customer.objects.get(user_id="1").attributes == {"seats": 5}
    assert CustomAttribute.objects.get().kind == "number"


def test_unproven_user_adds_no_customer_or_company_attribute(unproven):
    answered = ping_unproven(unproven, plan="pro", company={"id": "c1", "name": "Acme", "seats": 5})

    assert {wrong["field"] for wrong in answered.json()["errors"]} == {"seats", "plan"}
    assert names() == []
    assert Customer.objects.get(user_id="ann").attributes == {}


def test_values_of_existing_attributes_are_stored(lead, unproven):
    CustomAttributeFactory(name="plan")

    lead.ping(plan="free", new="x")
    ping_unproven(unproven, plan="pro", new="x")

    assert sorted(customer.attributes["plan"] for customer in Customer.objects.all()) == ["free", "pro"]
    assert names() == ["plan"]


def test_proved_browser_adds_attributes():
    browser = Browser()

    browser.ping(user_id="ann", plan="pro", company={"id": "c1", "seats": 5})

    assert names() == ["plan", "seats"]


def test_unproven_browsers_record_no_event_under_a_new_name(lead, unproven):
    ping_unproven(unproven)

    answers = [browser.say("events", event_name="made-up") for browser in (lead, unproven)]

    assert [answer.json()["recorded"] for answer in answers] == [False, False]
    assert not Event.objects.exists()


def test_attribute_that_cannot_be_stored_does_not_refuse_the_user(server):
    CustomAttributeFactory(name="seats", kind="number")

    answer = server.post(
        "/api/users",
        {"user_id": "1", "name": "Joe", "custom_attributes": {"seats": "many", "plan": "pro"}},
        format="json",
    )

    assert answer.status_code == 200
    assert [warning["field"] for warning in answer.json()["warnings"]] == ["seats"]
    joe = Customer.objects.get(user_id="1")
    assert (joe.name, joe.attributes) == ("Joe", {"plan": "pro"})


def listed() -> dict[str, tuple[str, str, int]]:
    return {row.name: (row.of, row.kind, row.times) for row in RefusedName.objects.all()}


def refused(name: str, kind: str = "text") -> NotInCatalogue:
    return NotInCatalogue("It is new.", field=name, of="customer", name=name, kind=kind)


def test_every_source_has_a_limit_of_attributes():
    assert set(CATALOGUE_LIMITS) == set(Source)


@pytest.mark.usefixtures("unproven")
def test_refused_name_is_listed_with_its_kind_and_count(unproven):
    for _ in range(3):
        ping_unproven(unproven, seats=5, signed_at=1_777_888_800, company={"id": "c1", "vip": True})
    unproven.say("events", event_name="Ordered")

    assert listed() == {
        "seats": ("customer", "number", 3),
        "signed_at": ("customer", "date", 3),
        "vip": ("company", "boolean", 3),
        "ordered": ("event", "", 1),
    }


def test_only_refused_names_of_a_lead_are_listed(lead):
    CustomAttributeFactory(name="plan", kind="number")

    lead.ping(plan="many", seats=5)
    lead.say("events", event_name="made-up")

    assert set(listed()) == {"seats", "made-up"}


def test_ping_answers_why_an_event_was_not_recorded(lead):
    answer = lead.say("events", event_name="made-up").json()

    assert "made-up" in answer["errors"][0]["message"]


def test_refused_name_of_two_kinds_is_listed_as_text():
    intake.note_refused_names([refused("seats", "number")], at=AT)
    intake.note_refused_names([refused("seats", "boolean")], at=AT)

    assert listed()["seats"][1] == "text"


def test_refused_names_are_limited_per_request_and_in_total():
    intake.note_refused_names([refused("ours")], at=AT)
    for n in range(20):
        at = AT + timedelta(minutes=n + 1)
        intake.note_refused_names([refused(f"junk {n} {m}") for m in range(400)], at=at)
    assert RefusedName.objects.count() == refused_names.MAX_REFUSED_NAMES
    assert "ours" not in listed()

    intake.note_refused_names([refused("ours")], at=AT + timedelta(days=1))

    assert "ours" in listed()
    assert RefusedName.objects.count() == refused_names.MAX_REFUSED_NAMES


def test_last_places_of_the_catalogue_are_reserved_for_the_server(server):
    browser = Browser()
    browser.ping(user_id="ann", **{f"a{n}": 1 for n in range(400)})
    assert len(names()) == MAX_FROM_BROWSERS

    answer = server.post("/api/users", {"user_id": "1", "custom_attributes": {"plan": "pro"}}, format="json")

    assert "warnings" not in answer.json()
    assert MAX_FROM_BROWSERS < MAX_ATTRIBUTES


def test_proved_browser_adds_event_names_up_to_a_limit():
    browser = Browser()
    browser.ping(user_id="ann")
    assert browser.say("events", event_name="ordered").json()["recorded"]
    EventName.objects.bulk_create(EventName(name=f"n{n}", created_at=AT) for n in range(MAX_FROM_BROWSERS - 1))

    assert not browser.say("events", event_name="one-more").json()["recorded"]
    assert set(listed()) == {"one-more"}


def test_proof_is_valid_only_for_its_session(unproven):
    """A ping without a user_hash gets a session that may not add names, also for the same user."""
    proved = Browser()
    proved.ping(user_id="ann")
    ping_unproven(unproven)

    assert not unproven.say("events", event_name="made-up").json()["recorded"]
    assert proved.say("events", event_name="made-up").json()["recorded"]


def test_events_with_existing_names_are_recorded_for_all_browsers(lead):
    EventSummaryFactory(name="ordered")

    assert lead.say("events", event_name="Ordered").json()["recorded"]


def test_later_visits_refuse_the_same_names(unproven):
    """The first visit of a process reads the catalogue; later visits use the process cache."""
    Browser().ping(user_id="warm")
    ping_unproven(unproven)
    for _ in range(2):
        answer = ping_unproven(unproven, plan="pro").json()
        assert [wrong["field"] for wrong in answer["errors"]] == ["plan"]

    CustomAttributeFactory(name="plan")
    assert ping_unproven(unproven, plan="pro").json()["errors"] == []
    assert Customer.objects.get(user_id="ann").attributes == {"plan": "pro"}


def test_server_adds_names_by_each_endpoint(server):
    items = [{"method": "post", "data_type": "user", "data": {"user_id": "1", "custom_attributes": {"plan": "pro"}}}]
    server.post("/api/bulk/users", {"items": items}, format="json")
    tasks.work_off_jobs()
    server.post("/api/events", {"user_id": "1", "event_name": "ordered"}, format="json")

    assert names() == ["plan"]
    assert EventName.objects.get().name == "ordered"


def test_bulk_job_stores_the_user_and_reports_the_refused_attribute(server):
    CustomAttributeFactory(name="seats", kind="number")
    data = {"user_id": "1", "name": "Joe", "custom_attributes": {"seats": "many", "plan": "pro"}}
    server.post("/api/bulk/users", {"items": [{"method": "post", "data_type": "user", "data": data}]}, format="json")

    tasks.work_off_jobs()

    assert Customer.objects.get().attributes == {"plan": "pro"}
    error = server.get(f"/api/jobs/{Job.objects.get().key}/error").json()["items"][0]["error"]
    assert error["code"] == "stored_in_part"
    assert "“seats”" in error["message"]
    assert server.get(f"/api/jobs/{Job.objects.get().key}").json()["state"] == "completed"
    tasks.work_off_jobs()
    assert JobItem.objects.count() == 1


def test_lead_that_becomes_a_user_loses_only_the_refused_attribute(server):
    CustomAttributeFactory(name="seats", kind="number")
    lead = CustomerFactory(lead=True, email="lee@x.example")

    sent = {"contact": {"id": str(lead.pk)}, "user": {"user_id": "1", "custom_attributes": {"seats": "many"}}}
    answer = server.post("/api/contacts/convert", sent, format="json")

    assert answer.status_code == 200
    assert [warning["field"] for warning in answer.json()["warnings"]] == ["seats"]


@pytest.mark.parametrize("retired", [False, True])
def test_value_of_a_retired_attribute_is_stored(server, lead, retired):
    at = AT if retired else None
    CustomAttributeFactory(name="plan", retired_at=at)
    EventName.objects.create(name="ordered", created_at=AT, retired_at=at)

    server.post("/api/users", {"user_id": "1", "custom_attributes": {"plan": "pro"}}, format="json")
    server.post("/api/events", {"user_id": "1", "event_name": "ordered"}, format="json")
    lead.ping(plan="free")

    assert sorted(customer.attributes["plan"] for customer in Customer.objects.all()) == ["free", "pro"]
    assert Event.objects.count() == 1
    assert CustomAttribute.objects.get().retired_at == at
    assert EventName.objects.get().retired_at == at


def test_retired_attribute_takes_no_place_in_the_catalogue(server):
    for n in range(MAX_ATTRIBUTES):
        CustomAttributeFactory(name=f"a{n}", retired_at=AT if n == 0 else None)

    answer = server.post("/api/users", {"user_id": "1", "custom_attributes": {"plan": "pro"}}, format="json")

    assert answer.json()["custom_attributes"] == {"plan": "pro"}
