"""One pace for all workers of a channel, kept in its row (`Pace`), and what it means for when a send is done.

Whoever is about to claim takes a few places in the line of what may go, each a moment of the database's clock, which
all machines share. A channel without limits has no line, and its workers never touch a row they would wait for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import connection, transaction
from django.db.models import Count, Min, Q, QuerySet

from audiences.models import Workspace
from delivery.models import DeliveryRecord, Pace, Reason, Status
from messaging.models import Channel, Message, State

# In seconds. How much of a worker's time one taking is for; how far ahead the line may be; what may be made up for.
SHARE, AHEAD, CATCH_UP = 0.25, 1.0, 0.1
A_MOMENT, A_WHILE = 0.05, 0.5
A_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Places:
    """Places in the line: how many, and when each is due by this process's own clock."""

    count: int
    first: float = 0.0
    every: float = 0.0

    def wait(self, place: int, *, unless: Callable[[], bool]) -> None:
        """Wait until a place is due, or there is no more reason to."""
        due = self.first + place * self.every
        while (left := due - time.monotonic()) > 0 and not unless():
            time.sleep(min(left, A_MOMENT))


def limits() -> dict[str, Pace]:
    """The channels that anything holds back."""
    return {pace.channel: pace for pace in Pace.objects.all() if pace.is_limited}


def day_of(at: datetime) -> date:
    """The workspace's calendar day."""
    return at.astimezone(Workspace.current().tz).date()


def take(channel: str, *, wanted: int, at: datetime) -> Places | None:
    """Take up to so many places in the line; none where it is too long for a while, None where the day is used up."""
    day = day_of(at)
    with transaction.atomic():
        pace = Pace.objects.select_for_update().filter(pk=channel).first()
        if pace is None:
            return Places(wanted)
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
            first = max(pace.next_at or now, now - timedelta(seconds=CATCH_UP))
            if (too_long := (first - now).total_seconds() - AHEAD) > 0:
                return Places(0, time.monotonic() + min(too_long, A_WHILE))
            count = min(count, max(1, int(rate * SHARE)))
        taken = pace.taken_today if pace.day == day else 0
        Pace.objects.filter(pk=channel).update(next_at=first + count * every, day=day, taken_today=taken + count)
    return Places(count, time.monotonic() + (first - now).total_seconds(), every.total_seconds())


def give_back(channel: str, *, places: Places, unused: int) -> None:
    """Give back the places that nothing came for."""
    if not unused:
        return
    with transaction.atomic():
        pace = Pace.objects.select_for_update().filter(pk=channel).first()
        if pace is not None:
            pace.taken_today = max(0, pace.taken_today - unused)
            if pace.next_at is not None:
                pace.next_at -= timedelta(seconds=unused * places.every)
            pace.save(update_fields=["taken_today", "next_at"])


def database_clock() -> datetime:
    """The moment by the database's clock, not that of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


# How far it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a message is: "stopped after 1,204; 3,796 held", and how fast it goes."""

    handed_over: int
    held: int
    others: int
    per_second: float
    ends_at: datetime | None
    is_moving: bool

    def __str__(self) -> str:
        if self.is_moving:
            return f"{self.handed_over:,} handed over; {self.held:,} to go"
        return f"stopped after {self.handed_over:,}; {self.held:,} held"


def progress(message: Message, *, at: datetime) -> Progress:
    """Count how far a message is, and estimate when what is due of it will be done; `ends_at` is None if unknown."""
    counts = message.records.counts()
    gone = (Status.SENT, Status.UNCERTAIN, Status.FAILED)
    waits = Q(status=Status.SENDING) | Q(status=Status.WAITING, reason__in=(Reason.QUEUED, Reason.RETRY))
    rate = rate_of(message.records.all(), at=at)
    pace = Pace.objects.filter(pk=message.channel).first() or Pace(channel=message.channel)
    is_moving = message.state in (State.LIVE, State.SAMPLED)
    ends_at = None
    if is_moving and message.channel != Channel.IN_APP:
        ends_at = end_of(message.records.filter(waits).count(), per_second=rate, pace=pace, at=at)
    return Progress(
        handed_over=sum(counts[status] for status in gone),
        held=counts[Status.WAITING] + counts[Status.SENDING],
        others=counts[Status.SKIPPED] + counts[Status.WITHDRAWN],
        per_second=rate,
        ends_at=ends_at,
        is_moving=is_moving,
    )


def rate_of_channel(channel: str, *, at: datetime) -> float:
    """How many a second this channel handed over in the last minute, of all messages."""
    return rate_of(DeliveryRecord.objects.filter(message__channel=channel), at=at)


def rate_of(records: QuerySet[DeliveryRecord], *, at: datetime) -> float:
    """How many of these a second were handed over in the last minute, or since the first of that minute."""
    sent = records.filter(sent_at__gt=at - A_MINUTE, sent_at__lte=at).aggregate(n=Count("pk"), first=Min("sent_at"))
    if not sent["n"]:
        return 0.0
    return sent["n"] / max(1.0, (at - sent["first"]).total_seconds())


def end_of(left: int, *, per_second: float, pace: Pace, at: datetime) -> datetime | None:
    """When so many will have been handed over, at this rate and day by day as the warm-up lets them; None if never."""
    rate = per_second or float(pace.per_second or 0)
    if not left:
        return at
    if not rate:
        return None
    zone = Workspace.current().tz
    start, day = at, at.astimezone(zone).date()
    while (today := pace.left_on(day)) is not None and today < left:
        left -= today
        day += timedelta(days=1)
        start = datetime(day.year, day.month, day.day, tzinfo=zone)
    return start + timedelta(seconds=left / rate)
