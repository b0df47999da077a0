"""Health: when the scheduler and the sweep last ran, and since when the oldest record is due."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Max, Min
from django_celery_beat.models import PeriodicTask

from delivery import schedule
from delivery.models import DeliveryRecord, Heartbeat, MachineClock
from delivery.models.count import COUNTED, STATUSES
from delivery.reporting import counters
from delivery.sending import throttle
from messaging.models import Channel, Message

SWEEP = "sweep"
# A machine's clock is wrong from this difference to the database's on.
CLOCK_WRONG_FROM = timedelta(seconds=30)
COUNT_SUMS = ", ".join(f"sum({name})::bigint" for name in COUNTED)
# One statement, so that a fold of changes meanwhile is seen fully or not at all.
BY_CHANNEL = (
    f"SELECT m.channel, {COUNT_SUMS} FROM (SELECT message_id, {counters.COUNT_COLUMNS} FROM delivery_count"
    f" UNION ALL SELECT message_id, {counters.SUM_COUNTED} FROM delivery_countchange GROUP BY message_id) AS both_kinds"
    " JOIN messaging_message m ON m.id = message_id GROUP BY m.channel ORDER BY m.channel"
)


def record_sweep(*, at: datetime) -> None:
    """Record that a sweep has finished."""
    Heartbeat.record_run(SWEEP, at=at)


def last_sweep() -> datetime | None:
    """Return when a sweep last finished."""
    return Heartbeat.objects.filter(name=SWEEP).values_list("at", flat=True).first()


def last_beat() -> datetime | None:
    """Return when the scheduler (celery beat) last started a task."""
    return PeriodicTask.objects.filter(name__in=schedule.TASKS).aggregate(last=Max("last_run_at"))["last"]


def schedule_created_at() -> datetime | None:
    """Return when the schedule was created; the deadlines of a new installation count from there."""
    return PeriodicTask.objects.filter(name__in=schedule.TASKS).aggregate(made=Min("date_changed"))["made"]


def beat_is_late(*, at: datetime) -> bool:
    """Return whether the scheduler has started no task for longer than BEAT_LATE."""
    since = last_beat() or schedule_created_at()
    return since is not None and at - since > settings.BEAT_LATE


def sweep_is_late(*, at: datetime) -> bool:
    """Return whether no sweep has finished for longer than SWEEP_LATE."""
    since = last_sweep() or schedule_created_at()
    return since is not None and at - since > settings.SWEEP_LATE


def oldest_due(*, at: datetime) -> datetime | None:
    """Return the due time of the record that has waited longest; None if no record is due."""
    running = Message.objects.live().exclude(channel=Channel.IN_APP).values_list("pk", flat=True)
    return min((due for due in counters.next_due(list(running)).values() if due <= at), default=None)


def stuck_messages(*, at: datetime) -> dict[Message, datetime]:
    """Return the messages with overdue records of which none was sent for DUE_LATE, with the oldest due time.

    Messages of a throttled channel that has used up its rate are not stuck.
    """
    late = at - settings.DUE_LATE
    running = {m.pk: m for m in Message.objects.live().exclude(channel=Channel.IN_APP)}
    waiting = {pk: since for pk, since in counters.next_due(list(running)).items() if since < late}
    if not waiting:
        return {}
    used_up = throttle.exhausted_channels(at=at)
    sent = DeliveryRecord.objects.filter(sent_at__gte=late, message__in=list(waiting))
    moving = set(sent.values_list("message", flat=True).distinct())
    return {
        running[pk]: since for pk, since in waiting.items() if pk not in moving and running[pk].channel not in used_up
    }


def known_clocks(*, at: datetime) -> list[MachineClock]:
    """Return the clocks of the machines whose workers or beats compared them lately."""
    # Each compares them every WATCH_EVERY seconds.
    since = at - 2 * timedelta(seconds=settings.WATCH_EVERY)
    return list(MachineClock.objects.filter(at__gt=since).order_by("machine"))


def clock_is_wrong(ahead: timedelta) -> bool:
    return abs(ahead) >= CLOCK_WRONG_FROM


def record_counts() -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the counts of each channel, from the counters: matched records, records by status, and results."""
    with connection.cursor() as cursor:
        cursor.execute(BY_CHANNEL)
        for channel, *numbers in cursor.fetchall():
            found = dict(zip(COUNTED, numbers, strict=True))
            yield channel, {"matched": sum(found[status] for status in STATUSES), **found}


def health_report(*, at: datetime) -> dict[str, dict[str, Any]]:
    """Return for each check whether it passes, when its event last happened, and how many seconds ago.

    A new schedule has not run yet; its checks pass until it is late.
    """
    found = {
        "beat": (last_beat(), not beat_is_late(at=at)),
        "sweep": (last_sweep(), not sweep_is_late(at=at)),
        # A large or throttled send may be due for long without being stuck.
        "oldest_due": (oldest_due(at=at), not stuck_messages(at=at)),
    }
    return {
        name: {
            "ok": ok,
            "at": moment.isoformat() if moment else None,
            "seconds": round((at - moment).total_seconds()) if moment else None,
        }
        for name, (moment, ok) in found.items()
    }
