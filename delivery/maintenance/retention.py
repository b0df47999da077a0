"""Retention: deletes data that is older than the workspace's limits, once a day and one slice of a table at a time.

Data that rules need stays (event summaries; sent, opened and clicked), and so do delivery records: only their variables
are deleted. In-app messages belong to a conversation, which stays until the person is erased.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import Case, F, Max, Min, Q, QuerySet, Value, When

from audiences.models import ConfirmationMail, Event, IdempotencyKey, JobItem, Workspace
from audiences.models.consent import MailStatus
from delivery.models import DeliveryRecord, Link, MissedMatch, RefusedVisitors, Status
from delivery.tracking.opt_in import LINK_VALID_FOR
from messaging.models import Autosave, Channel, FormVisit, Message, MessageVersion

log = logging.getLogger(__name__)

# The rows of a table that are scanned between two commits.
SLICE_SIZE = 5000
REFUSED_VISITORS_RETENTION = MISSED_MATCHES_RETENTION = timedelta(days=90)
EXTERNAL_CHANNELS = (Channel.EMAIL, Channel.PUSH)

ShouldContinue = Callable[[], bool]


def delete_expired(*, at: datetime, go_on: ShouldContinue, size: int = SLICE_SIZE) -> dict[str, int]:
    """Delete expired data; return the number of deleted rows by table. The next day continues where this stops."""
    workspace = Workspace.current()
    IdempotencyKey.objects.all().delete_expired(at=at)
    RefusedVisitors.objects.filter(day__lt=(at - REFUSED_VISITORS_RETENTION).date()).delete()
    Autosave.objects.all().delete_expired(at=at)
    FormVisit.objects.all().delete_expired(at=at)
    Session.objects.filter(expire_date__lt=at).delete()
    MissedMatch.objects.filter(found_at__lt=at - MISSED_MATCHES_RETENTION).delete()
    # No customer has the address any more, and its link has expired. The hash stays.
    past = ConfirmationMail.objects.filter(requested_at__lt=at - LINK_VALID_FOR).exclude(status=MailStatus.SENDING)
    past.without_owner().update(address=None, detail="", provider_id="")
    found: dict[str, int] = {}
    for kept_days, parts in (
        (workspace.keep_events_days, EVENT_STEPS),
        (workspace.keep_copies_days, COPY_STEPS),
    ):
        if kept_days is None:
            continue
        before = at - timedelta(days=kept_days)
        for name, part in parts.items():
            found[name] = sum(part(before, at, size, go_on))
    if found:
        log.info("retention deleted: %s", ", ".join(f"{many} {name}" for name, many in found.items()))
    return found


def key_slices(rows: QuerySet[Any], *, size: int, go_on: ShouldContinue) -> Iterator[Q]:
    """Yield the ranges of a table's keys."""
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    first = ends["first"]
    while first is not None and first <= ends["last"] and go_on():
        yield Q(pk__gte=first, pk__lt=first + size)
        first += size


def unlocked_keys(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the keys of the rows that no other transaction locks. The next day handles the others."""
    return rows.select_for_update(skip_locked=True, of=("self",)).values("pk")


def delete_events(before: datetime, _at: datetime, size: int, go_on: ShouldContinue) -> Iterator[int]:
    """Delete events; their summaries stay."""
    for part in key_slices(Event.objects.all(), size=size, go_on=go_on):
        with transaction.atomic():
            old = Event.objects.filter(part, happened_at__lt=before)
            gone = Event.objects.filter(pk__in=unlocked_keys(old)).delete()[0]
        yield gone


def delete_job_items(before: datetime, _at: datetime, size: int, go_on: ShouldContinue) -> Iterator[int]:
    """Delete the failed items of bulk jobs."""
    for part in key_slices(JobItem.objects.all(), size=size, go_on=go_on):
        with transaction.atomic():
            old = JobItem.objects.filter(part, task__completed_at__lt=before).exclude(error="")
            gone = JobItem.objects.filter(pk__in=unlocked_keys(old)).delete()[0]
        yield gone


BLANKED: dict[str, Any] = {"variables": {}, "judged_values": None}


def blank_copies(before: datetime, at: datetime, size: int, go_on: ShouldContinue) -> Iterator[int]:
    """Delete the variables of copies, and the values that rules named."""
    settled = Q(status=Status.SENT, sent_at__lt=before) | Q(status=Status.FAILED, taken_at__lt=before)
    for part in key_slices(DeliveryRecord.objects.all(), size=size, go_on=go_on):
        with transaction.atomic():
            old = DeliveryRecord.objects.filter(part, settled, message__channel__in=EXTERNAL_CHANNELS).exclude(
                variables={}, judged_values=None
            )
            # A copy without variables can still be read.
            forgotten_at = Case(When(variables={}, then=F("forgotten_at")), default=Value(at))
            blanked = DeliveryRecord.objects.filter(pk__in=unlocked_keys(old)).update(
                **BLANKED, forgotten_at=forgotten_at
            )
        yield blanked


def blank_direct_messages(before: datetime, at: datetime, size: int, go_on: ShouldContinue) -> Iterator[int]:
    """Delete the content of direct messages."""
    ended = DeliveryRecord.objects.filter(
        Q(sent_at__lt=before) | Q(status=Status.FAILED, taken_at__lt=before), forgotten_at=None
    )
    to_one = Message.objects.to_one_person().filter(channel__in=EXTERNAL_CHANNELS, records__in=ended).order_by("pk")
    written = to_one.exclude(version__subject="", version__body="", version__link="")
    while go_on() and (keys := list(written.values_list("pk", flat=True)[:size])):
        with transaction.atomic(), connection.cursor() as cursor:
            # A trigger protects versions that were live; this setting allows the change.
            cursor.execute("SET LOCAL outbound.erasing = 'on'")
            MessageVersion.objects.filter(message__in=keys).update(subject="", body="", link="")
            cursor.execute("SET LOCAL outbound.erasing = 'off'")
            Link.objects.filter(version__message__in=keys).update(address="")
            records = DeliveryRecord.objects.filter(message__in=keys).select_for_update(no_key=True).order_by("pk")
            DeliveryRecord.objects.filter(pk__in=records.values("pk")).update(**BLANKED, forgotten_at=at)
        yield len(keys)


RetentionStep = Callable[[datetime, datetime, int, ShouldContinue], Iterator[int]]
EVENT_STEPS: dict[str, RetentionStep] = {"events": delete_events, "job items": delete_job_items}
# Direct messages first: they are found by copies that are not blanked yet.
COPY_STEPS: dict[str, RetentionStep] = {"direct messages": blank_direct_messages, "copies": blank_copies}
