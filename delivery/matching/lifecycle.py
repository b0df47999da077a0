"""Pause, stop and finish a message together with its delivery records."""

from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Exists, OuterRef

from audiences.transactions import retried
from delivery import locks
from delivery.matching import sql
from delivery.models import UNDONE, DeliveryRecord, Reason, Status
from delivery.models.device_copy import settle_begun_pushes
from delivery.reporting import counters
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message, State


@retried
def pause(message: Message) -> int:
    """Pause a message. Once this has returned, nothing new is matched, sent or shown.

    Return how many copies are still being handed over: a server may take longer to answer than a click waits.
    """
    locks.block_batches_and_rounds(message)
    message_lifecycle.pause(message)
    transaction.on_commit(locks.wait_for_visits)
    return sum(copies_in_hand([message]).values())


@retried
def pause_by_itself(message: Message, *, find_reason: Callable[[Message], str]) -> bool:
    """Pause a message if there still is a reason when its row is locked: a teammate may have resumed it meanwhile."""
    locks.block_batches_and_rounds(message)
    message.lock_row()
    because = find_reason(message)
    if because:
        message_lifecycle.pause(message, because=because)
        transaction.on_commit(locks.wait_for_visits)
    return bool(because)


@retried
def resume(message: Message, *, at: datetime) -> None:
    """Resume a message. If it had paused itself, its copies, complaints and bounces are counted anew from now on."""
    message.lock_row()
    counts = asdict(counters.counts_of([message.pk])[message.pk]) if message.paused_because else None
    message_lifecycle.resume(message, at=at, counted_from=counts)


def copies_in_hand(messages: Collection[Message]) -> dict[int, int]:
    """Return how many copies of each message are being handed over; messages without such copies are left out."""
    rows = DeliveryRecord.objects.filter(message__in=messages, status=Status.SENDING)
    return dict(rows.values_list("message").annotate(number=Count("pk")))


@retried
def stop(message: Message) -> None:
    """Stop a message permanently and withdraw waiting records; beyond one slice the sweep continues."""
    locks.block_batches_and_rounds(message)
    message_lifecycle.stop(message)
    withdraw_stopped(message)
    transaction.on_commit(locks.wait_for_visits)


@retried
def withdraw_stopped(message: Message) -> int:
    """Withdraw one slice of the records that wait for a stopped message. A push that a device has counts as sent."""
    if message.channel == Channel.PUSH:
        settle_begun_pushes(DeliveryRecord.objects.filter(message=message))
    waiting = message.records.filter(status=Status.WAITING).select_for_update(no_key=True).order_by("pk")[: sql.SLICE]
    return DeliveryRecord.objects.filter(pk__in=waiting.values("pk")).withdraw(reason=Reason.STOPPED)


def finish_one_offs() -> int:
    """Mark live one-offs as sent that have no waiting, sending or uncertain record."""
    in_hand = [
        Exists(DeliveryRecord.objects.filter(message=OuterRef("pk"), status=status))
        for status in UNDONE
        if status != Status.WAITING
    ]
    live = Message.objects.one_off().filter(*(~exists for exists in in_hand), state=State.LIVE)
    return live.alias(waiting=DeliveryRecord.objects.first_waiting()).filter(waiting=None).update(state=State.SENT)
