"""One batch: claim, commit, send, settle (behaviour 5).

A batch is at most IN_FLIGHT records of one message. `sending` is committed before the first byte leaves, and the
copies that were sent are settled together in one UPDATE. If a worker dies, only the copy it was sending is in doubt.
"""

import logging
import time
import uuid
from collections import deque
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q

from audiences.intake.attributes.fields import replace_unstorable
from delivery import locks, metrics, process, rendering, shutdown
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
from delivery.channels.base import Answer
from delivery.models import ChannelOutage, DeliveryRecord, Pace, Reason
from delivery.sending import journal as sending_journal
from delivery.sending import outcome as sending_outcome
from delivery.sending import push_fanout, settle, throttle
from delivery.sending.claim import Batch, Claimed, claim, records_of_left_companies
from delivery.sending.journal import Journal, NoJournal
from delivery.sending.outcome import Outcome
from delivery.sending.throttle import Slots
from messaging import content
from messaging.models import Channel as Name
from messaging.models import Message

log = logging.getLogger(__name__)

# How long a batch runs before it checks again whether its message is being paused.
PAUSE_CHECK_INTERVAL = timedelta(milliseconds=100)
# A third party's error text may be a whole page.
DETAIL_MAX_LENGTH = 1000


def channel_of(name: Name) -> Channel:
    """Return this thread's channel of that name, which stays open across batches."""
    channels = process.thread.channels
    if name not in channels:
        channels[name] = CHANNELS[name]()
    return channels[name]


def messages_due(*, at: datetime) -> list[Message]:
    """Return the live messages with records due at `at`, direct messages first (PostgreSQL sorts nulls last)."""
    due = DeliveryRecord.objects.due(at).values("message")
    rows = Message.objects.live().exclude(channel=Name.IN_APP).filter(pk__in=due)
    return list(rows.select_related("version", "sender", "audience").order_by("to_customer", "pk"))


def send_batch(message: Message, *, clock: sending_outcome.Clock, pace: Pace | None = None) -> Batch | None:
    """Claim, send and settle one batch of a message. Return None if its channel takes nothing more for now.

    A teammate who pauses the message waits for the batch, and no batch is claimed meanwhile. `pace` is the channel's
    limit; None if it has none.
    """
    token = uuid.uuid4()
    nothing = Batch(message, None, token, [], clock())
    places = Slots(settings.IN_FLIGHT)
    if pace is not None:
        taken = throttle.acquire(message.channel, wanted=settings.IN_FLIGHT, at=clock())
        if taken is None:
            log.info("channel %s has reached its limit for today", message.channel)
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
    """Carry out a batch from claim to settlement, and record its outcome."""
    with sending_journal.journal_of(token) as journal:
        batch = claim(message, at=clock(), token=token, most=places.count)
        if not batch.records:
            return batch
        try:
            if batch.copy is not None:
                rendering.store_links(batch.copy)
            envelopes = build_envelopes(batch, outcome, clock=clock)
        except Exception:
            # Nothing has left yet, so no record may become uncertain.
            fault = Outcome(not_begun=[record.pk for record in batch.records], down="A copy could not be rendered.")
            settle.settle_with_retry(batch, fault, clock=clock)
            raise
        try:
            send_copies(batch, envelopes, outcome, clock=clock, journal=journal, places=places)
        finally:
            settle.settle_with_retry(batch, outcome, clock=clock)
    if outcome.down:
        log.warning("channel %s is unavailable: %s", message.channel, outcome.down)
        ChannelOutage.record_refusal(message.channel, why=outcome.down, at=clock())
        return None
    record_trouble(batch, outcome)
    return batch


def record_trouble(batch: Batch, outcome: Outcome) -> None:
    """Write on the message why no copy of it can be sent, and clear that once one was sent."""
    message = batch.message
    if trouble := outcome.message_trouble:
        log.warning("message %s is paused: %s", message.pk, trouble)
        batch.rests = True
        Message.objects.filter(pk=message.pk).exclude(problem=trouble).update(problem=trouble)
    elif outcome.sent and message.problem.startswith(sending_outcome.OF_ALL_COPIES):
        message.problem = ""
        ours = Q(problem__startswith=sending_outcome.SENDER_IS_REFUSED) | Q(
            problem__startswith=sending_outcome.NONE_IS_FINISHED
        )
        Message.objects.filter(ours, pk=message.pk).update(problem="")


# Sending


def send_copies(
    batch: Batch,
    envelopes: list[tuple[Claimed, Envelope]],
    outcome: Outcome,
    *,
    clock: sending_outcome.Clock,
    journal: Journal | NoJournal,
    places: Slots,
) -> None:
    """Send the copies of a batch, each in its turn, and record each answer. Copies not reached count as not begun.

    Between two copies the batch ends early if the channel is down, this process is to stop, the message is being
    paused, or the lease was lost: another worker may then have settled the batch.
    """
    channel = channel_of(Name(batch.message.channel))
    rest = deque(envelopes)
    # Copies that could not be rendered were never to be sent.
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
                # All at once, unless the throttle gives each a moment of its own.
                copies = [rest.popleft() for _ in range(1 if places.every else len(rest))]
                send_batched(channel, copies, outcome, clock=clock, journal=journal)
                continue
            record, envelope = rest.popleft()
            send_one(channel, record, envelope, outcome, clock=clock, journal=journal)
    finally:
        outcome.not_begun += [record.pk for record, _ in rest]
        outcome.handed_over = len(envelopes) - (len(outcome.not_begun) - kept_back)


def drop_left_companies(rest: deque[tuple[Claimed, Envelope]], outcome: Outcome) -> deque[tuple[Claimed, Envelope]]:
    """Put back copies whose customer left the company since the claim; the next claim settles them with a reason."""
    about_companies = [record.pk for record, _ in rest if record.company is not None]
    left = records_of_left_companies(about_companies) if about_companies else set()
    outcome.not_begun += [record.pk for record, _ in rest if record.pk in left]
    return deque(copy for copy in rest if copy[0].pk not in left)


def send_one(
    channel: Channel,
    record: Claimed,
    envelope: Envelope,
    outcome: Outcome,
    *,
    clock: sending_outcome.Clock,
    journal: Journal | NoJournal,
) -> None:
    """Send one copy and record the answer."""
    journal.sending(record.pk)
    began = time.perf_counter()
    answer = attempt(channel, envelope)
    if isinstance(answer, str):
        metrics.observe_duration("hand_over", began, type(channel).__name__.lower())
    record_answer(record, answer, outcome, clock=clock, journal=journal)


def send_batched(
    channel: BatchChannel,
    copies: list[tuple[Claimed, Envelope]],
    outcome: Outcome,
    *,
    clock: sending_outcome.Clock,
    journal: Journal | NoJournal,
) -> None:
    """Send several copies at once, each to several devices, and record the answers."""
    earlier = push_fanout.earlier_device_copies(record.pk for record, _ in copies)
    for record, _ in copies:
        journal.sending(record.pk)
    began = time.perf_counter()
    try:
        answers = channel.send_all([envelope for _, envelope in copies])
    except Exception as reason:
        # The channel may have received any of them.
        log.warning("a batch of pushes failed", exc_info=True)
        answers = [dict.fromkeys(envelope.to, reason) for _, envelope in copies]
    for (record, _), answered in zip(copies, answers, strict=True):
        is_last = record.attempts > len(sending_outcome.BACK_OFF)
        result = push_fanout.fan_out_result(record.pk, answered, earlier=earlier[record.pk], is_last=is_last)
        outcome.given += result.given
        outcome.dead += result.dead
        if isinstance(result.answer, str):
            metrics.observe_duration("hand_over", began, type(channel).__name__.lower())
        noted = NoJournal() if result.is_half_done else journal
        record_answer(record, result.answer, outcome, clock=clock, journal=noted)
    outcome.down = outcome.down or replace_unstorable(push_fanout.channel_down_reason(answers))


def attempt(channel: Channel, envelope: Envelope) -> Answer:
    """Send one copy. Return the provider's id for it, or the exception that the channel raised."""
    try:
        # A server's ids are its own: one that the database cannot store would leave the whole batch unsettled.
        return replace_unstorable(channel.send(envelope))
    except BaseException as reason:  # noqa: BLE001 - `record_answer` raises again what ends the process
        return reason


def record_answer(
    record: Claimed,
    answer: Answer,
    outcome: Outcome,
    *,
    clock: sending_outcome.Clock,
    journal: Journal | NoJournal,
) -> None:
    """Add the answer for one record to the outcome and the journal. Raise what must end the process."""
    if isinstance(answer, str):
        provider_id = replace_unstorable(answer)
        journal.accepted(record.pk, provider_id)
        outcome.sent[record.pk] = provider_id
        return
    words = replace_unstorable(str(answer))
    if isinstance(answer, NoSuchMailbox):
        outcome.failed.append((record.pk, Reason.BOUNCED, words))
    elif isinstance(answer, Rejected):
        outcome.failed.append((record.pk, Reason.REJECTED, words))
    elif isinstance(answer, ChannelDown):
        outcome.down = words
        outcome.not_begun.append(record.pk)
    elif isinstance(answer, SenderRefused):
        outcome.sender_refused = words
        outcome.not_begun.append(record.pk)
    elif isinstance(answer, NoReachableDevice):
        outcome.retry.append((record.pk, clock(), words))
    elif isinstance(answer, Unavailable):
        outcome.try_later(record, at=clock(), words=str(answer), least=answer.after)
    else:
        # The channel may have received the copy.
        log.warning("record %s is uncertain", record.pk, exc_info=answer, extra={"record": record.pk})
        outcome.uncertain.append(
            (record.pk, replace_unstorable(f"{type(answer).__name__}: {answer}")[:DETAIL_MAX_LENGTH])
        )
        if not isinstance(answer, Exception):
            raise answer
        return
    journal.rejected(record.pk)


def build_envelopes(batch: Batch, outcome: Outcome, *, clock: sending_outcome.Clock) -> list[tuple[Claimed, Envelope]]:
    """Render the copies of a batch. A copy that cannot be rendered fails with the reason; the others go on.

    If several fail, and all by an error of ours, no record is to blame and none loses an attempt.
    """
    sender = batch.message.sender
    done: list[tuple[Claimed, Envelope]] = []
    broken: list[tuple[Claimed, str]] = []
    assert batch.copy is not None and sender is not None  # noqa: S101, PT018 - required to go live
    for record in batch.records:
        try:
            rendered = batch.copy.render(record.variables, record_id=record.pk)
            envelope = rendering.envelope(batch.message, sender, rendered, record_id=record.pk, to=record.to)
        except content.ContentError as reason:
            outcome.failed.append((record.pk, Reason.CONTENT, replace_unstorable(str(reason))))
        except Exception as wrong:
            # An error of ours, so not a reason to fail this record for good.
            log.exception("record %s cannot be rendered", record.pk, extra={"record": record.pk})
            broken.append((record, type(wrong).__name__))
        else:
            done.append((record, envelope))
    if len(broken) == len(batch.records) > 1:
        outcome.not_begun += [record.pk for record, _ in broken]
        outcome.unfinished = broken[0][1]
    else:
        for record, fault in broken:
            outcome.try_later(record, at=clock(), words=f"This copy could not be rendered: {fault}.")
    return done
