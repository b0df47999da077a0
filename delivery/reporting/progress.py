"""Progress of sending: records done and left, rate, and estimated end."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min

from audiences.models import Workspace
from delivery.models import DeliveryRecord, Pace, Reason
from delivery.reporting import counters, estimate
from delivery.reporting.estimate import Limits
from messaging.delivery_window import Window
from messaging.models import RUNNING, Channel, Message, WindowZone

RATE_WINDOW = timedelta(minutes=1)
# If few copies were sent in the usual period, the rate is measured over the longest one.
USUAL_PERIOD, FEW_COPIES = 120, 100
# A window in the customers' zones closes for some of them within about this time.
ZONES_MATTER_AFTER = timedelta(minutes=30)

SETTLED_SQL = (
    "SELECT floor(extract(epoch FROM %(at)s - sent_at))::int AS ago, count(*) FROM delivery_deliveryrecord"
    " WHERE message_id = %(message)s AND sent_at > %(at)s - make_interval(secs => %(period)s) AND sent_at <= %(at)s"
    " GROUP BY ago ORDER BY ago DESC"
)
# Due records together, the others by the minute in which they become due.
WAITING_SQL = (
    "SELECT CASE WHEN due_at > %(at)s THEN date_bin('1 minute', due_at, TIMESTAMPTZ '2000-01-01') END AS minute,"
    " count(*), min(due_at), max(due_at), max(due_at) FILTER (WHERE reason = %(retry)s)"
    " FROM delivery_deliveryrecord WHERE message_id = %(message)s AND status = 'waiting' AND due_at IS NOT NULL"
    " GROUP BY minute"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of one message, such as "1,204 of 5,000 done", and its rate."""

    done: int
    left: int
    others: int
    per_second: float
    # None if it is not known (yet).
    ends_at: datetime | None
    is_moving: bool
    # When the first copy becomes due, if none is due now.
    continues_at: datetime | None = None
    # Whether the end depends on the time zones of the customers.
    depends_on_zones: bool = False

    def __str__(self) -> str:
        share = f"{self.done:,} of {self.done + self.left:,}"
        return f"{share} done" if self.is_moving else f"stopped after {share}"


def progress_of(message: Message, *, at: datetime) -> Progress:
    """Return a message's progress and the estimated end of all its records that wait for a time."""
    did = counters.counts_of([message.pk])[message.pk]
    settled = settled_copies(message, at=at)
    is_moving = message.state in RUNNING
    estimated: dict[str, Any] = {"ends_at": None}
    if is_moving and message.channel != Channel.IN_APP:
        estimated = estimated_end(message, settled, sending=did.sending, at=at)
    return Progress(
        done=did.sent + did.uncertain + did.failed,
        left=did.waiting + did.sending,
        others=did.skipped + did.withdrawn,
        per_second=recent_rate(settled),
        is_moving=is_moving,
        **estimated,
    )


def estimated_end(message: Message, settled: estimate.Settled, *, sending: int, at: datetime) -> dict[str, Any]:
    """Return the estimated end of a message that sends, as fields of `Progress`."""
    groups = counters.fetch_rows(WAITING_SQL, {"message": message.pk, "at": at, "retry": Reason.RETRY})
    due = [group for group in groups if group[0] is None]
    later = [group for group in groups if group[0] is not None]
    now = sending + sum(number for _, number, *_ in due)
    if not now and later:
        return {"ends_at": None, "continues_at": min(first for _, _, first, *_ in later)}
    pace = Pace.objects.filter(pk=message.channel).first() or Pace(channel=message.channel)
    workspace = Workspace.current()
    window = message.open_window(workspace.quiet_hours)
    in_zones = message.window_zone == WindowZone.CUSTOMER and bool(window.spans)
    limits = Limits(pace=pace, window=Window() if in_zones else window, zone=workspace.tz)
    rate = estimate.sending_rate(
        settled,
        throttle=float(pace.per_second) if pace.per_second else None,
        due_for=(at - min((first for _, _, first, *_ in due), default=at)).total_seconds(),
    )
    present = [(at, now)] if now else []
    ends_at = estimate.estimate_end(
        [*present, *((last, number) for _, number, _, last, _ in later)], per_second=rate, limits=limits, at=at
    )
    retries = [last for *_, last in later if last]
    if ends_at and retries:
        # A copy that goes last may have to be tried again as well.
        first_tried = estimate.estimate_end(present, per_second=rate, limits=limits, at=at) or at
        ends_at = max(ends_at, first_tried + (max(retries) - at))
    if ends_at and in_zones and ends_at > at + ZONES_MATTER_AFTER:
        return {"ends_at": None, "depends_on_zones": True}
    return {"ends_at": ends_at}


def settled_copies(message: Message, *, at: datetime) -> estimate.Settled:
    """Return the copies sent lately, by second."""
    params = {"message": message.pk, "at": at, "period": USUAL_PERIOD}
    found = counters.fetch_rows(SETTLED_SQL, params)
    if sum(number for _, number in found) < FEW_COPIES:
        found = counters.fetch_rows(SETTLED_SQL, params | {"period": estimate.PERIODS[0]})
    return [(float(ago), number) for ago, number in found]


def recent_rate(settled: estimate.Settled) -> float:
    """Return the number of copies per second in the last minute, or since the first of that minute."""
    recent = [one for one in settled if one[0] <= RATE_WINDOW.total_seconds()]
    return sum(number for _, number in recent) / max(1.0, recent[0][0]) if recent else 0.0


def rate_of_channel(channel: str, *, at: datetime) -> float:
    """Return the number of records per second that a channel sent in the last minute, of all messages."""
    sent = DeliveryRecord.objects.filter(
        message__channel=channel, sent_at__gt=at - RATE_WINDOW, sent_at__lte=at
    ).aggregate(n=Count("pk"), first=Min("sent_at"))
    return sent["n"] / max(1.0, (at - sent["first"]).total_seconds()) if sent["n"] else 0.0
