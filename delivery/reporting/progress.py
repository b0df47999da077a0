"""How far a message is, how fast it goes, and when it will be done."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, QuerySet

from audiences.models import Workspace
from delivery.models import DeliveryRecord, Pace
from delivery.reporting import counters
from messaging.models import RUNNING, Channel, Message

A_MINUTE = timedelta(minutes=1)


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
    """Say how far a message is, and estimate when what is due of it will be done; `ends_at` is None if unknown."""
    did = counters.counts_of([message.pk])[message.pk]
    rate = rate_of(message.records.all(), at=at)
    is_moving = message.state in RUNNING
    ends_at = None
    if is_moving and message.channel != Channel.IN_APP:
        pace = Pace.objects.filter(pk=message.channel).first() or Pace(channel=message.channel)
        left = DeliveryRecord.objects.due(at).filter(message=message).count() + did.sending
        ends_at = end_of(left, per_second=rate, pace=pace, at=at)
    return Progress(
        handed_over=did.sent + did.uncertain + did.failed,
        held=did.waiting + did.sending,
        others=did.skipped + did.withdrawn,
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
    zone = Workspace.current().tz
    start, day = at, at.astimezone(zone).date()
    while (today := pace.left_on(day)) is not None and today < left:
        left -= today
        day += timedelta(days=1)
        start = datetime(day.year, day.month, day.day, tzinfo=zone)
    if rate:
        return start + timedelta(seconds=left / rate)
    # Where the day is used up nothing goes, and yet the plan says on which day the rest will.
    return start if start > at else None
