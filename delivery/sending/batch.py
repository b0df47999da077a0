"""Hand over: claim, commit, then touch the world, then settle (behaviour 5).

A batch is at most IN_FLIGHT records of one message. `sending` is committed before the first byte leaves; what was
handed over is settled together in one UPDATE. Of a worker that dies, the one copy at the door is in doubt.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.conf import settings
from django.db.models import Q

from audiences.intake.attributes.fields import storable
from delivery import locks, metrics, rendering, shutdown
from delivery.channels import (
    CHANNELS,
    BatchChannel,
    Channel,
    ChannelDown,
    Envelope,
    NoReachableDevice,
    NoSuchMailbox,
    Rejected,
    SenderRefused,
    Unavailable,
)
from delivery.models import ChannelOutage, DeliveryRecord, Pace, Reason
from delivery.sending import journal, push_fanout, settle, throttle
from delivery.sending import outcome as sending_outcome
from delivery.sending.claim import Batch, Claimed, claim, records_of_left_companies
from delivery.sending.journal import Journal, NoJournal
from delivery.sending.outcome import Outcome
from delivery.sending.throttle import Slots
from messaging import content
from messaging.models import Channel as Name
from messaging.models import Message

log = logging.getLogger(__name__)

# A batch that takes this long is asked about again before its next copy: somebody may be pausing the message.
PAUSE_CHECK_INTERVAL = timedelta(milliseconds=100)
# What somebody else's software says of a failure may be a whole page.
DETAIL_MAX_LENGTH = 1000


class Own(threading.local):
    """The channels of this thread: two at once on one connection would mix their mails up."""

    def __init__(self) -> None:
        self.channels: dict[Name, Channel] = {}


OPEN = Own()


def channel_of(name: Name) -> Channel:
    """Return this thread's channel of that name, kept open across batches."""
    if name not in OPEN.channels:
        OPEN.channels[name] = CHANNELS[name]()
    return OPEN.channels[name]


def close_channels() -> None:
    """Close what this thread keeps open."""
    while OPEN.channels:
        OPEN.channels.popitem()[1].close()
    journal.close()


def messages_due(*, at: datetime) -> list[Message]:
    """The live messages with something to hand over now, those to one person first: PostgreSQL puts nulls last."""
    due = DeliveryRecord.objects.due(at).values("message")
    rows = Message.objects.live().exclude(channel=Name.IN_APP).filter(pk__in=due)
    return list(rows.select_related("version", "sender", "audience").order_by("to_customer", "pk"))


def send_batch(message: Message, *, clock: sending_outcome.Clock, pace: Pace | None = None) -> Batch | None:
    """Claim a batch of one message, hand it over and settle it; None once its channel takes nothing more.

    Whoever pauses the message waits for the batch, and none is claimed meanwhile. `pace` is what holds the channel
    back; None where nothing does.
    """
    token = uuid.uuid4()
    nothing = Batch(message, None, token, [], clock())
    places = Slots(settings.IN_FLIGHT)
    if pace is not None:
        taken = throttle.acquire(message.channel, wanted=settings.IN_FLIGHT, at=clock())
        if taken is None:
            log.info("channel %s has handed over what it may today", message.channel)
            return None
        places = taken
        places.wait(0, unless=shutdown.is_requested)
    outcome = Outcome()
    try:
        if not places.count or shutdown.is_requested():
            return nothing
        with locks.batch_lock(message) as may_begin:
            return run_batch(message, outcome, token=token, places=places, clock=clock) if may_begin else nothing
    finally:
        if pace is not None:
            throttle.release(message.channel, places=places, unused=places.count - outcome.handed_over)


def run_batch(
    message: Message, outcome: Outcome, *, token: uuid.UUID, places: Slots, clock: sending_outcome.Clock
) -> Batch | None:
    """Do a batch, from claim to settle, and note how it went."""
    with journal.journal_of(token) as flight:
        batch = claim(message, at=clock(), token=token, most=places.count)
        if not batch.records:
            return batch
        try:
            if batch.copy is not None:
                rendering.store_links(batch.copy)
            envelopes = build_envelopes(batch, outcome, clock=clock)
        except Exception:
            # Nothing has left yet: none of them may be taken for uncertain.
            fault = Outcome(not_begun=[record.pk for record in batch.records], down="A copy could not be finished.")
            settle.settle_with_retry(batch, fault, clock=clock)
            raise
        try:
            send_copies(batch, envelopes, outcome, clock=clock, flight=flight, places=places)
        finally:
            settle.settle_with_retry(batch, outcome, clock=clock)
    if outcome.down:
        log.warning("channel %s is down: %s", message.channel, outcome.down)
        ChannelOutage.record_refusal(message.channel, why=outcome.down, at=clock())
        return None
    record_trouble(batch, outcome)
    return batch


def record_trouble(batch: Batch, outcome: Outcome) -> None:
    """Write on the message why none of its copies goes, and take that back once one does."""
    message = batch.message
    if trouble := outcome.message_trouble:
        log.warning("message %s rests: %s", message.pk, trouble)
        batch.rests = True
        Message.objects.filter(pk=message.pk).exclude(trouble=trouble).update(trouble=trouble)
    elif outcome.sent and message.trouble.startswith(sending_outcome.OF_ALL_COPIES):
        message.trouble = ""
        ours = Q(trouble__startswith=sending_outcome.SENDER_IS_REFUSED) | Q(
            trouble__startswith=sending_outcome.NONE_IS_FINISHED
        )
        Message.objects.filter(ours, pk=message.pk).update(trouble="")


# Touch the world


def send_copies(
    batch: Batch,
    envelopes: list[tuple[Claimed, Envelope]],
    outcome: Outcome,
    *,
    clock: sending_outcome.Clock,
    flight: Journal | NoJournal,
    places: Slots,
) -> None:
    """Hand each copy of a batch to its channel in its turn, and note what is known of each; what is left was not begun.

    Between two copies it is broken off when the channel is down, this process is to end, somebody pauses the message,
    or we were taken for dead: then the batch is not ours any more.
    """
    channel = channel_of(Name(batch.message.channel))
    rest = deque(envelopes)
    # Those that could not be finished were never to be handed over.
    kept_back = len(outcome.not_begun)
    asked_at = clock()
    try:
        while rest and not outcome.down and not outcome.sender_refused:
            # Copies that were put back take no place.
            place = len(envelopes) - len(rest) - (len(outcome.not_begun) - kept_back)
            if place:
                places.wait(place, unless=shutdown.is_requested)
            now = clock()
            if shutdown.is_requested() or not batch.is_ours(at=now):
                break
            if now - asked_at >= PAUSE_CHECK_INTERVAL:
                if not locks.batch_may_continue(batch.message):
                    break
                asked_at = now
                rest = drop_left_companies(rest, outcome)
                if not rest:
                    break
            if isinstance(channel, BatchChannel):
                # All at once, but where a pace says when each may go.
                some = [rest.popleft() for _ in range(1 if places.every else len(rest))]
                send_batched(channel, some, outcome, clock=clock, flight=flight)
                continue
            record, envelope = rest.popleft()
            flight.sending(record.pk)
            send_one(channel, record, envelope, outcome, clock=clock, flight=flight)
    finally:
        outcome.not_begun += [record.pk for record, _ in rest]
        outcome.handed_over = len(envelopes) - (len(outcome.not_begun) - kept_back)


def drop_left_companies(rest: deque[tuple[Claimed, Envelope]], outcome: Outcome) -> deque[tuple[Claimed, Envelope]]:
    """Put back copies whose customer left the company since the claim; the next claim settles why they do not go."""
    about_companies = [record.pk for record, _ in rest if record.company is not None]
    left = records_of_left_companies(about_companies) if about_companies else set()
    outcome.not_begun += [record.pk for record, _ in rest if record.pk in left]
    return deque(copy for copy in rest if copy[0].pk not in left)


def send_batched(
    channel: BatchChannel,
    some: list[tuple[Claimed, Envelope]],
    outcome: Outcome,
    *,
    clock: sending_outcome.Clock,
    flight: Journal | NoJournal,
) -> None:
    """Hand some copies over at once, each to several devices, and note what is known of each."""
    earlier = push_fanout.earlier_device_copies(record.pk for record, _ in some)
    for record, _ in some:
        flight.sending(record.pk)
    try:
        answers = channel.send_all([envelope for _, envelope in some])
    except Exception as reason:
        # Whatever it was, the channel may have got any of them.
        log.warning("a batch of pushes went wrong", exc_info=True)
        answers = [dict.fromkeys(envelope.to, reason) for _, envelope in some]
    for (record, envelope), answered in zip(some, answers, strict=True):
        is_last = record.attempts > len(sending_outcome.BACK_OFF)
        told = push_fanout.fan_out_result(record.pk, answered, earlier=earlier[record.pk], is_last=is_last)
        outcome.given += told.given
        outcome.dead += told.dead
        noted = NoJournal() if told.is_half_done else flight
        send_one(told, record, envelope, outcome, clock=clock, flight=noted)
    outcome.down = outcome.down or storable(push_fanout.channel_down_reason(answers))


def send_one(
    channel: Channel,
    record: Claimed,
    envelope: Envelope,
    outcome: Outcome,
    *,
    clock: sending_outcome.Clock,
    flight: Journal | NoJournal,
) -> None:
    """Hand one copy over, and note what is known of it."""
    began = time.perf_counter()
    try:
        # A server's words and ids are its own; what the database cannot hold would leave the whole batch unsettled.
        provider_id = storable(channel.send(envelope))
    except NoSuchMailbox as reason:
        outcome.failed.append((record.pk, Reason.BOUNCED, storable(str(reason))))
    except Rejected as reason:
        outcome.failed.append((record.pk, Reason.REJECTED, storable(str(reason))))
    except ChannelDown as reason:
        outcome.down = storable(str(reason))
        outcome.not_begun.append(record.pk)
    except SenderRefused as reason:
        outcome.sender_refused = storable(str(reason))
        outcome.not_begun.append(record.pk)
    except NoReachableDevice as reason:
        outcome.retry.append((record.pk, clock(), storable(str(reason))))
    except Unavailable as reason:
        outcome.try_later(record, at=clock(), words=str(reason), least=reason.after)
    except BaseException as reason:
        # Whatever it was, the channel may have got it; and who is told to end at once ends here.
        log.warning("record %s is uncertain", record.pk, exc_info=True, extra={"record": record.pk})
        outcome.uncertain.append((record.pk, storable(f"{type(reason).__name__}: {reason}")[:DETAIL_MAX_LENGTH]))
        if not isinstance(reason, Exception):
            raise
        return
    else:
        flight.accepted(record.pk, provider_id)
        outcome.sent[record.pk] = provider_id
        metrics.observe_duration("hand_over", began, type(channel).__name__.lower())
        return
    flight.rejected(record.pk)


def build_envelopes(batch: Batch, outcome: Outcome, *, clock: sending_outcome.Clock) -> list[tuple[Claimed, Envelope]]:
    """Finish the copies of a batch; one whose text cannot be filled in fails with the reason, and holds up no other.

    Where none of several can be finished, and through a fault of ours, it is no copy's fault and costs none a try.
    """
    sender = batch.message.sender
    done: list[tuple[Claimed, Envelope]] = []
    broken: list[tuple[Claimed, str]] = []
    assert batch.copy is not None and sender is not None  # noqa: S101, PT018 - going live has asked for both
    for record in batch.records:
        try:
            rendered = batch.copy.render(record.variables, record_id=record.pk)
            envelope = rendering.envelope(batch.message, sender, rendered, record_id=record.pk, to=record.to)
        except content.ContentError as reason:
            outcome.failed.append((record.pk, Reason.CONTENT, storable(str(reason))))
        except Exception as wrong:
            # Ours, so it is no reason to fail this one for good.
            log.exception("record %s cannot be finished", record.pk, extra={"record": record.pk})
            broken.append((record, type(wrong).__name__))
        else:
            done.append((record, envelope))
    if len(broken) == len(batch.records) > 1:
        outcome.not_begun += [record.pk for record, _ in broken]
        outcome.unfinished = broken[0][1]
    else:
        for record, fault in broken:
            outcome.try_later(record, at=clock(), words=f"This copy could not be finished: {fault}.")
    return done


# Settle

# How often it is run at most: again only for records that a merge moved, or that are no longer this claim's.
SETTLE_MAX_RUNS = 3


def settle_sent(cursor: psycopg.Cursor[Any], sent: Mapping[int, str], *, claim: uuid.UUID, at: datetime) -> None:
    """Settle what was sent: records and the provider's names for them."""
    params: dict[str, Any] = {"now": at, "claim": claim, "ids": list(sent), "providers": list(sent.values())}
    left = len(sent)
    for _ in range(SETTLE_MAX_RUNS):
        cursor.execute(settle.SETTLE_SENT, params, prepare=True)
        left -= sum(count for (count,) in cursor)
        if not left:
            return


# What the dead leave
