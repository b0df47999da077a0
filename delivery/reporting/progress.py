"""Progress of sending: records done and left, rate, and estimated end."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, QuerySet

from audiences.models import Workspace
from delivery.models import DeliveryRecord, Pace
from delivery.reporting import counters
from messaging.models import RUNNING, Channel, Message

RATE_WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of one message, such as "1,204 of 5,000 done", and its rate."""

    done: int
    left: int
    others: int
    per_second: float
    ends_at: datetime | None
    is_moving: bool

    def __str__(self) -> str:
        share = f"{self.done:,} of {self.done + self.left:,}"
        return f"{share} done" if self.is_moving else f"stopped after {share}"


def progress_of(message: Message, *, at: datetime) -> Progress:
    """Return a message's progress and the estimated end of its due records; `ends_at` is None if unknown."""
    did = counters.counts_of([message.pk])[message.pk]
    rate = rate_of(message.records.all(), at=at)
    is_moving = message.state in RUNNING
    ends_at = None
    if is_moving and message.channel != Channel.IN_APP:
        pace = Pace.objects.filter(pk=message.channel).first() or Pace(channel=message.channel)
        left = DeliveryRecord.objects.due(at).filter(message=message).count() + did.sending
        ends_at = estimate_end(left, per_second=rate, pace=pace, at=at)
    return Progress(
        done=did.sent + did.uncertain + did.failed,
        left=did.waiting + did.sending,
        others=did.skipped + did.withdrawn,
        per_second=rate,
        ends_at=ends_at,
        is_moving=is_moving,
    )


def rate_of_channel(channel: str, *, at: datetime) -> float:
    """Return the number of records per second that a channel sent in the last minute, of all messages."""
    return rate_of(DeliveryRecord.objects.filter(message__channel=channel), at=at)


def rate_of(records: QuerySet[DeliveryRecord], *, at: datetime) -> float:
    """Return the number of these records sent per second in the last minute, or since the first of that minute."""
    sent = records.filter(sent_at__gt=at - RATE_WINDOW, sent_at__lte=at).aggregate(n=Count("pk"), first=Min("sent_at"))
    if not sent["n"]:
        return 0.0
    return sent["n"] / max(1.0, (at - sent["first"]).total_seconds())


def estimate_end(left: int, *, per_second: float, pace: Pace, at: datetime) -> datetime | None:
    """Return when the remaining records will be sent, at this rate and within the warm-up's daily limits; or None."""
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
    # With today's limit used up the rate is 0, but the warm-up plan gives the day of the rest.
    return start if start > at else None
