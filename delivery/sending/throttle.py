"""Throttle: one rate for all workers of a channel, stored in its row (`Pace`).

Before a claim a worker reserves a few slots, each a moment by the database's clock, which all machines share. A
channel without limits has no row, so its workers never wait for one.
"""

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction

from audiences.clock import database_clock
from audiences.models import Workspace
from delivery.models import Pace

# In seconds: the work that one reservation covers; how far ahead slots may be reserved; how much lost time is made up.
SHARE, AHEAD, CATCH_UP = 0.25, 1.0, 0.1
MAX_WAIT_PER_CALL = 0.5


@dataclass(frozen=True, slots=True)
class Slots:
    """Reserved slots: how many, and when each is due by this process's own clock."""

    count: int
    first: float = 0.0
    every: float = 0.0
    # The day whose limit they count against.
    day: date | None = None

    def due(self, place: int) -> float:
        """Return when a slot is due, by `time.monotonic`."""
        return self.first + place * self.every


def load_limits() -> dict[str, Pace]:
    """Return the channels that have a limit."""
    return {pace.channel: pace for pace in Pace.objects.all() if pace.is_limited}


def exhausted_channels(*, at: datetime) -> set[str]:
    """Return the channels whose warm-up limit for this day is used up."""
    day = day_of(at)
    return {pace.channel for pace in Pace.objects.all() if pace.left_on(day) == 0}


def day_of(at: datetime) -> date:
    """Return the workspace's calendar day."""
    return at.astimezone(Workspace.current().tz).date()


def acquire(channel: str, *, wanted: int, at: datetime) -> Slots | None:
    """Reserve up to `wanted` slots. Return None if the limit of the day is used up.

    Returns no slots if all workers together are too far ahead; its `due` then says until when.
    """
    day = day_of(at)
    with transaction.atomic():
        pace = Pace.objects.select_for_update().filter(pk=channel).first()
        if pace is None:
            return Slots(wanted)
        now = database_clock()
        left = pace.left_on(day)
        count = wanted if left is None else min(wanted, left)
        if count == 0:
            return None
        if pace.per_second is None:
            first, every = now, timedelta(0)
        else:
            rate = float(pace.per_second)
            every = timedelta(seconds=1 / rate)
            # Slots reserved at a slower rate, or by a clock that was ahead, may lie further ahead: they are dropped.
            longest = now + timedelta(seconds=AHEAD) + max(every, timedelta(seconds=SHARE))
            first = min(longest, max(pace.next_at or now, now - timedelta(seconds=CATCH_UP)))
            if (too_long := (first - now).total_seconds() - AHEAD) > 0:
                Pace.objects.filter(pk=channel, next_at__gt=first).update(next_at=first)
                return Slots(0, time.monotonic() + min(too_long, MAX_WAIT_PER_CALL))
            count = min(count, max(1, int(rate * SHARE)))
        taken = pace.taken_today if pace.day == day else 0
        Pace.objects.filter(pk=channel).update(next_at=first + count * every, day=day, taken_today=taken + count)
    return Slots(count, time.monotonic() + (first - now).total_seconds(), every.total_seconds(), day)


def release(channel: str, *, places: Slots, unused: int) -> None:
    """Give back slots that were not used."""
    if not unused:
        return
    with transaction.atomic():
        pace = Pace.objects.select_for_update().filter(pk=channel).first()
        if pace is not None:
            if pace.day == places.day:
                pace.taken_today = max(0, pace.taken_today - unused)
            if pace.next_at is not None:
                pace.next_at -= timedelta(seconds=unused * places.every)
            pace.save(update_fields=["taken_today", "next_at"])
