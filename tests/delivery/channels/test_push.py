"""Pushes: one record, every device of its customer, once; against Firebase's HTTP v1 on a real socket."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from audiences.models import Customer, Device
from delivery import process, tokens
from delivery.maintenance import sweep
from delivery.matching import launch, lifecycle, ongoing, recheck
from delivery.models import DeliveryRecord, DeviceCopy, Pace, Reason, Status
from delivery.sending import dispatcher, outcome, settle, uncertain
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Message
from tests.factories import AT, CustomerFactory, MessageFactory, rule
from tests.support import fcm_server
from tests.support.fcm_server import Act, Firebase

pytestmark = [
    pytest.mark.django_db,
    # Apps still register with tokens; the deprecation in the library is about their successors.
    pytest.mark.filterwarnings("ignore:Message.token is deprecated"),
]

LATER = timedelta(days=2)


@pytest.fixture
def firebase(settings, monkeypatch) -> Iterator[Firebase]:
    with fcm_server.serving(settings, monkeypatch) as server:
        yield server


def customer_with(*device_tokens: str, **facts: object) -> Customer:
    customer = CustomerFactory(**facts)
    for token in device_tokens:
        Device.objects.create(customer=customer, token=token, created_at=AT)
    return customer


def pushed(at, *, link: str = "", **facts) -> Message:
    message = MessageFactory(channel="push", **facts)
    authoring.revise(message, subject=message.version.subject, body=message.version.body, link=link, by=None, at=at)
    launch.launch(message, at=at)
    ongoing.match(message, at=at)
    return message


def hand_over(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def only() -> DeliveryRecord:
    return DeliveryRecord.objects.get()


def test_a_push_has_title_text_link_and_a_token_of_the_record(firebase, at):
    customer_with("phone", name="Ann Lee", attributes={})
    pushed(
        at,
        subject="Hi {{ first_name }}",
        body="<p>Your order &amp; bill</p>",
        link="https://shop.example/o?n={{ name }}",
    )

    hand_over(at)

    (push,) = firebase.pushes
    assert push["token"] == "phone"
    assert push["notification"] == {"title": "Hi Ann", "body": "Your order & bill"}
    assert push["data"]["link"] == "https://shop.example/o?n=AnnLee"
    assert tokens.read_token(push["data"]["outbound_token"], purpose="push", numbers=1) == (only().pk,)
    assert push["webpush"]["fcm_options"] == {"link": "https://shop.example/o?n=AnnLee"}
    assert push["android"]["notification"]["tag"] == push["data"]["outbound_token"]
    assert (only().status, only().sent_at, only().provider_id) == (Status.SENT, at, "projects/acme/messages/phone")
    assert firebase.bearers == {"Bearer a-token"}


def test_a_push_without_title_or_link_opens_the_app(firebase, at):
    customer_with("phone")
    pushed(at, subject="", body="<p>Hello</p>")

    hand_over(at)

    (push,) = firebase.pushes
    assert push["notification"] == {"body": "Hello"}
    assert "link" not in push["data"]


def test_an_address_of_the_app_is_for_the_app_alone(firebase, at):
    customer_with("phone")
    pushed(at, link="acme://orders/1")

    hand_over(at)

    assert firebase.pushes[0]["data"]["link"] == "acme://orders/1"
    assert "fcm_options" not in firebase.pushes[0]["webpush"]


def test_a_text_longer_than_firebase_takes_is_cut(firebase, at):
    customer_with("phone")
    pushed(at, body=f"<p>{'é' * 3000}</p>")

    hand_over(at)

    assert len(json.dumps(firebase.pushes[0], ensure_ascii=False).encode()) < 4096
    assert firebase.pushes[0]["notification"]["body"].endswith("é…")


def test_every_device_gets_it_once_and_one_record_is_sent(firebase, at):
    customer_with("phone", "tablet", "browser")
    pushed(at)

    assert hand_over(at) == 1
    hand_over(at + LATER)

    assert sorted(firebase.tokens) == ["browser", "phone", "tablet"]
    assert only().status == Status.SENT
    assert DeviceCopy.objects.filter(record=only(), taken=True).count() == 3


def test_pushes_go_side_by_side_over_one_login(firebase, at):
    firebase.takes = 0.05
    for number in range(30):
        customer_with(f"phone-{number}")
    message = pushed(at)

    assert hand_over(at) == 30

    assert message.records.counts()["sent"] == 30
    assert len(set(firebase.tokens)) == len(firebase.tokens) == 30
    assert firebase.most_at_once >= 5
    assert firebase.logins == 1


@pytest.mark.parametrize("said", [fcm_server.UNREGISTERED, fcm_server.NO_TOKEN], ids=["unregistered", "no token"])
def test_a_dead_token_is_retired_and_the_others_get_theirs(firebase, at, said):
    customer_with("dead", "phone")
    firebase.says("dead", said)
    pushed(at)

    hand_over(at)

    assert only().status == Status.SENT
    assert [device.token for device in Device.objects.live()] == ["phone"]
    assert Device.objects.get(token="dead").retired_at == at


@pytest.mark.parametrize(
    ("send_type", "becomes"), [("one_off", Status.SKIPPED), ("ongoing", Status.WITHDRAWN)], ids=str
)
def test_customer_with_only_dead_tokens_has_no_device(firebase, at, send_type, becomes):
    customer_with("dead")
    firebase.says("dead", fcm_server.UNREGISTERED)
    pushed(at, send_type=send_type)

    hand_over(at)

    assert (only().status, only().reason) == (becomes, Reason.NO_DEVICE)
    assert firebase.tokens == ["dead"]


def test_an_ongoing_push_comes_once_the_app_is_installed_again(firebase, at):
    customer = customer_with("dead")
    firebase.says("dead", fcm_server.UNREGISTERED)
    message = pushed(at)
    hand_over(at)
    Device.objects.create(customer=customer, token="new", created_at=at)

    ongoing.match(message, at=at + LATER)
    hand_over(at + LATER)

    assert (only().status, firebase.tokens) == (Status.SENT, ["dead", "new"])


def test_one_off_skips_customers_without_a_device(firebase, at):
    CustomerFactory()

    pushed(at, send_type="one_off")

    assert (only().status, only().reason) == (Status.SKIPPED, Reason.NO_DEVICE)


@pytest.mark.parametrize(
    ("said", "words"),
    [(fcm_server.TOO_BIG, "too big"), (fcm_server.OTHER_PROJECT, "another Firebase project")],
    ids=["too big", "other project"],
)
def test_permanent_refusal_fails_with_firebases_reason_and_keeps_the_device(firebase, at, said, words):
    customer_with("phone")
    firebase.says("phone", said)
    pushed(at)

    hand_over(at)

    assert (only().status, only().reason) == (Status.FAILED, Reason.REJECTED)
    assert words in only().detail
    assert Device.objects.live().count() == 1


@pytest.mark.parametrize(
    ("said", "at_least", "at_most"),
    [
        ((*fcm_server.BUSY, {}), 60, 75),
        ((*fcm_server.FALTERS, {}), 60, 75),
        ((*fcm_server.TOO_MANY, {"Retry-After": "600"}), 600, 750),
        ((*fcm_server.BUSY, {"Retry-After": "5"}), 60, 75),
        (
            (
                *fcm_server.BUSY,
                {"Date": "Mon, 04 May 2026 10:00:00 GMT", "Retry-After": "Mon, 04 May 2026 10:20:00 GMT"},
            ),
            1200,
            1500,
        ),
        ((*fcm_server.BUSY, {"Retry-After": "soon"}), 60, 75),
        ((*fcm_server.NO_APPLE_KEY, {}), 60, 75),
    ],
    ids=["503", "500", "429 later", "503 sooner", "503 until", "503 nonsense", "no key of Apple's"],
)
def test_retry_waits_at_least_as_long_as_firebase_asks(firebase, at, said, at_least, at_most):
    customer_with("phone")
    firebase.says("phone", said)
    pushed(at)

    hand_over(at)

    record = only()
    assert (record.status, record.reason, record.attempts) == (Status.WAITING, Reason.RETRY, 1)
    assert timedelta(seconds=at_least) <= record.due_at - at <= timedelta(seconds=at_most)
    if said[0] != 401:  # Which is asked again with a new login.
        assert firebase.tokens == ["phone"]


def test_while_firebase_asks_everybody_to_wait_the_channel_rests(firebase, at, settings):
    settings.IN_FLIGHT = 2
    for number in range(6):
        customer_with(f"phone-{number}")
        firebase.says(f"phone-{number}", fcm_server.BUSY)
    message = pushed(at)

    hand_over(at)

    assert len(firebase.pushes) == 2
    assert sorted(message.records.values_list("attempts", flat=True)) == [0, 0, 0, 0, 1, 1]


def test_retry_goes_only_to_devices_without_a_copy(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY, (200, {"name": "second"}))
    pushed(at)

    hand_over(at)
    waiting = only()
    hand_over(at + LATER)

    assert (waiting.status, waiting.detail[:25]) == (Status.WAITING, "1 of 2 devices have it. 5")
    assert sorted(firebase.tokens) == ["phone", "tablet", "tablet"]
    assert (only().status, only().attempts) == (Status.SENT, 2)


def test_copy_on_one_device_counts_as_sent_whatever_happens_on_others(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY, fcm_server.UNREGISTERED)
    pushed(at)
    hand_over(at)
    Device.objects.filter(token="phone").update(retired_at=at)

    hand_over(at + LATER)
    hand_over(at + 2 * LATER)

    assert only().status == Status.SENT
    assert sorted(firebase.tokens) == ["phone", "tablet", "tablet"]


def test_copy_on_one_device_counts_as_sent_if_no_device_is_left_to_try(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY)
    pushed(at)
    hand_over(at)
    Device.objects.update(retired_at=at)

    hand_over(at + LATER)

    assert (only().status, only().provider_id) == (Status.SENT, "projects/acme/messages/phone")
    assert sorted(firebase.tokens) == ["phone", "tablet"]


def test_push_that_one_device_has_stays_sent_if_the_customer_stops_to_match_during_a_pause(firebase, at):
    customer = customer_with("phone", "tablet", name="Ann")
    firebase.says("tablet", fcm_server.BUSY, (200, {"name": "second"}))
    message = pushed(at, rules=[rule("name", "is", "Ann")])
    hand_over(at)
    waiting = only()

    lifecycle.pause(message)
    type(customer).objects.update(name="Bob")
    message_lifecycle.resume(message, at=at + LATER / 2)
    recheck.recheck_held(message, at=at + LATER / 2)

    assert (waiting.status, only().status, only().due_at) == (Status.WAITING, Status.WAITING, waiting.due_at)
    hand_over(at + LATER)
    assert only().status == Status.SENT


def test_stopped_push_that_one_device_has_is_sent_and_goes_to_no_further_device(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY)
    message = pushed(at)
    hand_over(at)

    lifecycle.stop(message)
    sweep.sweep(at=at)
    hand_over(at + LATER)

    assert (only().status, only().sent_at, only().provider_id) == (Status.SENT, at, "projects/acme/messages/phone")
    assert sorted(firebase.tokens) == ["phone", "tablet"]


def test_stopped_push_that_a_device_may_have_is_uncertain(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY)
    message = pushed(at)
    hand_over(at)
    DeviceCopy.objects.update(taken=False)

    lifecycle.stop(message)

    assert only().status == Status.UNCERTAIN


def test_database_withdraws_no_push_that_a_device_has(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY)
    pushed(at)
    hand_over(at)

    with pytest.raises(IntegrityError, match="A push that a device has"), transaction.atomic():
        DeliveryRecord.objects.all().withdraw(reason=Reason.STOPPED)


def test_a_pace_holds_for_pushes_one_by_one(firebase, at):
    for number in range(4):
        customer_with(f"phone-{number}")
    Pace.objects.create(channel="push", per_second=10)
    message = pushed(at)
    began = time.monotonic()

    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))

    assert message.records.counts()["sent"] == 4
    # The first may go a tenth of a second late without delaying the others.
    assert time.monotonic() - began >= 0.2


def test_copy_on_any_device_counts_as_sent_after_the_last_attempt(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY)
    pushed(at)

    for day in range(12):
        hand_over(at + day * timedelta(days=1))

    assert (only().status, only().attempts) == (Status.SENT, len(outcome.BACK_OFF) + 1)
    assert firebase.tokens.count("phone") == 1


def test_no_copy_after_the_last_attempt_is_failed(firebase, at):
    customer_with("phone")
    firebase.says("phone", fcm_server.BUSY)
    pushed(at)

    for day in range(12):
        hand_over(at + day * timedelta(days=1))

    assert (only().status, only().reason) == (Status.FAILED, Reason.GAVE_UP)
    assert len(firebase.pushes) == len(outcome.BACK_OFF) + 1


@pytest.mark.parametrize("act", [Act.HANG, Act.DROP, (200, "<html>a proxy</html>"), (504, "gateway")], ids=str)
def test_push_that_may_have_arrived_is_uncertain_and_never_repeated(firebase, at, act):
    customer_with("phone")
    firebase.says("phone", act)
    pushed(at)

    hand_over(at)
    hand_over(at + LATER)

    assert (only().status, only().reason) == (Status.UNCERTAIN, Reason.LOST_TOUCH)
    assert firebase.tokens == ["phone"]


def test_sure_copy_on_one_device_outweighs_an_uncertain_one(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("tablet", Act.DROP)
    pushed(at)

    hand_over(at)

    assert only().status == Status.SENT
    assert set(DeviceCopy.objects.values_list("device__token", "taken")) == {("phone", True), ("tablet", False)}


def test_a_device_that_perhaps_has_it_is_not_tried_again_with_the_others(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("phone", Act.DROP)
    firebase.says("tablet", fcm_server.BUSY, fcm_server.TOO_BIG)
    pushed(at)

    hand_over(at)
    waiting = only().status
    hand_over(at + LATER)

    assert (waiting, only().status) == (Status.WAITING, Status.UNCERTAIN)
    assert sorted(firebase.tokens) == ["phone", "tablet", "tablet"]


def test_uncertain_push_sent_again_reaches_the_uncertain_device(firebase, at):
    customer_with("phone", "tablet")
    firebase.says("phone", Act.DROP, (200, {"name": "again"}))
    firebase.says("tablet", fcm_server.TOO_BIG)
    pushed(at)
    hand_over(at)

    uncertain.send_again(DeliveryRecord.objects.all(), at=at)
    hand_over(at)

    assert (only().status, only().provider_id) == (Status.SENT, "again")


def test_refused_connection_makes_the_channel_unavailable_and_uses_no_attempt(firebase, at, settings):
    settings.FCM_URL = "http://127.0.0.1:9"
    for name in ("a", "b"):
        customer_with(name)
    message = pushed(at)

    hand_over(at)

    for record in message.records.all():
        assert (record.status, record.attempts) == (Status.WAITING, 0)
        assert record.due_at == at + outcome.OUTAGE_RETRY_AFTER
        assert "Firebase cannot be reached" in record.detail


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ((400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}), "Invalid JWT Signature"),
        ((200, "no json"), "FCM_CREDENTIALS"),
        (Act.DROP, "FCM_CREDENTIALS"),
    ],
    ids=["refused", "nonsense", "dropped"],
)
def test_failed_login_makes_the_channel_unavailable_with_the_reason(firebase, at, login, words):
    firebase.login = login
    customer_with("phone")
    pushed(at)

    hand_over(at)

    assert (only().status, only().attempts, firebase.pushes) == (Status.WAITING, 0, [])
    assert words in only().detail


@pytest.mark.parametrize(
    "given", ["/no/such/file.json", "{}", "{", '{"type": "service_account", "project_id": "acme"}', '["a"]']
)
def test_credentials_that_are_none_leave_the_channel_resting_and_say_so(firebase, at, settings, given):
    settings.FCM_CREDENTIALS = given
    customer_with("phone")
    pushed(at)

    hand_over(at)

    assert (only().status, only().attempts) == (Status.WAITING, 0)
    assert "FCM_CREDENTIALS cannot be used" in only().detail


def test_a_project_that_refuses_our_credentials_makes_the_channel_wait(firebase, at):
    customer_with("phone")
    firebase.says("phone", fcm_server.NO_PERMISSION)
    pushed(at)

    hand_over(at)

    assert (only().status, only().attempts) == (Status.WAITING, 0)
    assert "Permission 'cloudmessaging.messages.create' denied" in only().detail


def test_credentials_may_be_a_file(firebase, at, settings, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(firebase.credentials)
    settings.FCM_CREDENTIALS = str(path)
    customer_with("phone")
    pushed(at)

    hand_over(at)

    assert only().status == Status.SENT


def test_a_worker_that_dies_after_one_device_has_it_leaves_the_record_uncertain(firebase, at, monkeypatch):
    customer_with("phone", "tablet")
    firebase.says("tablet", fcm_server.BUSY)
    pushed(at)

    def dies(*_args: object, **_facts: object) -> None:
        raise SystemExit

    monkeypatch.setattr(settle, "settle_batch", dies)
    with pytest.raises(SystemExit):
        hand_over(at)
    monkeypatch.undo()
    process.close_resources()

    assert settle.recover_from_journals(at=at) == 1
    assert (only().status, only().reason) == (Status.UNCERTAIN, Reason.WORKER_DIED)


def test_push_without_credentials_is_only_logged(at, settings, caplog):
    settings.FCM_CREDENTIALS = ""
    caplog.set_level("INFO", logger="delivery.channels.push")
    customer_with("phone-of-ann")
    pushed(at, body="<p>secret</p>")

    hand_over(at)

    assert only().status == Status.SENT
    assert "to device phone-…" in caplog.text
    assert "secret" not in caplog.text
