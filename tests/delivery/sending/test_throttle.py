"""Throttle: one rate for all workers of a channel, and a daily limit while it warms up."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from audiences.models import Customer
from delivery import process, shutdown
from delivery.channels import CHANNELS, ChannelDown, SenderRefused
from delivery.matching import ongoing
from delivery.models import Pace
from delivery.models.pace import growing_plan
from delivery.sending import dispatcher, throttle
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.concurrency import elsewhere
from tests.support.machine import slowdown

pytestmark = pytest.mark.django_db


class Noting:
    """A channel that records when it received each envelope."""

    def __init__(self) -> None:
        self.given: list[float] = []

    def send(self, _envelope) -> str:
        self.given.append(time.monotonic())
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def channel(monkeypatch) -> Noting:
    channel = Noting()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


def to_people(number: int, at) -> Message:
    Customer.objects.bulk_create(CustomerFactory.build(email=f"{n}@x.example") for n in range(number))
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)
    return message


def hand_over(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def test_copies_go_at_the_pace_and_no_faster(at, channel):
    Pace.objects.create(channel="email", per_second=50)
    to_people(40, at)
    began = time.monotonic()

    assert hand_over(at) == 40

    took = time.monotonic() - began
    assert 0.65 <= took < 3 * slowdown()
    too_early = [n for n, given in enumerate(channel.given) if given - began < n / 50 - throttle.CATCH_UP]
    assert too_early == []


@pytest.mark.django_db(transaction=True)
def test_four_workers_keep_one_pace_together(channel):
    at = timezone.now()
    Pace.objects.create(channel="email", per_second=60)
    message = to_people(200, at)

    def work(_: int) -> None:
        try:
            dispatcher.dispatch(clock=timezone.now, until=at + timedelta(seconds=30))
        finally:
            connection.close()

    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert message.records.counts()["sent"] == 200
    took = max(channel.given) - began
    assert took >= 199 / 60 - throttle.CATCH_UP
    assert took < 200 / 60 * 1.1 * slowdown()


def test_unused_slots_are_given_back(at, channel):
    Pace.objects.create(channel="email", per_second=1000, warm_up=[100], warm_up_from=at.date())
    to_people(3, at)

    hand_over(at)

    assert Pace.objects.get().taken_today == 3


@pytest.mark.parametrize("refusal", [ChannelDown, SenderRefused])
def test_unavailable_channel_uses_none_of_the_daily_limit(at, channel, refusal):
    Pace.objects.create(channel="email", warm_up=[30], warm_up_from=at.date())
    message = to_people(30, at)

    def is_down(_envelope) -> str:
        raise refusal("connection refused")

    channel.send, works = is_down, channel.send
    for minute in range(5):
        hand_over(at + timedelta(minutes=2 * minute))
    assert Pace.objects.get().taken_today == 0

    channel.send = works
    assert hand_over(at + timedelta(hours=1)) == 30
    assert message.records.counts()["sent"] == 30


def test_sent_copies_count_although_the_rest_of_the_batch_was_returned(at, channel, settings):
    settings.EMAIL_CONNECTIONS = 1
    Pace.objects.create(channel="email", warm_up=[30], warm_up_from=at.date())
    to_people(20, at)

    def goes_down(_envelope) -> str:
        channel.given.append(0.0)
        if len(channel.given) > 3:
            raise ChannelDown("connection refused")
        return ""

    channel.send = goes_down
    hand_over(at)

    assert Pace.objects.get().taken_today == 3


def test_places_given_back_after_midnight_are_not_those_of_the_new_day(at, channel):
    Pace.objects.create(channel="email", warm_up=[10, 10], warm_up_from=at.date())
    yesterdays = throttle.acquire("email", wanted=5, at=at)
    throttle.acquire("email", wanted=8, at=at + timedelta(days=1))

    throttle.release("email", places=yesterdays, unused=5)

    assert Pace.objects.get().taken_today == 8


def test_faster_pace_does_not_wait_for_the_end_of_the_line_of_a_slower_one(at):
    Pace.objects.create(channel="email", per_second="0.001")
    assert throttle.acquire("email", wanted=1, at=at).count == 1
    Pace.objects.update(per_second=100)
    began, taken = time.monotonic(), 0

    while not taken and time.monotonic() - began < 5:
        places = throttle.acquire("email", wanted=10, at=at)
        time.sleep(max(0, places.due(0) - time.monotonic()))
        taken = places.count

    assert taken == 10


def test_warm_up_stops_at_the_daily_limit_and_continues_the_next_day(at, channel):
    Pace.objects.create(channel="email", warm_up=[4, 7], warm_up_from=at.date())
    message = to_people(30, at)

    assert hand_over(at) == 4
    assert hand_over(at + timedelta(hours=1)) == 0
    assert hand_over(at + timedelta(days=1)) == 7
    assert hand_over(at + timedelta(days=2)) == 19
    assert message.records.counts()["sent"] == 30
    assert set(message.records.values_list("attempts", flat=True)) == {1}


def test_channel_without_limits_touches_no_row(at, channel):
    Pace.objects.create(channel="email")
    to_people(5, at)

    hand_over(at)

    pace = Pace.objects.get()
    assert (pace.next_at, pace.taken_today) == (None, 0)
    assert len(channel.given) == 5


@pytest.mark.django_db(transaction=True)
def test_pace_that_is_set_while_a_send_is_under_way_holds_within_a_second(at, channel, settings):
    settings.IN_FLIGHT, settings.EMAIL_CONNECTIONS = 1, 1
    message = to_people(40, at)
    now = [at]

    def takes_half_a_second(_envelope) -> str:
        channel.given.append(0.0)
        now[0] += timedelta(seconds=0.5)
        time.sleep(0.1)
        if len(channel.given) == 3:
            elsewhere(lambda: Pace.objects.create(channel="email", warm_up=[5], warm_up_from=at.date()))
        return ""

    channel.send = takes_half_a_second
    dispatcher.dispatch(clock=lambda: now[0], until=at + timedelta(minutes=1))

    assert len(channel.given) <= 3 + 4 + 5
    assert message.records.counts()["waiting"] >= 28


def test_worker_waiting_for_a_slot_stops_when_asked(at, channel):
    Pace.objects.create(channel="email", per_second="0.01")
    to_people(5, at)
    hand_over_began = time.monotonic()
    channel.send = lambda _: shutdown.request_for_all() or ""
    try:
        hand_over(at)
    finally:
        process.reset()

    assert time.monotonic() - hand_over_began < 5


@pytest.mark.parametrize("plan", [[5, 3], [0], ["5"], {"a": 1}, [1.5], [True]])
def test_plan_that_makes_no_sense_is_refused(plan):
    with pytest.raises(ValidationError):
        Pace(channel="email", warm_up=plan, warm_up_from=date(2026, 5, 4)).full_clean()


def test_plan_needs_a_first_day():
    with pytest.raises(ValidationError, match="Choose the first day of the warm-up"):
        Pace(channel="email", warm_up=[5]).full_clean()


def test_plan_grows_until_it_is_enough():
    assert growing_plan(first=100, until=1000) == [100, 200, 400, 800, 1000]
    assert growing_plan(first=1, until=4, growth=1.1) == [1, 2, 3, 4]


def test_limits_are_of_the_days_of_the_plan(at):
    pace = Pace(channel="email", warm_up=[10, 20], warm_up_from=at.date(), day=at.date(), taken_today=4)
    days = [at.date() + timedelta(days=n) for n in (-1, 0, 1, 2)]

    assert [pace.limit_on(day) for day in days] == [0, 10, 20, None]
    assert [pace.left_on(day) for day in days] == [0, 6, 20, None]
    assert str(pace) == "Email: warming up from 4 May 2026 over 2 days"


def test_too_long_a_line_is_waited_for_elsewhere(at):
    Pace.objects.create(channel="email", per_second=1, next_at=timezone.now() + timedelta(seconds=30))

    assert throttle.acquire("email", wanted=10, at=at).count == 0
