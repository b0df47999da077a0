"""Conversion of leads and visitors, erasure, bulk jobs, subscriptions and counts of the API."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.apps import apps
from rest_framework.test import APIClient

from audiences import intake
from audiences.intake import bulk_jobs
from audiences.models import Customer, Event, EventSummary, Integration, Job, JobItem, Notification, Subscription, Topic
from delivery import rendering, tasks
from delivery.conversations import threads
from delivery.matching import direct
from delivery.messenger import sessions
from delivery.models import Conversation, DeliveryRecord, Status
from delivery.visits import visit
from delivery.webhooks.notification import standard_secret
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MembershipFactory, MessageFactory, SenderFactory, TagFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(settings) -> APIClient:
    settings.API_RATE_LIMIT = 0
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='tests')[1]}")
    return client


def post(api: APIClient, address: str, **sent: object):
    return api.post(f"/api/{address}", sent, format="json")


# Leads and visitors


def test_lead_is_listed_with_contacts_and_not_with_users(api):
    lead = post(api, "contacts", email="Lee@x.example", name="Lee", user_id=None).json()

    assert (lead["type"], lead["user_id"], lead["email"]) == ("contact", f"lead-{lead['id']}", "lee@x.example")
    assert api.get("/api/contacts").json()["total_count"] == 1
    assert api.get("/api/users").json()["total_count"] == 0
    assert post(api, "contacts", email="lee@x.example", name="Lee Lo").json()["id"] == lead["id"]
    assert api.put(f"/api/contacts/{lead['id']}", {"phone": "5"}, format="json").json()["phone"] == "5"


def test_lead_cannot_take_the_email_of_a_user_without_user_id(api):
    CustomerFactory(user_id=None, email="ann@x.example")

    assert post(api, "contacts", email="ann@x.example").status_code == 409


@pytest.mark.parametrize("named", [{"user_id": "u1"}, {"email": "ann@x.example"}, {"id": None}])
def test_lead_converted_into_an_existing_user_keeps_its_thread(api, at, named):
    user = CustomerFactory(user_id="u1", email="ann@x.example")
    lead = CustomerFactory(lead=True)
    threads.open_by_customer(lead, body="Hello?", at=at)
    named = {key: value or str(user.pk) for key, value in named.items()}

    answered = post(api, "contacts/convert", contact={"user_id": f"lead-{lead.pk}"}, user=named)

    assert answered.json()["id"] == str(user.pk), answered.json()
    assert Conversation.objects.get().customer == user
    assert api.get(f"/api/contacts/{lead.pk}").status_code == 404


def test_visitor_who_wrote_is_found_by_their_own_id_and_becomes_a_user(api, at):
    key = uuid4()
    lead = sessions.lead_for(key, at=at)

    assert api.get("/api/visitors", {"user_id": str(key)}).json()["id"] == str(lead.pk)
    assert api.put("/api/visitors", {"user_id": str(key), "name": "Vi"}, format="json").json()["name"] == "Vi"
    made = post(api, "visitors/convert", visitor={"user_id": str(key)}, user={"user_id": "u9"}, type="user").json()

    assert (made["id"], made["user_id"], made["type"]) == (str(lead.pk), "u9", "user")
    assert api.get("/api/visitors", {"user_id": str(uuid4())}).status_code == 404


@pytest.mark.parametrize("nothing", ["", "{}", "[]"])
def test_lead_can_be_created_without_facts(api, nothing):
    made = api.generic("POST", "/api/contacts", nothing, content_type="application/json")

    assert (made.status_code, made.json()["type"], made.json()["email"]) == (200, "contact", None)


@pytest.mark.parametrize("field", ["id", "user_id"])
@pytest.mark.parametrize("value", [[], {}, False])
def test_lead_with_an_identifier_that_is_not_text_is_refused(api, field, value):
    answered = post(api, "contacts", name="Lee", **{field: value})

    assert (answered.status_code, answered.json()["errors"][0]["field"]) == (400, field)
    assert not Customer.objects.exists()


def test_visitor_is_updated_by_put_and_by_post(api, at):
    lead = sessions.lead_for(uuid4(), at=at)

    for_ruby = api.put(f"/api/visitors/{lead.pk}", {"name": "Vi"}, format="json")
    for_node = post(api, "visitors", id=str(lead.pk), phone="5")

    assert (for_ruby.json()["name"], for_node.json()["phone"]) == ("Vi", "5")


# Erasing


def test_erased_person_leaves_bare_rows_and_true_counts(api, at):
    ann = intake.identify(
        {"user_id": "77", "email": "ann@hushed.example", "name": "Ann Hushed", "phone": "555",
         "custom_attributes": {"diet": "hushed"}, "location_data": {"city_name": "Hushedville"}},
        at=at,
    )  # fmt: skip
    Subscription.objects.create(url="https://x.example/", topics=list(Topic), created_at=at, updated_at=at)
    MembershipFactory(customer=ann)
    intake.add_tag(TagFactory(), [ann], at=at)
    intake.record_event(ann, "ordered", at, {"what": "hushed"}, at=at)
    ann.notes.create(body="hushed", created_at=at)
    ongoing = MessageFactory(in_app=True, body="<p>Hi {{ name }}</p>", live=True)
    visit.visit(ann, at=at)
    begun = Conversation.objects.get()
    threads.reply_by_customer(begun, body="hushed", at=at)
    words = {"subject": "hushed", "body": "<p>hushed</p>"}
    alone = direct.send_to_one(
        ann, channel=Channel.EMAIL, format="", sender=SenderFactory(), **words, by=None, at=at
    ).message
    post(api, "bulk/users", items=[{"method": "post", "data": {"user_id": 77, "name": "Hushed", "signed_up_at": "x"}}])
    tasks.work_off_jobs()

    answered = post(api, "user_delete_requests", intercom_user_id=str(ann.pk))

    assert answered.json() == {"id": str(ann.pk)}
    for model in apps.get_models():
        for row in model.objects.values():
            words = str(row).lower()
            assert "hushed" not in words, (model, row)
            assert "'77'" not in words, (model, row)
    ann.refresh_from_db()
    assert (ann.email, ann.user_id, ann.name, ann.archived_at is not None) == (None, None, "", True)
    assert ongoing.records.counts()["sent"] == 1
    assert alone.records.get().status == Status.SKIPPED
    assert (Event.objects.get().name, EventSummary.objects.get().count) == ("ordered", 1)
    assert post(api, "users", user_id="77").json()["id"] != str(ann.pk)
    assert post(api, "user_delete_requests", intercom_user_id=str(ann.pk)).status_code == 200


def test_erasure_leaves_message_versions_unchanged(at):
    message = MessageFactory(live=True)

    with pytest.raises(Exception, match="This version has been live"):
        message.versions.update(body="other")


# Bulk


def test_invalid_bulk_job_is_refused_completely(api):
    wrong = [{"method": "put"}], [{"data_type": "event", "data": {}}], [{"method": "delete", "data": 5}]
    for items in ([], "x", *wrong):
        assert post(api, "bulk/users", items=items).status_code == 400
    assert post(api, "bulk/events", items=[{"method": "delete", "data_type": "event", "data": {}}]).status_code == 400
    assert not Job.objects.exists()


def test_closed_job_accepts_no_more_items(api, time_machine, at):
    time_machine.move_to(at, tick=False)
    job = post(api, "bulk/users", items=[{"method": "post", "data": {"user_id": "1"}}]).json()
    time_machine.move_to(at + timedelta(seconds=900), tick=False)

    again = post(api, "bulk/users", items=[{"method": "post", "data": {"user_id": "2"}}], job={"id": job["id"]})

    assert (again.status_code, again.json()["errors"][0]["field"]) == (400, "job")


def test_unexpected_error_in_one_item_does_not_stop_the_others(api, monkeypatch):
    def breaks(_data, *, at):
        raise ZeroDivisionError

    monkeypatch.setitem(bulk_jobs.ACTIONS, ("delete", "user"), breaks)
    items = [{"method": "delete", "data": {"user_id": "1"}}, {"method": "post", "data": {"user_id": "2"}}]
    post(api, "bulk/users", items=items)

    tasks.work_off_jobs()

    assert Customer.objects.get().user_id == "2"
    assert JobItem.objects.get().error_code == "server_error"


# Subscriptions


def test_subscription_shows_its_secret_once_and_its_log(api, at):
    made = post(api, "subscriptions", url="https://hooks.example/", topics=["user.created"]).json()
    assert made["hub_secret"] == Subscription.objects.get().secret
    assert made["signing_secret"] == standard_secret(made["hub_secret"])
    assert "hub_secret" not in api.get(f"/api/subscriptions/{made['id']}").json()
    post(api, "users", user_id="1")

    assert post(api, f"subscriptions/{made['id']}/ping").status_code == 200

    assert list(Notification.objects.order_by("pk").values_list("topic", flat=True)) == ["user.created", "ping"]
    Notification.objects.filter(topic="ping").update(detail="It answered 500.", response_status=500)
    [failure] = api.get(f"/api/subscriptions/{made['id']}/error").json()["items"]
    assert (failure["topic"], failure["response_status"]) == ("ping", 500)
    assert api.get(f"/api/subscriptions/{made['id']}/sent").json()["items"] == []


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ({"topics": ["ping"]}, 422, "url"),
        ({"url": "https://x.example/"}, 422, "topics"),
        ({"url": "https://x.example/", "topics": ["weather"]}, 400, "topics"),
        ({"url": "https://x.example/", "topics": "ping"}, 400, "topics"),
        ({"url": "https://x.example/", "topics": []}, 400, "topics"),
        ({"url": [], "topics": ["ping"]}, 400, "url"),
        ({"url": "https://x.example/", "topics": ["ping"], "hub_secret": False}, 400, "hub_secret"),
        ({"url": "https://x.example/", "topics": ["*"], "hub_secret": "whsec_not base64"}, 400, "hub_secret"),
        ({"url": "https://x.example/", "topics": ["*"], "hub_secret": "whsec_"}, 400, "hub_secret"),
        ({"url": "ftp://x.example/", "topics": ["ping"]}, 400, "url"),
        ({"url": "http://169.254.169.254/latest", "topics": ["ping"]}, 400, "url"),
    ],
)
def test_invalid_subscription_is_refused(api, sent, status, field):
    answered = post(api, "subscriptions", **sent)

    assert answered.status_code == status
    error = answered.json()["errors"][0]
    assert error["field"] == field
    assert not Subscription.objects.exists()


# Outbound


def test_outbound_lists_messages_to_audiences_with_their_counts(api, at):
    customer = CustomerFactory(user_id="u1", email="ann@x.example")
    message = MessageFactory(in_app=True, live=True)
    MessageFactory(one_off=True, title="Draft")
    visit.visit(customer, at=at)

    listed = api.get("/api/outbound").json()

    assert [row["title"] for row in listed["messages"]] == ["Draft", message.title]
    assert listed["messages"][1]["counts"]["sent"] == 1
    only = api.get("/api/outbound", {"send_type": "one_off", "state": "draft"}).json()
    assert [row["title"] for row in only["messages"]] == ["Draft"]
    assert api.get("/api/outbound", {"state": "asleep"}).json()["errors"][0]["field"] == "state"


def test_outbound_message_changes_are_in_the_audit_log(api):
    message = MessageFactory(live=True, title="Old")

    def patch(**sent: object):
        return api.patch(f"/api/outbound/{message.pk}", sent, format="json")

    states = [patch(state=state).json()["state"] for state in ("paused", "paused", "live", "stopped")]

    assert patch(title="New").json()["title"] == "New"
    assert states == ["paused", "paused", "live", "stopped"]
    log = apps.get_model("admin", "LogEntry").objects.order_by("pk")
    assert [entry.change_message for entry in log] == [
        "Paused: from Live to Paused",
        "Resumed: from Paused to Live",
        "Stopped: from Live to Stopped",
        "Renamed, was “Old”",
    ]
    assert log[0].user.first_name == "tests"
    again = patch(state="live")
    assert (again.status_code, again.json()["errors"][0]["code"]) == (409, "conflict")


@pytest.mark.parametrize("field", Message.LOCKED_ONCE_LIVE)
def test_locked_field_is_a_conflict_that_names_it_and_nothing_else_is_changed(api, field):
    message = MessageFactory(live=True)

    answered = api.patch(f"/api/outbound/{message.pk}", {field: "other", "title": "New"}, format="json")

    error = answered.json()["errors"][0]
    assert (answered.status_code, error["code"], error["field"]) == (409, "conflict", field)
    message.refresh_from_db()
    assert message.title != "New"


def test_locked_field_with_its_current_value_is_accepted(api):
    message = MessageFactory(live=True)
    row = api.get(f"/api/outbound/{message.pk}").json()

    assert api.patch(f"/api/outbound/{message.pk}", {**row, "title": "New"}, format="json").status_code == 200


@pytest.mark.parametrize("field", ["scheduled_for", "per_company", "to_customer", "audience"])
def test_field_that_cannot_be_set_is_refused_by_name(api, field):
    message = MessageFactory()
    as_it_stands = api.get(f"/api/outbound/{message.pk}").json()

    answered = api.patch(f"/api/outbound/{message.pk}", {"title": "New", field: "999999"}, format="json")

    assert (answered.status_code, answered.json()["errors"][0]["field"]) == (400, field)
    again = api.patch(f"/api/outbound/{message.pk}", as_it_stands, format="json")
    assert (again.status_code, again.json()["title"]) == (200, message.title)


def test_sync_by_id_does_not_refill_an_erased_person(api):
    user = CustomerFactory(user_id="u1", email="ann@x.example")
    post(api, "user_delete_requests", intercom_user_id=str(user.pk))

    answered = post(api, "users", id=str(user.pk), name="Ann", email="ann@x.example")

    assert (answered.status_code, answered.json()["errors"][0]["code"]) == (404, "not_found")
    user.refresh_from_db()
    assert (user.name, user.archived_at is None) == ("", False)


def test_email_record_of_an_erased_person_has_no_content(api, at):
    ann = CustomerFactory(user_id="u1", name="Ann")
    MessageFactory(in_app=True, body="<p>Hi {{ name }}</p>", live=True)
    visit.visit(ann, at=at)
    post(api, "user_delete_requests", intercom_user_id=str(ann.pk))

    rendered = rendering.render_sent_copy(
        DeliveryRecord.objects.select_related("message", "version", "company", "customer").get()
    )

    assert "Ann" not in (rendered.html if rendered else "")
