"""One pace for all workers of a channel, kept in its row (`Pace`).

Whoever is about to claim takes a few places in the line of what may go, each a moment of the database's clock, which
all machines share. A channel without limits has no line, and its workers never touch a row they would wait for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import connection, transaction

from audiences.models import Workspace
from delivery.models import Pace

# In seconds. How much of a worker's time one taking is for; how far ahead the line may be; what may be made up for.
SHARE, AHEAD, CATCH_UP = 0.25, 1.0, 0.1
SLOT_POLL_INTERVAL, MAX_WAIT_PER_CALL = 0.05, 0.5


@dataclass(frozen=True, slots=True)
class Slots:
    """Places in the line: how many, and when each is due by this process's own clock."""

    count: int
    first: float = 0.0
    every: float = 0.0
    # The day they are counted in.
    day: date | None = None

    def wait(self, place: int, *, unless: Callable[[], bool]) -> None:
        """Wait until a place is due, or there is no more reason to."""
        due = self.first + place * self.every
        while (left := due - time.monotonic()) > 0 and not unless():
            time.sleep(min(left, SLOT_POLL_INTERVAL))


def load_limits() -> dict[str, Pace]:
    """The channels that anything holds back."""
    return {pace.channel: pace for pace in Pace.objects.all() if pace.is_limited}


def exhausted_channels(*, at: datetime) -> set[str]:
    """The channels whose warm-up lets nothing more go on this day."""
    day = day_of(at)
    return {pace.channel for pace in Pace.objects.all() if pace.left_on(day) == 0}


def day_of(at: datetime) -> date:
    """The workspace's calendar day."""
    return at.astimezone(Workspace.current().tz).date()


def acquire(channel: str, *, wanted: int, at: datetime) -> Slots | None:
    """Take up to so many places in the line; none where it is too long for a while, None where the day is used up."""
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
            # At this rate no line is longer: what was taken at a slower one, or by a clock that was ahead, is let go.
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
    """Give back the places that nothing came for."""
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


def database_clock() -> datetime:
    """The moment by the database's clock, not that of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
