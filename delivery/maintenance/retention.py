"""Deleting what was kept long enough, as the workspace says: once a day, a slice of a table at a time.

What rules ask stays (event summaries, what was sent, opened and clicked), and delivery records always do: only what was
filled in for somebody goes. In-app messages are part of a conversation, which is kept until the person is erased.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Max, Min, Q, QuerySet

from audiences.models import Event, JobItem, Workspace
from delivery.models import DeliveryRecord, Link, RefusedVisitors, Status
from messaging.models import Channel, Message, MessageVersion

log = logging.getLogger(__name__)

# So many rows of a table are looked through between two commits.
SLICE = 5000
REFUSED_KEPT = timedelta(days=90)
LEAVES_US = (Channel.EMAIL, Channel.PUSH)

Wanted = Callable[[], bool]


def delete_expired(*, at: datetime, go_on: Wanted, size: int = SLICE) -> dict[str, int]:
    """Delete what is older than the workspace keeps it; how many of each. What is left over is for the next day."""
    workspace = Workspace.current()
    RefusedVisitors.objects.filter(day__lt=(at - REFUSED_KEPT).date()).delete()
    found: dict[str, int] = {}
    for kept_days, parts in (
        (workspace.keep_events_days, EVENTS),
        (workspace.keep_copies_days, COPIES),
    ):
        if kept_days is None:
            continue
        before = at - timedelta(days=kept_days)
        for name, part in parts.items():
            found[name] = sum(part(before, at, size, go_on))
    if found:
        log.info("kept long enough: %s", ", ".join(f"{many} {name}" for name, many in found.items()))
    return found


def slices(rows: QuerySet[Any], *, size: int, go_on: Wanted) -> Iterator[Q]:
    """A table by its keys, a slice at a time, each read once."""
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    first = ends["first"]
    while first is not None and first <= ends["last"] and go_on():
        yield Q(pk__gte=first, pk__lt=first + size)
        first += size


def unlocked(rows: QuerySet[Any]) -> QuerySet[Any]:
    """The keys of those that no other transaction holds: nobody is waited for, the next day comes back to the rest."""
    return rows.select_for_update(skip_locked=True, of=("self",)).values("pk")


def events(before: datetime, _at: datetime, size: int, go_on: Wanted) -> Iterator[int]:
    """Events; their summaries stay."""
    for part in slices(Event.objects.all(), size=size, go_on=go_on):
        with transaction.atomic():
            old = Event.objects.filter(part, happened_at__lt=before)
            gone = Event.objects.filter(pk__in=unlocked(old)).delete()[0]
        yield gone


def job_items(before: datetime, _at: datetime, size: int, go_on: Wanted) -> Iterator[int]:
    """What integrations sent in bulk and could not be written down."""
    for part in slices(JobItem.objects.all(), size=size, go_on=go_on):
        with transaction.atomic():
            old = JobItem.objects.filter(part, task__completed_at__lt=before).exclude(error="")
            gone = JobItem.objects.filter(pk__in=unlocked(old)).delete()[0]
        yield gone


def copies(before: datetime, at: datetime, size: int, go_on: Wanted) -> Iterator[int]:
    """What was filled in for each customer."""
    settled = Q(status=Status.SENT, sent_at__lt=before) | Q(status=Status.FAILED, taken_at__lt=before)
    for part in slices(DeliveryRecord.objects.all(), size=size, go_on=go_on):
        with transaction.atomic():
            old = DeliveryRecord.objects.filter(part, settled, message__channel__in=LEAVES_US).exclude(variables={})
            blanked = DeliveryRecord.objects.filter(pk__in=unlocked(old)).update(variables={}, forgotten_at=at)
        yield blanked


def letters(before: datetime, at: datetime, size: int, go_on: Wanted) -> Iterator[int]:
    """What was written to one person."""
    ended = DeliveryRecord.objects.filter(
        Q(sent_at__lt=before) | Q(status=Status.FAILED, taken_at__lt=before), forgotten_at=None
    )
    to_one = Message.objects.to_one_person().filter(channel__in=LEAVES_US, records__in=ended).order_by("pk")
    written = to_one.exclude(version__subject="", version__body="", version__link="")
    while go_on() and (keys := list(written.values_list("pk", flat=True)[:size])):
        with transaction.atomic(), connection.cursor() as cursor:
            # Versions that were live are guarded by the database; this is the one way in.
            cursor.execute("SET LOCAL outbound.erasing = 'on'")
            MessageVersion.objects.filter(message__in=keys).update(subject="", body="", link="")
            cursor.execute("SET LOCAL outbound.erasing = 'off'")
            Link.objects.filter(version__message__in=keys).update(address="")
            records = DeliveryRecord.objects.filter(message__in=keys).select_for_update(no_key=True).order_by("pk")
            DeliveryRecord.objects.filter(pk__in=records.values("pk")).update(variables={}, forgotten_at=at)
        yield len(keys)


Part = Callable[[datetime, datetime, int, Wanted], Iterator[int]]
EVENTS: dict[str, Part] = {"events": events, "job items": job_items}
# Letters first: a copy that is forgotten already is not looked at for its letter.
COPIES: dict[str, Part] = {"letters": letters, "copies": copies}
