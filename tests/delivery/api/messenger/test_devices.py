"""Push devices: registration by an app or by the customer's server, and reports of opened pushes."""

from datetime import timedelta

import pytest
import time_machine
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.intake.devices import MAX_DEVICES
from audiences.models import Customer, Device, Integration, Workspace
from delivery import tokens
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Reason, Status
from tests.factories import AT, CustomerFactory, MessageFactory
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(django_user_model) -> APIClient:
    user = django_user_model.objects.create(username="shop")
    _, token = Integration.objects.create(user=user, name="shop")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def app_of(user_id: str) -> APIClient:
    """The app of a logged-in customer: it sends no Origin header and has a session."""
    secret = Workspace.current().identity_secret
    user = {"user_id": user_id, "user_hash": identity_verification.user_hash(secret, user_id)}
    client = APIClient()
    token = client.post("/messenger/ping", {"user": user}, format="json").json()["token"]
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def record_sent(at, **facts) -> DeliveryRecord:
    message = MessageFactory(channel="push", live=True, at=at)
    record = DeliveryRecord.objects.create(
        message=message, customer=CustomerFactory(), matched_at=at, due_at=at, status=Status.WAITING
    )
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    rows.mark_sending(claim="6a3c5c1e-0000-4000-8000-000000000000", until=at + timedelta(minutes=5))
    if facts.get("uncertain"):
        rows.mark_uncertain(reason=Reason.LOST_TOUCH, detail="")
    else:
        mark_records_sent(rows, at=at)
    return rows.get()


def opened(token: str):
    return APIClient().post("/messenger/pushes/opened", {"token": token}, format="json")


# By the API


def test_server_registers_a_device_of_a_user(api):
    customer = CustomerFactory(user_id="ann", email="ann@x.example")

    answered = api.post("/api/devices", {"user_id": "ann", "token": "abc:1", "platform": "ios"}, format="json")

    device = Device.objects.get()
    assert (device.customer, device.token, device.platform) == (customer, "abc:1", "ios")
    assert answered.json() == {
        "type": "device",
        "id": str(device.pk),
        "token": "abc:1",
        "platform": "ios",
        "created_at": int(device.created_at.timestamp()),
        "retired_at": None,
        "user": {"type": "user", "id": str(customer.pk), "user_id": "ann", "email": "ann@x.example"},
    }


def test_registering_again_restores_a_retired_device(api):
    customer = CustomerFactory(user_id="ann")
    Device.objects.create(customer=customer, token="abc", created_at=AT, retired_at=AT)

    for _ in range(2):
        assert api.post("/api/devices", {"user_id": "ann", "token": "abc"}, format="json").status_code == 200

    assert [(device.token, device.retired_at) for device in customer.devices.all()] == [("abc", None)]


def test_device_moves_to_the_customer_who_logs_in_next(api):
    ann, bob = CustomerFactory(user_id="ann"), CustomerFactory(user_id="bob")
    for name in ("ann", "bob"):
        api.post("/api/devices", {"user_id": name, "token": "one-phone"}, format="json")

    assert (ann.devices.count(), bob.devices.count()) == (0, 1)


def test_devices_are_listed_and_retired(api):
    customer = CustomerFactory(user_id="ann")
    for token in ("a", "b"):
        Device.objects.create(customer=customer, token=token, created_at=AT)
    listed = api.get("/api/devices?user_id=ann").json()

    retired = api.delete(f"/api/devices/{listed['devices'][0]['id']}")

    assert [device["token"] for device in listed["devices"]] == ["a", "b"]
    assert retired.json()["retired_at"] is not None
    assert [device.token for device in Device.objects.live()] == ["b"]


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"user_id": "ann"}, 422, "token is required"),
        ({"user_id": "nobody", "token": "a"}, 404, "No such user_id[nobody]"),
        ({"token": "a"}, 400, "Identify the user"),
        ({"user_id": "ann", "token": "a", "platform": "watch"}, 400, "“watch” is not a valid platform"),
        ({"user_id": "ann", "token": "a b"}, 400, "token must be the Firebase registration token"),
        ({"user_id": "ann", "token": "x" * 1001}, 400, "token is longer than 1,000"),
        ({"user_id": "ann", "token": ["a"]}, 400, "token must be a string"),
    ],
    ids=["no token", "nobody", "who", "watch", "blank", "long", "list"],
)
def test_invalid_device_is_refused_with_a_reason(api, sent, status, words):
    CustomerFactory(user_id="ann")

    answered = api.post("/api/devices", sent, format="json")

    assert answered.status_code == status
    assert words in answered.json()["errors"][0]["message"]
    assert not Device.objects.exists()


def test_customer_has_a_maximum_of_devices(api):
    customer = CustomerFactory(user_id="ann")
    for number in range(MAX_DEVICES):
        Device.objects.create(customer=customer, token=f"old-{number}", created_at=AT + timedelta(minutes=number))

    api.post("/api/devices", {"user_id": "ann", "token": "new"}, format="json")

    live = set(Device.objects.live().values_list("token", flat=True))
    assert (len(live), "new" in live, "old-0" in live) == (MAX_DEVICES, True, False)


# By the app


def test_app_registers_the_device_it_runs_on():
    answered = app_of("ann").post("/messenger/devices", {"token": "abc", "platform": "android"}, format="json")

    assert answered.json() == {"type": "device", "platform": "android", "registered": True}
    assert Device.objects.get().customer == Customer.objects.get(user_id="ann")


def test_app_without_a_session_registers_nothing():
    assert APIClient().post("/messenger/devices", {"token": "abc"}, format="json").status_code == 401
    assert not Device.objects.exists()


def test_logging_out_retires_only_the_own_device():
    ann, bob = app_of("ann"), app_of("bob")
    ann.post("/messenger/devices", {"token": "of-ann"}, format="json")
    bob.post("/messenger/devices", {"token": "of-bob"}, format="json")

    for token in ("of-ann", "of-bob"):
        ann.post("/messenger/devices/forget", {"token": token}, format="json")

    assert [device.token for device in Device.objects.live()] == ["of-bob"]


# Opened


def test_opening_is_recorded_once(at):
    record = record_sent(at)
    token = tokens.make_token(record.pk, purpose="push")

    for hours in (1, 2):
        with time_machine.travel(at + timedelta(hours=hours), tick=False):
            assert opened(token).status_code == 200

    record.refresh_from_db()
    assert (record.status, record.opened_at) == (Status.SENT, at + timedelta(hours=1))


def test_opening_proves_that_an_uncertain_push_was_sent(at):
    record = record_sent(at, uncertain=True)

    opened(tokens.make_token(record.pk, purpose="push"))

    record.refresh_from_db()
    assert record.status == Status.SENT
    assert record.opened_at is not None


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 32, tokens.make_token(1, purpose="unsubscribe")])
def test_unknown_push_token_is_refused(at, token):
    record_sent(at)

    assert opened(token).status_code in (400, 404)
    assert not DeliveryRecord.objects.exclude(opened_at=None).exists()


def test_registering_a_device_makes_an_ongoing_push_match(at, api):
    customer = CustomerFactory(user_id="ann")
    message = MessageFactory(channel="push", live=True, at=at)
    ongoing.match(message, at=at)
    before = message.records.count()
    api.post("/api/devices", {"user_id": "ann", "token": "abc"}, format="json")

    ongoing.match(message, at=at + timedelta(hours=1))

    assert (before, message.records.get().customer) == (0, customer)
