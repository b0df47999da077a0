"""Estimate of the end of a send, from the measured rate and the limits ahead. Plain functions without the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from zoneinfo import ZoneInfo

from delivery.models import Pace
from messaging.delivery_window import Window, next_opening

# In seconds: the periods over which a rate is measured, the longest steady one first.
PERIODS = (900, 120, 60, 30)
# The two halves of a period may differ by this share, and each needs this many copies.
STEADY_WITHIN = 0.15
LEAST_COPIES = 15
# A longer pause between copies than this, in seconds and in usual pauses, begins a new measurement.
LEAST_GAP, USUAL_GAPS = 10, 4
# The throttle decides the rate if at least this share of its copies went.
THROTTLED_FROM = 0.85
# Clocks differ by quarters of an hour, and windows open on the half hour.
QUARTER = timedelta(minutes=15)
MAX_STEPS = 5_000

# Seconds ago and the number of copies settled in that second, the oldest first. Copies of a batch are settled together.
Settled = Sequence[tuple[float, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a send: those of its channel, and its delivery window in the workspace's zone."""

    pace: Pace
    window: Window
    zone: ZoneInfo


def sending_rate(settled: Settled, *, throttle: float | None, due_for: float) -> float | None:
    """Return the copies per second; None while it cannot be told.

    `due_for` is how many seconds the oldest due copy has waited, which counts until the first copy was sent.
    """
    run = current_run(settled)
    if throttle is None:
        return steady_rate(run)
    # Without copies, the workers have a few seconds to begin.
    since = run[0][0] if run else max(0, min(due_for, settled[-1][0] if settled else due_for) - LEAST_GAP)
    if sum(number for _, number in run[1:]) >= int(THROTTLED_FROM * throttle * since):
        return throttle
    rate = steady_rate(run)
    return None if rate is None else min(rate, throttle)


def current_run(settled: Settled) -> Settled:
    """Return the copies since the last long pause; none if such a pause lasts."""
    if not settled:
        return settled
    gaps = [before - after for (before, _), (after, _) in pairwise(settled)]
    longest = max(LEAST_GAP, USUAL_GAPS * median(gaps)) if gaps else LEAST_GAP
    if settled[-1][0] > longest:
        return []
    breaks = [place for place, gap in enumerate(gaps, start=1) if gap > longest]
    return settled[breaks[-1] :] if breaks else settled


def steady_rate(settled: Settled) -> float | None:
    """Return the rate of the longest period whose halves have the same rate; None if there is no such period."""
    for period in PERIODS:
        found = [one for one in settled if one[0] <= period]
        # A shorter period measures the same copies again.
        if not found or found[0][0] < period * 0.6:
            continue
        middle = (found[0][0] + found[-1][0]) / 2
        last_of_older = max(place for place, (ago, _) in enumerate(found) if ago >= middle)
        older, newer = rate_between(found[: last_of_older + 1]), rate_between(found[last_of_older:])
        if older and newer and abs(older - newer) <= STEADY_WITHIN * max(older, newer):
            return rate_between(found)
    return None


def rate_between(settled: Settled) -> float | None:
    """Return the copies per second after the first second, up to the last one; None if they are too few."""
    number = sum(number for _, number in settled[1:])
    return number / (settled[0][0] - settled[-1][0]) if number >= LEAST_COPIES else None


def estimate_end(
    waiting: Sequence[tuple[datetime, int]], *, per_second: float | None, limits: Limits, at: datetime
) -> datetime | None:
    """Return when the waiting copies, given as due times and numbers, will be sent; None if the rate does not say.

    Without a rate only the daily limits can tell: they give the day of the last copies.
    """
    if not waiting:
        return at
    begun = at.astimezone(limits.zone).date()
    today = limits.pace.left_on(begun)
    if per_second is None and (today is None or today >= sum(number for _, number in waiting)):
        return None
    now, taken = at, dict.fromkeys([begun], 0.0)
    steps = 0
    for due_at, number in sorted(waiting):
        now, left = max(now, due_at), float(number)
        while True:
            now = next_opening(limits.window, now, limits.zone)
            day = now.astimezone(limits.zone).date()
            midnight = datetime(day.year, day.month, day.day, tzinfo=limits.zone) + timedelta(days=1)
            allowed = limits.pace.left_on(day)
            until = quarter_after(now) if limits.window.spans else midnight
            fits = left if per_second is None else (min(until, midnight) - now).total_seconds() * per_second
            may_go = fits if allowed is None else min(fits, allowed - taken.get(day, 0.0))
            if left <= may_go or (allowed is None and not limits.window.spans):
                now += timedelta(seconds=left / per_second if per_second else 0)
                taken[day] = taken.get(day, 0.0) + left
                break
            left -= may_go
            taken[day] = taken.get(day, 0.0) + may_go
            now = min(until, midnight) if may_go == fits and per_second else midnight
            steps += 1
            if steps > MAX_STEPS:
                return None
    return now


def quarter_after(at: datetime) -> datetime:
    """Return the next full quarter of an hour."""
    return at + QUARTER - timedelta(seconds=at.timestamp() % QUARTER.total_seconds())
