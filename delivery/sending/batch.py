"""Hand over: claim, commit, then touch the world, then settle (DESIGN 5).

A batch is at most IN_FLIGHT records of one message. `sending` is committed before the first byte leaves; what was
handed over is settled together in one UPDATE. Of a worker that dies, the one copy at the door is in doubt.
"""

import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.utils import InterfaceError, OperationalError

from audiences.intake.attributes.fields import storable
from audiences.models import Device
from audiences.transactions import retried
from delivery import locks
from delivery.sending import suppression
from delivery import rendering
from delivery.sending import journal
from delivery import metrics
from delivery.sending import throttle
from delivery.sending import push_fanout
from delivery import shutdown
from delivery.channels import (
    CHANNELS,
    Broadcast,
    Channel,
    ChannelDown,
    Envelope,
    NobodyThere,
    NoSuchMailbox,
    Rejected,
    SenderRefused,
    Unavailable,
)
from delivery.sending.claim import LEASE, Batch, Claimed, claim, left_since, prepared
from delivery.sending.journal import Flight, Landed, NoFlight
from delivery.models import DeliveryRecord, Pace, Reason, Rest
from delivery.sending.throttle import Places
from messaging import content
from messaging.models import Channel as Name
from messaging.models import Message

log = logging.getLogger(__name__)

# How long to wait before each further try; after the last one the record fails.
BACK_OFF = [timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 720)]
DOWN_FOR = timedelta(minutes=1)
# A batch that takes this long is asked about again before its next copy: somebody may be pausing the message.
ASK_AGAIN = timedelta(milliseconds=100)
# How long to wait, in seconds, before a database that was lost is tried again.
A_MOMENT = 0.2
LOST = (OperationalError, InterfaceError)
# What somebody else's software says of a failure may be a whole page.
LONGEST_WORDS = 1000
SENDER_IS_REFUSED = "Its copies wait until their sender is taken."
NONE_IS_FINISHED = "Its copies wait, as none of them can be finished."
OF_ALL_COPIES = (SENDER_IS_REFUSED, NONE_IS_FINISHED)

Clock = Callable[[], datetime]


@dataclass(slots=True)
class Outcome:
    """How a batch went, by record."""

    sent: dict[int, str] = field(default_factory=dict)
    failed: list[tuple[int, Reason, str]] = field(default_factory=list)
    retry: list[tuple[int, datetime, str]] = field(default_factory=list)
    # Nothing of these has left: the channel was down, or the batch was broken off before their turn.
    not_begun: list[int] = field(default_factory=list)
    uncertain: list[tuple[int, str]] = field(default_factory=list)
    # Why nothing more can be handed over by this channel right now; empty while it works.
    down: str = ""
    # Why nothing more of this message can be: its sender is refused, or no copy of it can be finished.
    sender_refused: str = ""
    unfinished: str = ""
    # What devices were given, and those that nothing reaches any more.
    given: list[push_fanout.Given] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    # How many the channel was given, whatever it made of them.
    handed_over: int = 0

    @property
    def trouble(self) -> str:
        """Why no copy of this message goes at all; empty where some may."""
        if self.sender_refused:
            return f"{SENDER_IS_REFUSED} {self.sender_refused}"
        return f"{NONE_IS_FINISHED} The server’s log says why: {self.unfinished}." if self.unfinished else ""

    def try_later(self, record: Claimed, *, at: datetime, words: str, least: timedelta = timedelta(0)) -> None:
        """Have a copy wait for its next try, or fail where it had its last."""
        if record.attempts > len(BACK_OFF):
            self.failed.append((record.pk, Reason.GAVE_UP, storable(words)))
        else:
            self.retry.append((record.pk, back_off(record, at=at, least=least), storable(words)))


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


def send_batch(message: Message, *, clock: Clock, pace: Pace | None = None) -> Batch | None:
    """Claim a batch of one message, hand it over and settle it; None once its channel takes nothing more.

    Whoever pauses the message waits for the batch, and none is claimed meanwhile. `pace` is what holds the channel
    back; None where nothing does.
    """
    token = uuid.uuid4()
    nothing = Batch(message, None, token, [], clock())
    places = Places(settings.IN_FLIGHT)
    if pace is not None:
        taken = throttle.take(message.channel, wanted=settings.IN_FLIGHT, at=clock())
        if taken is None:
            log.info("channel %s has handed over what it may today", message.channel)
            return None
        places = taken
        places.wait(0, unless=shutdown.asked)
    outcome = Outcome()
    try:
        if not places.count or shutdown.asked():
            return nothing
        with locks.batch_in_hand(message) as may_begin:
            return carry_out(message, outcome, token=token, places=places, clock=clock) if may_begin else nothing
    finally:
        if pace is not None:
            throttle.give_back(message.channel, places=places, unused=places.count - outcome.handed_over)


def carry_out(message: Message, outcome: Outcome, *, token: uuid.UUID, places: Places, clock: Clock) -> Batch | None:
    """Do a batch, from claim to settle, and note how it went."""
    with journal.noted(token) as flight:
        batch = claim(message, at=clock(), token=token, most=places.count)
        if not batch.records:
            return batch
        try:
            if batch.copy is not None:
                rendering.keep_links(batch.copy)
            envelopes = finished(batch, outcome, clock=clock)
        except Exception:
            # Nothing has left yet: none of them may be taken for uncertain.
            fault = Outcome(not_begun=[record.pk for record in batch.records], down="A copy could not be finished.")
            settle_surely(batch, fault, clock=clock)
            raise
        try:
            hand_over(batch, envelopes, outcome, clock=clock, flight=flight, places=places)
        finally:
            settle_surely(batch, outcome, clock=clock)
    if outcome.down:
        log.warning("channel %s is down: %s", message.channel, outcome.down)
        Rest.begins(message.channel, why=outcome.down, at=clock())
        return None
    note_trouble(batch, outcome)
    return batch


def note_trouble(batch: Batch, outcome: Outcome) -> None:
    """Write on the message why none of its copies goes, and take that back once one does."""
    message = batch.message
    if trouble := outcome.trouble:
        log.warning("message %s rests: %s", message.pk, trouble)
        batch.rests = True
        Message.objects.filter(pk=message.pk).exclude(trouble=trouble).update(trouble=trouble)
    elif outcome.sent and message.trouble.startswith(OF_ALL_COPIES):
        message.trouble = ""
        ours = Q(trouble__startswith=SENDER_IS_REFUSED) | Q(trouble__startswith=NONE_IS_FINISHED)
        Message.objects.filter(ours, pk=message.pk).update(trouble="")


# Touch the world


def hand_over(
    batch: Batch,
    envelopes: list[tuple[Claimed, Envelope]],
    outcome: Outcome,
    *,
    clock: Clock,
    flight: Flight | NoFlight,
    places: Places,
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
                places.wait(place, unless=shutdown.asked)
            now = clock()
            if shutdown.asked() or not batch.is_ours(at=now):
                break
            if now - asked_at >= ASK_AGAIN:
                if not locks.may_go_on(batch.message):
                    break
                asked_at = now
                rest = without_those_who_left(rest, outcome)
                if not rest:
                    break
            if isinstance(channel, Broadcast):
                # All at once, but where a pace says when each may go.
                some = [rest.popleft() for _ in range(1 if places.every else len(rest))]
                hand_over_together(channel, some, outcome, clock=clock, flight=flight)
                continue
            record, envelope = rest.popleft()
            flight.begins(record.pk)
            hand_over_one(channel, record, envelope, outcome, clock=clock, flight=flight)
    finally:
        outcome.not_begun += [record.pk for record, _ in rest]
        outcome.handed_over = len(envelopes) - (len(outcome.not_begun) - kept_back)


def without_those_who_left(rest: deque[tuple[Claimed, Envelope]], outcome: Outcome) -> deque[tuple[Claimed, Envelope]]:
    """Put back copies whose customer left the company since the claim; the next claim settles why they do not go."""
    about_companies = [record.pk for record, _ in rest if record.company is not None]
    left = left_since(about_companies) if about_companies else set()
    outcome.not_begun += [record.pk for record, _ in rest if record.pk in left]
    return deque(copy for copy in rest if copy[0].pk not in left)


def hand_over_together(
    channel: Broadcast,
    some: list[tuple[Claimed, Envelope]],
    outcome: Outcome,
    *,
    clock: Clock,
    flight: Flight | NoFlight,
) -> None:
    """Hand some copies over at once, each to several devices, and note what is known of each."""
    earlier = push_fanout.given_earlier(record.pk for record, _ in some)
    for record, _ in some:
        flight.begins(record.pk)
    try:
        answers = channel.send_all([envelope for _, envelope in some])
    except Exception as reason:
        # Whatever it was, the channel may have got any of them.
        log.warning("a batch of pushes went wrong", exc_info=True)
        answers = [dict.fromkeys(envelope.to, reason) for _, envelope in some]
    for (record, envelope), answered in zip(some, answers, strict=True):
        is_last = record.attempts > len(BACK_OFF)
        told = push_fanout.told(record.pk, answered, earlier=earlier[record.pk], is_last=is_last)
        outcome.given += told.given
        outcome.dead += told.dead
        noted = NoFlight() if told.is_half_done else flight
        hand_over_one(told, record, envelope, outcome, clock=clock, flight=noted)
    outcome.down = outcome.down or storable(push_fanout.down(answers))


def hand_over_one(
    channel: Channel,
    record: Claimed,
    envelope: Envelope,
    outcome: Outcome,
    *,
    clock: Clock,
    flight: Flight | NoFlight,
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
    except NobodyThere as reason:
        outcome.retry.append((record.pk, clock(), storable(str(reason))))
    except Unavailable as reason:
        outcome.try_later(record, at=clock(), words=str(reason), least=reason.after)
    except BaseException as reason:
        # Whatever it was, the channel may have got it; and who is told to end at once ends here.
        log.warning("record %s is uncertain", record.pk, exc_info=True, extra={"record": record.pk})
        outcome.uncertain.append((record.pk, storable(f"{type(reason).__name__}: {reason}")[:LONGEST_WORDS]))
        if not isinstance(reason, Exception):
            raise
        return
    else:
        flight.was_taken(record.pk, provider_id)
        outcome.sent[record.pk] = provider_id
        metrics.took("hand_over", began, type(channel).__name__.lower())
        return
    flight.was_not_taken(record.pk)


def finished(batch: Batch, outcome: Outcome, *, clock: Clock) -> list[tuple[Claimed, Envelope]]:
    """Finish the copies of a batch; one whose text cannot be filled in fails with the reason, and holds up no other.

    Where none of several can be finished, and through a fault of ours, it is no copy's fault and costs none a try.
    """
    sender = batch.message.sender
    done: list[tuple[Claimed, Envelope]] = []
    broken: list[tuple[Claimed, str]] = []
    assert batch.copy is not None and sender is not None  # noqa: S101, PT018 - going live has asked for both
    for record in batch.records:
        try:
            rendered = batch.copy.render(record.filled, record_id=record.pk)
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


def back_off(record: Claimed, *, at: datetime, least: timedelta = timedelta(0)) -> datetime:
    """When to try again: later each time, not before the answer allows it, and not everybody at once."""
    wait = max(least, BACK_OFF[min(record.attempts, len(BACK_OFF)) - 1])
    return at + wait * random.Random(f"{record.pk}.{record.attempts}").uniform(1, 1.25)  # noqa: S311 - jitter


# Settle

# Customers before records, as everywhere. All are locked before the first record is: `locked` reads them to the end.
# A record that a merge gave to another customer meanwhile is left to the next run of the statement.
SETTLE_SENT = (
    "WITH people AS MATERIALIZED (SELECT c.id FROM audiences_customer c WHERE c.id IN"
    " (SELECT r.customer_id FROM delivery_deliveryrecord r WHERE r.id = ANY(%(ids)s::bigint[]))"
    " ORDER BY c.id FOR NO KEY UPDATE),"
    " locked AS MATERIALIZED (SELECT array_agg(id) AS ids FROM people),"
    " settled AS (UPDATE delivery_deliveryrecord r SET status = 'sent', sent_at = %(now)s, reason = '',"
    " claim = NULL, leased_until = NULL, due_at = NULL, provider_id = given.provider_id"
    " FROM locked, unnest(%(ids)s::bigint[], %(providers)s::text[]) AS given(id, provider_id)"
    " WHERE r.id = given.id AND r.status = 'sending' AND r.claim = %(claim)s AND r.customer_id = ANY(locked.ids)"
    " RETURNING r.customer_id),"
    " contacted AS (UPDATE audiences_customer c SET last_contacted_at = %(now)s"
    " WHERE c.id IN (SELECT customer_id FROM settled))"
    " SELECT count(*) FROM settled"
)
# How often it is run at most: again only for records that a merge moved, or that are no longer this claim's.
MOST_RUNS = 3


def settle_surely(batch: Batch, outcome: Outcome, *, clock: Clock) -> None:
    """Settle, and where the database is lost wait for it until the lease is over: what left is not forgotten."""
    while True:
        try:
            settle(batch, outcome, at=clock())
        except LOST:
            if connection.in_atomic_block or clock() >= batch.until:
                raise
            # Lost, or this transaction was cancelled to resolve a deadlock.
            log.warning("a batch could not be settled; trying again", exc_info=True)
            # One that works holds the lock of the batch, which a pool would hand on with it.
            if not connection.is_usable():
                connection.close()
            time.sleep(A_MOMENT)
        else:
            return


def settle(batch: Batch, outcome: Outcome, *, at: datetime) -> None:
    """Write down how a batch went; only what is still this claim's, so a worker thought dead settles nothing."""
    mine = DeliveryRecord.objects.filter(claim=batch.claim)
    # A batch that went as it should is settled in one statement, which needs no transaction around it.
    went_well = len(outcome.sent) == len(batch.records) and not outcome.given
    with nullcontext() if went_well else transaction.atomic(), prepared() as cursor:
        no_mailbox = [pk for pk, reason, _ in outcome.failed if reason == Reason.BOUNCED]
        if no_mailbox:
            # All at once, so that they are locked in order.
            locks.lock_customers_of(DeliveryRecord.objects.filter(pk__in=[record.pk for record in batch.records]))
        if outcome.sent:
            settle_sent(cursor, outcome.sent, claim=batch.claim, at=at)
        if outcome.given:
            push_fanout.keep(outcome.given, at=at)
        for pk, reason, words in outcome.failed:
            mine.filter(pk=pk).mark_failed(reason=reason, detail=words)
        for pk, again_at, words in outcome.retry:
            mine.filter(pk=pk).put_back(reason=Reason.RETRY, due_at=again_at, detail=words)
        for pk, words in outcome.uncertain:
            mine.filter(pk=pk).mark_uncertain(reason=Reason.LOST_TOUCH, detail=words)
        if outcome.not_begun:
            why = outcome.down or outcome.trouble
            mine.filter(pk__in=outcome.not_begun).not_begun(due_at=at + DOWN_FOR if why else None, detail=why)
        wrote_to = {record.pk: next(iter(record.to), "") for record in batch.records}
        for bounced in DeliveryRecord.objects.filter(pk__in=no_mailbox, reason=Reason.BOUNCED).order_by("customer_id"):
            suppression.hard(bounced, address=wrote_to[bounced.pk], at=at)
    if outcome.dead:
        Device.objects.retire(outcome.dead, at=at)


def settle_sent(cursor: psycopg.Cursor[Any], sent: Mapping[int, str], *, claim: uuid.UUID, at: datetime) -> None:
    """Settle what was sent: records and the provider's names for them."""
    params: dict[str, Any] = {"now": at, "claim": claim, "ids": list(sent), "providers": list(sent.values())}
    left = len(sent)
    for _ in range(MOST_RUNS):
        cursor.execute(SETTLE_SENT, params, prepare=True)
        left -= sum(count for (count,) in cursor)
        if not left:
            return


# What the dead leave


def take_over_from_dead(*, at: datetime) -> int:
    """Settle the batches of this machine's dead workers by their own notes; returns how many copies are in doubt."""
    in_doubt = 0
    for landed in journal.landed():
        try:
            in_doubt += settle_landed(landed, at=at)
        except LOST:
            raise
        except Exception:
            # It is let go of, and its copies become uncertain with their lease; others' notes are not kept from us.
            log.exception("what was noted of claim %s cannot be settled", landed.claim)
    return in_doubt


@retried
def settle_landed(landed: Landed, *, at: datetime) -> int:
    """Settle one batch by the notes of its dead worker; returns how many copies are in doubt."""
    mine = DeliveryRecord.objects.filter(claim=landed.claim)
    # All of a batch were taken in hand at one moment; what went out, went out then.
    went_at = mine.values_list("taken_at", flat=True).first() or at
    with prepared() as cursor:
        settle_sent(cursor, landed.taken, claim=landed.claim, at=went_at)
        in_doubt = mine.filter(pk__in=landed.in_doubt).mark_uncertain(
            reason=Reason.WORKER_DIED, detail="It ended while it handed this copy over."
        )
        mine.not_begun(due_at=None, detail="")
    return in_doubt


@retried
def give_up_abandoned(*, at: datetime) -> int:
    """Call uncertain what a worker took in hand and never settled; returns how many."""
    # Nobody is waited for: a record in other hands is being settled, or comes next time.
    free = DeliveryRecord.objects.abandoned(at).select_for_update(no_key=True, skip_locked=True)
    return DeliveryRecord.objects.filter(pk__in=free.values("pk")).mark_uncertain(
        reason=Reason.WORKER_DIED, detail=f"Taken in hand more than {LEASE.seconds // 60} minutes ago and not settled."
    )
