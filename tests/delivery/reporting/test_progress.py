"""Progress of sending: records done and left, rate, and estimated end."""

from datetime import time, timedelta

import pytest

from audiences.models import Customer, Workspace
from delivery.channels import CHANNELS
from delivery.matching import lifecycle
from delivery.models import DeliveryRecord, Pace, Reason, Status
from delivery.reporting import progress
from delivery.sending import dispatcher
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.sending import send_one_batch

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


class Taking:
    """A channel that accepts everything."""

    def send(self, _envelope) -> str:
        return ""

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(autouse=True)
def channel(monkeypatch) -> None:
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Taking)


def under_way(at, *, sent: int, of: int) -> Message:
    """Create a one-off with some records sent, at 10 per second until `at`, since it went live."""
    Customer.objects.bulk_create(CustomerFactory.build(email=f"{n}@x.example") for n in range(of))
    message = MessageFactory(one_off=True, live=True, at=at - max(1, sent // 10) * SECOND)
    for number in range(sent // 10):
        send_one_batch(message, clock=lambda n=number: at - (sent // 10 - n) * SECOND)
    return message


def test_paused_message_shows_sent_and_held_records(at):
    message = under_way(at, sent=20, of=57)
    lifecycle.pause(message)

    found = progress.progress_of(message, at=at)

    assert str(found) == "stopped after 20 of 57"
    assert (found.done, found.left, found.ends_at) == (20, 37, None)


def test_end_is_estimated_from_the_measured_rate(at):
    message = under_way(at, sent=400, of=500)

    found = progress.progress_of(message, at=at)

    assert found.per_second == pytest.approx(10)
    assert found.ends_at == at + timedelta(seconds=10)
    assert progress.rate_of_channel("email", at=at) == pytest.approx(10)
    assert progress.rate_of_channel("email", at=at + timedelta(hours=1)) == 0


def test_end_is_estimated_from_the_throttle_before_the_first_send(at):
    message = under_way(at, sent=0, of=90)
    assert progress.progress_of(message, at=at).ends_at is None
    Pace.objects.create(channel="email", per_second=3)

    assert progress.progress_of(message, at=at).ends_at == at + timedelta(seconds=30)


def test_warm_up_extends_the_estimate_to_days(at):
    message = under_way(at, sent=0, of=90)
    Pace.objects.create(channel="email", per_second=1, warm_up=[20, 40, 60], warm_up_from=at.date())

    third_day = (at + timedelta(days=2)).replace(hour=0)
    assert progress.progress_of(message, at=at).ends_at == third_day + timedelta(seconds=30)


def test_used_up_daily_limit_moves_the_end_to_another_day(at):
    message = under_way(at, sent=0, of=90)
    Pace.objects.create(channel="email", warm_up=[20, 40, 60], warm_up_from=at.date(), day=at.date(), taken_today=20)

    assert progress.progress_of(message, at=at).ends_at == (at + timedelta(days=2)).replace(hour=0)


def test_finished_message_ends_now(at):
    message = under_way(at, sent=20, of=20)
    dispatcher.dispatch(clock=lambda: at, until=at + SECOND)

    assert progress.progress_of(message, at=at).ends_at == at


def test_first_seconds_are_still_measured(at):
    found = progress.progress_of(under_way(at, sent=40, of=140), at=at)

    assert (found.per_second, found.ends_at, found.continues_at) == (pytest.approx(10), None, None)


def test_copies_to_be_tried_again_extend_the_estimate(at):
    message = under_way(at, sent=400, of=500)
    again = DeliveryRecord.objects.filter(status=Status.WAITING).values_list("pk", flat=True)[:20]
    DeliveryRecord.objects.filter(pk__in=list(again)).update(reason=Reason.RETRY, due_at=at + timedelta(minutes=5))

    # The last of the other 80 copies may have to be tried again as well.
    assert progress.progress_of(message, at=at).ends_at == at + timedelta(minutes=5, seconds=8)


def test_copies_for_the_next_window_have_no_end_before_it_opens(at):
    message = under_way(at, sent=0, of=90)
    opening = at + timedelta(hours=5)
    message.records.update(reason=Reason.WINDOW, due_at=opening)

    found = progress.progress_of(message, at=at)

    assert (found.ends_at, found.continues_at) == (None, opening)


def test_quiet_hours_extend_the_estimate(at):
    message = under_way(at, sent=0, of=90)
    Workspace.objects.update_or_create(pk=1, defaults={"quiet_from": time(10, 30), "quiet_to": time(12)})
    Pace.objects.create(channel="email", per_second=0.02)

    # It takes 75 minutes: 30 before them, and 45 after them.
    assert progress.progress_of(message, at=at).ends_at == at.replace(hour=12, minute=45)

    message.during_quiet_hours = True
    assert progress.progress_of(message, at=at).ends_at == at.replace(hour=11, minute=15)


def test_long_send_in_the_zones_of_customers_has_no_estimate(at):
    message = under_way(at, sent=0, of=90)
    message.window = [{"weekday": day, "from": "09:00", "to": "17:00"} for day in range(7)]
    message.window_zone = "customer"
    Pace.objects.create(channel="email", per_second=0.1)
    assert progress.progress_of(message, at=at).ends_at == at + timedelta(minutes=15)

    Pace.objects.update(per_second=0.01)
    found = progress.progress_of(message, at=at)

    assert (found.ends_at, found.depends_on_zones) == (None, True)
