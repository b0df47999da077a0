"""Estimate of the end of a send, over simulated courses of sending."""

import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from delivery.models import Pace
from delivery.reporting import estimate
from delivery.reporting.estimate import Limits
from messaging.delivery_window import Window, is_open, parse_window

START = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
OFFICE = parse_window([{"weekday": day, "from": "09:00", "to": "11:00"} for day in range(5)])


def course(rate: Callable[[int], float], *, batch: int = 1, noise: random.Random | None = None) -> Iterator[int]:
    """Yield the copies settled in each second from the start, together every `batch` seconds."""
    sent, kept, second = 0.0, 0, 0
    while True:
        sent += rate(second) * (noise.uniform(0.2, 1.8) if noise else 1)
        second += 1
        number = int(sent) - kept if second % batch == 0 else 0
        kept += number
        yield number


def simulate(seconds: Iterator[int], *, copies: int) -> list[int]:
    """Return the copies settled in each second until all are sent."""
    found: list[int] = []
    while (left := copies - sum(found)) > 0:
        found.append(min(left, next(seconds)))
    return found


def estimated_remainder(sent: list[int], *, after: int, throttle: float | None = None) -> float | None:
    """Return the estimated seconds until the end, `after` seconds from the start; None while it is measured."""
    at = START + timedelta(seconds=after)
    settled = [(float(after - second - 1), number) for second, number in enumerate(sent[:after]) if number]
    rate = estimate.sending_rate(settled, throttle=throttle, due_for=after)
    limits = Limits(pace=Pace(channel="email"), window=Window(), zone=UTC)
    left = sum(sent[after:])
    end = estimate.estimate_end([(at, left)], per_second=rate, limits=limits, at=at)
    return (end - at).total_seconds() if end else None


STEADY = {
    "constant": (course(lambda _: 50), 20_000, None),
    "slow": (course(lambda _: 0.7), 600, None),
    "in batches": (course(lambda _: 20, batch=5), 10_000, None),
    "noisy": (course(lambda _: 30, noise=random.Random(7)), 12_000, None),  # noqa: S311
    "slow start": (course(lambda t: 40 * (1 - math.exp(-t / 12))), 20_000, None),
    "one worker after the other": (course(lambda t: min(60, 15 * (1 + t // 10))), 30_000, None),
    "throttled": (course(lambda _: 3), 1_500, 3.0),
    "throttled, in batches": (course(lambda _: 8, batch=20), 5_000, 8.0),
    "throttled to few": (course(lambda _: 0.02), 40, 0.02),
    "slower than the throttle": (course(lambda _: 12), 9_000, 100.0),
}


@pytest.mark.parametrize("name", STEADY)
def test_end_is_known_within_a_fifth_one_minute_after_the_start(name):
    seconds, copies, throttle = STEADY[name]
    sent = simulate(seconds, copies=copies)

    estimated = estimated_remainder(sent, after=60, throttle=throttle)

    assert estimated == pytest.approx(len(sent) - 60, rel=0.2)


def pause(rate: float, *, begins: int, ends: int) -> Iterator[int]:
    return course(lambda t: 0 if begins <= t < ends else rate)


UNSTEADY = {
    "still faster each second": course(lambda t: t / 3),
    "still slower each second": course(lambda t: max(2, 60 - 0.8 * t)),
    "resumed 10 seconds ago": pause(40, begins=20, ends=50),
    "paused, or without a connection": pause(40, begins=40, ends=300),
    "nothing yet": pause(40, begins=0, ends=300),
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_changing_rate_is_still_being_measured(name):
    assert estimated_remainder(simulate(UNSTEADY[name], copies=20_000), after=60) is None


def test_resumed_send_is_measured_from_its_resumption():
    sent = simulate(pause(40, begins=20, ends=50), copies=20_000)

    assert estimated_remainder(sent, after=90) == pytest.approx(len(sent) - 90, rel=0.05)


def test_throttle_says_nothing_while_the_server_takes_nothing():
    sent = simulate(pause(10, begins=30, ends=300), copies=5_000)

    assert estimated_remainder(sent, after=90, throttle=10.0) is None
    assert estimated_remainder(sent, after=360, throttle=10.0) == pytest.approx(len(sent) - 360, rel=0.05)


def test_changed_rate_replaces_the_old_one_within_a_minute():
    sent = simulate(course(lambda t: 50 if t < 300 else 10), copies=25_000)

    assert estimated_remainder(sent, after=345) == pytest.approx(len(sent) - 345, rel=0.2)


def end_of(waiting: list[tuple[datetime, int]], *, per_second: float | None, **limits) -> datetime | None:
    whole = {"pace": Pace(channel="email"), "window": Window(), "zone": UTC} | limits
    return estimate.estimate_end(waiting, per_second=per_second, limits=Limits(**whole), at=START)


def test_closed_window_delays_the_rest():
    # One hour of the window is left today, then two hours each day.
    end = end_of([(START, 10_000)], per_second=1, window=OFFICE)

    assert end == datetime(2026, 5, 5, 10, 46, 40, tzinfo=UTC)
    assert is_open(OFFICE, end, UTC)


def test_later_copies_wait_for_their_time():
    later = START + timedelta(hours=3)

    assert end_of([(later, 60), (START, 600)], per_second=1) == later + timedelta(minutes=1)
    assert end_of([(later, 60), (START, 6 * 3600)], per_second=1) == START + timedelta(hours=6, minutes=1)


def test_daily_limits_and_the_window_hold_together():
    pace = Pace(channel="email", warm_up=[1_000, 9_000, 9_000], warm_up_from=START.date())

    # 1,000 today; 7,200 in the two hours of tomorrow; 1,800 the day after.
    assert end_of([(START, 10_000)], per_second=1, pace=pace, window=OFFICE) == datetime(2026, 5, 6, 9, 30, tzinfo=UTC)


def test_daily_limit_tells_the_day_without_a_rate():
    pace = Pace(channel="email", warm_up=[100, 200], warm_up_from=START.date(), day=START.date(), taken_today=100)

    assert end_of([(START, 150)], per_second=None, pace=pace) == datetime(2026, 5, 5, tzinfo=UTC)
    assert end_of([(START, 150)], per_second=None) is None
    assert end_of([], per_second=None) == START


def test_endless_send_has_no_estimate():
    never = Pace(channel="email", warm_up=[1] * 9_000, warm_up_from=date(2026, 5, 4))

    assert end_of([(START, 8_000)], per_second=1, pace=never) is None
