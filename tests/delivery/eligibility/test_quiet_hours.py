"""Quiet hours of the workspace: emails and pushes to an audience wait until they end (behaviour 4.29)."""

from datetime import UTC, datetime, time, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from audiences.models import Customer, Device, Workspace
from delivery.channels import CHANNELS
from delivery.matching import direct, launch, ongoing, recheck
from delivery.matching import lifecycle as matching_lifecycle
from delivery.models import Reason, Status
from delivery.sending import claim, dispatcher, lane
from delivery.visits import visit
from messaging import lifecycle
from messaging.models import Channel, Message, NotReady
from tests.factories import CustomerFactory, MessageFactory, SenderFactory

pytestmark = pytest.mark.django_db
NIGHT = datetime(2026, 5, 4, 23, 0, tzinfo=UTC)
MORNING = datetime(2026, 5, 5, 8, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EVENINGS = [{"weekday": day, "from": "22:00", "to": "24:00"} for day in range(7)]


class Taking:
    """A channel that accepts everything."""

    def send(self, _envelope) -> str:
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def channels(monkeypatch) -> None:
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Taking)
    monkeypatch.setitem(CHANNELS, Channel.PUSH, Taking)


@pytest.fixture(autouse=True)
def quiet(db):
    def quiet(begin: time | None, end: time | None) -> None:
        Workspace.current()
        Workspace.objects.update(quiet_from=begin, quiet_to=end)

    quiet(time(22), time(8))
    return quiet


@pytest.fixture
def ann() -> Customer:
    customer = CustomerFactory(name="Ann", email="ann@x.example")
    Device.objects.create(customer=customer, token="t", platform="android", created_at=NIGHT)
    return customer


def sends(at: datetime = NIGHT, **facts) -> Message:
    message = MessageFactory(live=True, at=at, **facts)
    ongoing.match(message, at=at)
    hand_over(at)
    return message


def hand_over(at: datetime) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + SECOND)


def state(message: Message) -> tuple[object, ...]:
    record = message.records.get()
    return record.status, record.reason, record.due_at


@pytest.mark.parametrize("channel", [Channel.EMAIL, Channel.PUSH])
@pytest.mark.parametrize("send_type", ["ongoing", "one_off"])
def test_message_to_an_audience_waits_until_quiet_hours_end(ann, channel, send_type):
    message = sends(channel=channel, send_type=send_type)

    assert state(message) == (Status.WAITING, Reason.WINDOW, MORNING)
    hand_over(MORNING - SECOND)
    assert state(message)[0] == Status.WAITING
    hand_over(MORNING)
    assert state(message)[0] == Status.SENT


def test_copy_that_is_due_when_quiet_hours_begin_waits_for_their_end(ann):
    message = MessageFactory(live=True, at=NIGHT - timedelta(hours=2))
    ongoing.match(message, at=NIGHT - timedelta(hours=2))
    assert state(message)[1] == Reason.QUEUED

    assert hand_over(NIGHT) == 0

    assert state(message) == (Status.WAITING, Reason.WINDOW, MORNING)


def test_claimed_copy_does_not_begin_once_quiet_hours_have_begun(ann):
    evening = NIGHT - timedelta(hours=2)
    abroad = CustomerFactory(email="bob@x.example", timezone="America/New_York")
    for zone, left in (("workspace", {ann.pk, abroad.pk}), ("customer", {ann.pk})):
        message = MessageFactory(live=True, at=evening, window_zone=zone)
        ongoing.match(message, at=evening)
        batch = claim.claim(message, at=evening, token=uuid4())
        copies = [SimpleNamespace(batch=SimpleNamespace(batch=batch), record=record) for record in batch.records]
        customers = dict(message.records.values_list("pk", "customer_id"))

        assert lane.records_outside_window(copies, at=NIGHT - timedelta(hours=1) - SECOND) == set()
        assert {customers[pk] for pk in lane.records_outside_window(copies, at=NIGHT)} == left


def test_urgent_direct_and_in_app_messages_do_not_wait(ann):
    urgent = sends(during_quiet_hours=True)
    sender = SenderFactory()
    answer = direct.send_to_one(
        ann, channel="email", format="", sender=sender, subject="Hi", body="<p>x</p>", by=None, at=NIGHT
    )
    in_app = MessageFactory(live=True, in_app=True, at=NIGHT)
    hand_over(NIGHT)
    visit.visit(ann, at=NIGHT)

    assert state(urgent)[0] == Status.SENT
    answer.refresh_from_db()
    assert answer.status == Status.SENT
    assert state(in_app)[0] == Status.SENT


def test_nothing_waits_without_quiet_hours(ann, quiet):
    quiet(None, None)

    assert state(sends())[0] == Status.SENT


def test_a_visit_at_night_matches_a_message_that_waits(ann):
    message = MessageFactory(live=True, at=NIGHT)
    visit.visit(ann, at=NIGHT)

    assert state(message) == (Status.WAITING, Reason.WINDOW, MORNING)


def test_delivery_times_and_quiet_hours_must_both_allow_it(ann):
    early = [{"weekday": day, "from": "07:00", "to": "09:00"} for day in range(7)]
    late = [{"weekday": day, "from": "10:00", "to": "23:30"} for day in range(7)]

    assert state(sends(window=early))[2] == MORNING
    assert state(sends(window=late))[2] == MORNING.replace(hour=10)


def test_zone_of_the_delivery_times_decides(ann):
    Customer.objects.filter(pk=ann.pk).update(timezone="America/New_York")
    unknown = CustomerFactory(email="bob@x.example")

    by_workspace, by_customer = sends(), sends(window_zone="customer")

    assert {one.due_at for one in by_workspace.records.all()} == {MORNING}
    assert by_customer.records.get(customer=ann).status == Status.SENT
    assert by_customer.records.get(customer=unknown).due_at == MORNING


def test_the_night_of_a_clock_change_ends_by_local_time(ann):
    Workspace.objects.update(zone="Europe/Dublin")

    for night, morning in (
        (datetime(2026, 3, 28, 23, 30, tzinfo=UTC), datetime(2026, 3, 29, 7, 0, tzinfo=UTC)),
        (datetime(2026, 10, 24, 23, 30, tzinfo=UTC), datetime(2026, 10, 25, 8, 0, tzinfo=UTC)),
    ):
        assert state(sends(night))[2] == morning


def test_lifted_quiet_hours_let_waiting_copies_go(ann, quiet):
    message = sends()
    quiet(None, None)

    assert recheck.make_waiting_records_due(Reason.WINDOW, at=NIGHT) == 1
    hand_over(NIGHT)

    assert state(message)[0] == Status.SENT


def test_message_that_could_never_be_sent_is_refused_and_waits_if_it_is_live(ann, quiet):
    quiet(None, None)
    live, paused = (MessageFactory(live=True, window=EVENINGS, at=NIGHT) for _ in range(2))
    lifecycle.pause(paused)
    draft = MessageFactory(window=EVENINGS)
    quiet(time(22), time(8))
    ongoing.match(live, at=NIGHT)

    for attempt in (lambda: launch.launch(draft, at=NIGHT), lambda: matching_lifecycle.resume(paused, at=NIGHT)):
        with pytest.raises(NotReady, match="lie within the quiet hours of the workspace"):
            attempt()
    assert state(live) == (Status.WAITING, Reason.WINDOW, NIGHT + timedelta(days=7))
    assert hand_over(NIGHT + timedelta(days=7)) == 0
    draft.during_quiet_hours = True
    draft.save()
    launch.launch(draft, at=NIGHT)
    assert draft.state == "live"


@pytest.mark.parametrize("hours", [(time(8), time(8)), (time(22), None), (None, time(8)), (time(22, 15), time(8))])
def test_database_refuses_invalid_quiet_hours(quiet, hours):
    with pytest.raises(IntegrityError), transaction.atomic():
        quiet(*hours)
