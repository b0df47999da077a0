"""Whether all that must run does: when the schedule and the sweep last ran, and how long the oldest copy is due."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Max, Min
from django_celery_beat.models import PeriodicTask

from delivery import schedule
from delivery.models import DeliveryRecord, Heartbeat
from delivery.models.count import COUNTED, STATUSES
from delivery.reporting import counters
from delivery.sending import throttle
from messaging.models import Channel, Message

SWEEP = "sweep"
NUMBERS = ", ".join(f"sum({name})::bigint" for name in COUNTED)
BY_CHANNEL = (
    f"SELECT m.channel, {NUMBERS} FROM (SELECT message_id, {counters.COUNT_COLUMNS} FROM delivery_count"
    f" UNION ALL SELECT message_id, {counters.SUM_COUNTED} FROM delivery_countchange GROUP BY message_id) AS both_kinds"
    " JOIN messaging_message m ON m.id = message_id GROUP BY m.channel ORDER BY m.channel"
)


def swept(*, at: datetime) -> None:
    """Note that a sweep ran to its end."""
    Heartbeat.beats(SWEEP, at=at)


def last_sweep() -> datetime | None:
    """When a sweep last ran to its end."""
    return Heartbeat.objects.filter(name=SWEEP).values_list("at", flat=True).first()


def last_beat() -> datetime | None:
    """When beat last asked for anything on the schedule."""
    return PeriodicTask.objects.filter(name__in=schedule.TASKS).aggregate(last=Max("last_run_at"))["last"]


def schedule_created_at() -> datetime | None:
    """Since when there is a schedule, which is all that is known of one that never ran."""
    return PeriodicTask.objects.filter(name__in=schedule.TASKS).aggregate(made=Min("date_changed"))["made"]


def beat_is_late(*, at: datetime) -> bool:
    """Whether beat has asked for nothing for too long, or never began to."""
    since = last_beat() or schedule_created_at()
    return since is not None and at - since > settings.BEAT_LATE


def sweep_is_late(*, at: datetime) -> bool:
    """Whether no sweep has ended for too long, or none ever did."""
    since = last_sweep() or schedule_created_at()
    return since is not None and at - since > settings.SWEEP_LATE


def oldest_due(*, at: datetime) -> datetime | None:
    """Since when the copy that waits longest is due; None where none is."""
    running = Message.objects.live().exclude(channel=Channel.IN_APP).values_list("pk", flat=True)
    return min((due for due in counters.next_due(list(running)).values() if due <= at), default=None)


def stuck(*, at: datetime) -> dict[Message, datetime]:
    """Since when the copies of a message are due while none was handed over for as long; a pace is no fault."""
    late = at - settings.DUE_LATE
    running = {m.pk: m for m in Message.objects.live().exclude(channel=Channel.IN_APP)}
    waiting = {pk: since for pk, since in counters.next_due(list(running)).items() if since < late}
    if not waiting:
        return {}
    used_up = throttle.used_up(at=at)
    moving = set(
        DeliveryRecord.objects.filter(sent_at__gte=late, message__in=list(waiting)).values_list("message", flat=True)
    )
    return {
        running[pk]: since for pk, since in waiting.items() if pk not in moving and running[pk].channel not in used_up
    }


def records() -> Iterator[tuple[str, dict[str, int]]]:
    """For each channel how many were matched, are in each status, and what came of them, from kept counts."""
    with connection.cursor() as cursor:
        cursor.execute(BY_CHANNEL)
        for channel, *numbers in cursor.fetchall():
            found = dict(zip(COUNTED, numbers, strict=True))
            yield channel, {"matched": sum(found[status] for status in STATUSES), **found}


def checked(*, at: datetime) -> dict[str, dict[str, Any]]:
    """What must run, each with whether it does, when it last did, and how many seconds ago that was.

    A schedule that is new has not run yet, which is no fault until it is late.
    """
    found = {
        "beat": (last_beat(), not beat_is_late(at=at)),
        "sweep": (last_sweep(), not sweep_is_late(at=at)),
        # A long send, or one at a pace, is due for long and well.
        "oldest_due": (oldest_due(at=at), not stuck(at=at)),
    }
    return {
        name: {
            "ok": ok,
            "at": moment.isoformat() if moment else None,
            "seconds": round((at - moment).total_seconds()) if moment else None,
        }
        for name, (moment, ok) in found.items()
    }
