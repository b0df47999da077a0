"""Hand over: claim, commit, then touch the world, then settle (DESIGN 5).

A batch is at most IN_FLIGHT records of one message. `sending` is committed before the first byte leaves; what was
handed over is settled together in one UPDATE. A worker that dies leaves at most its batch in doubt.
"""

import logging
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, transaction
from psycopg.types.json import Jsonb

from audiences.models import Workspace
from delivery import copies, judging, locks
from delivery.channels import CHANNELS, Channel, ChannelDown, Envelope, Rejected, Unavailable
from delivery.models import DeliveryRecord, Reason, Status
from messaging import content, windows
from messaging.models import RUNNING, Message, SendType, WindowZone
from messaging.models import Channel as Name

log = logging.getLogger(__name__)

# How long a worker is believed to be alive with a batch in hand.
LEASE = timedelta(minutes=5)
# How long to wait before each further try; after the last one the record fails.
BACK_OFF = [timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 720)]
DOWN_FOR = timedelta(minutes=1)
PEOPLE = (
    *("name", "email", "user_id", "phone", "country", "city", "timezone", "language", "browser", "os"),
    *("session_count", "signed_up_at", "first_seen_at", "last_seen_at", "last_contacted_at", "last_heard_from_at"),
    "attributes",
)
COMPANIES = (
    *("name", "company_id", "plan", "size", "industry", "website", "monthly_spend"),
    *("remote_created_at", "last_seen_at", "attributes"),
)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Claimed:
    """One record in hand: who it goes to, and the values its text is filled with."""

    pk: int
    attempts: int
    to: tuple[str, ...]
    filled: dict[str, object]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one claim brought: records in hand, and how many were found that cannot go now."""

    message: Message
    copy: copies.Copy | None
    claim: uuid.UUID
    records: list[Claimed]
    passed_over: int = 0

    def __bool__(self) -> bool:
        return bool(self.records or self.passed_over)


@dataclass(slots=True)
class Outcome:
    """How a batch went, by record."""

    sent: dict[int, str] = field(default_factory=dict)
    failed: list[tuple[int, Reason, str]] = field(default_factory=list)
    retry: list[tuple[int, datetime, str]] = field(default_factory=list)
    not_begun: list[int] = field(default_factory=list)
    uncertain: list[tuple[int, str]] = field(default_factory=list)
    # Why nothing more can be handed over by this channel right now; empty while it works.
    down: str = ""


OPEN: dict[Name, Channel] = {}


def channel_of(name: Name) -> Channel:
    """Return this process's channel of that name, kept open across batches."""
    if name not in OPEN:
        OPEN[name] = CHANNELS[name]()
    return OPEN[name]


def close_channels() -> None:
    """Close what this process keeps open."""
    while OPEN:
        OPEN.popitem()[1].close()


def messages_due(*, at: datetime) -> list[Message]:
    """The live messages with something to hand over now, those to one person first: PostgreSQL puts nulls last."""
    due = DeliveryRecord.objects.due(at).values("message")
    rows = Message.objects.live().exclude(channel=Name.IN_APP).filter(pk__in=due)
    return list(rows.select_related("version", "sender", "audience").order_by("to_customer", "pk"))


def send_batch(message: Message, *, clock: Clock) -> Batch | None:
    """Claim a batch of one message, hand it over and settle it; None once its channel takes nothing more.

    Whoever pauses the message waits for the batch, and none is claimed meanwhile.
    """
    with locks.batch_in_hand(message) as may_begin:
        return carry_out(message, clock=clock) if may_begin else Batch(message, None, uuid.uuid4(), [])


def carry_out(message: Message, *, clock: Clock) -> Batch | None:
    """Do a batch, from claim to settle."""
    batch = claim(message, at=clock())
    if batch.records:
        outcome = Outcome()
        try:
            envelopes = list(finished(batch, outcome))
        except Exception:
            # Nothing has left yet: none of them may be taken for uncertain.
            fault = Outcome(not_begun=[record.pk for record in batch.records], down="A copy could not be finished.")
            settle(batch, fault, at=clock())
            raise
        hand_over(batch, envelopes, outcome, clock=clock)
        settle(batch, outcome, at=clock())
        if outcome.down:
            log.warning("channel %s is down: %s", message.channel, outcome.down)
            return None
    return batch


# Claim

FACTS = ", ".join(f"c.{name}" for name in PEOPLE) + ", " + ", ".join(f"k.{name}" for name in COMPANIES)
DEVICES = (
    "(SELECT array_agg(v.token ORDER BY v.id) FROM audiences_device v"
    " WHERE v.customer_id = c.id AND v.retired_at IS NULL)"
)
ADDRESS = {Name.EMAIL: "array[c.email]", Name.PUSH: DEVICES}
MARK_SENDING = (
    "UPDATE delivery_deliveryrecord r SET status = 'sending', reason = '', detail = '', attempts = r.attempts + 1,"
    " claim = %(claim)s, leased_until = %(until)s, version_id = %(version)s, filled = given.filled"
    " FROM unnest(%(ids)s::bigint[], %(filled)s::jsonb[]) AS given(id, filled) WHERE r.id = given.id"
)


def claim(message: Message, *, at: datetime) -> Batch:
    """Take up to IN_FLIGHT due records in hand, committed as sending; what cannot go now is settled in passing.

    The message's row is share-locked until the commit, so whoever pauses it waits that long and no longer.
    """
    held = ""
    if message.send_type == SendType.ONGOING:
        # What waits for the window or was held by a pause is judged again before it may go.
        held = " AND r.reason <> 'window' AND (m.rejudge_before IS NULL OR r.matched_at >= m.rejudge_before)"
    sql = (
        f"SELECT r.id, r.attempts, m.version_id, {judging.blocked(message)}, {ADDRESS[Name(message.channel)]}, {FACTS},"
        " r.company_id"
        " FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
        " JOIN audiences_customer c ON c.id = r.customer_id LEFT JOIN audiences_company k ON k.id = r.company_id"
        f" WHERE r.message_id = %(message)s AND r.status = '{Status.WAITING}' AND r.due_at <= %(now)s"
        f" AND m.state = ANY(%(running)s){held} ORDER BY r.due_at, r.id LIMIT %(limit)s"
        " FOR UPDATE OF r SKIP LOCKED FOR SHARE OF m SKIP LOCKED"
    )
    token = uuid.uuid4()
    params = {"message": message.pk, "now": at, "running": list(RUNNING), "limit": settings.IN_FLIGHT}
    with transaction.atomic(), prepared() as cursor:
        cursor.execute(sql, params, prepare=True)
        rows = cursor.fetchall()
        if not rows:
            return Batch(message, None, token, [])
        version_id = rows[0][2]
        if message.version is None or message.version_id != version_id:
            message.version = message.versions.get(pk=version_id)
        copy = copies.copy_of(message.version, channel=message.channel)
        taken, passed_over = [], 0
        for pk, attempts, _version, blocked, to, *facts, company_id in rows:
            person = dict(zip(PEOPLE, facts[: len(PEOPLE)], strict=True))
            company = dict(zip(COMPANIES, facts[len(PEOPLE) :], strict=True)) if company_id else None
            if blocked:
                give_up_on(message, pk, reason=Reason(blocked))
                passed_over += 1
            elif (opening := next_opening(message, person["timezone"], at=at)) > at:
                DeliveryRecord.objects.filter(pk=pk).update(reason=Reason.WINDOW, due_at=opening)
                passed_over += 1
            else:
                filled = copies.fill(copy.names, customer=person, company=company)
                taken.append(Claimed(pk, attempts + 1, tuple(to), filled))
        if taken:
            cursor.execute(
                MARK_SENDING,
                {
                    "claim": token,
                    "until": at + LEASE,
                    "version": version_id,
                    "ids": [record.pk for record in taken],
                    "filled": [Jsonb(record.filled) for record in taken],
                },
                prepare=True,
            )
    return Batch(message, copy, token, taken, passed_over)


def give_up_on(message: Message, pk: int, *, reason: Reason) -> None:
    """Settle a record whose customer cannot be reached: for good, unless the message goes on matching them."""
    record = DeliveryRecord.objects.filter(pk=pk)
    if message.send_type == SendType.ONGOING:
        record.withdraw(reason=reason)
    else:
        record.skip(reason=reason)


def next_opening(message: Message, zone_name: str, *, at: datetime) -> datetime:
    """When the message may go to a customer of that zone; `at` where it may now."""
    if not message.window:
        return at
    zone = Workspace.current().tz
    if message.window_zone == WindowZone.CUSTOMER:
        zone = windows.zone(zone_name, zone)
    return windows.next_opening(message.parsed_window, at, zone)


# Touch the world


def hand_over(batch: Batch, envelopes: list[tuple[Claimed, Envelope]], outcome: Outcome, *, clock: Clock) -> None:
    """Hand each copy of a batch to its channel, and note what is known of each."""
    channel = channel_of(Name(batch.message.channel))
    for record, envelope in envelopes:
        if outcome.down:
            outcome.not_begun.append(record.pk)
            continue
        try:
            outcome.sent[record.pk] = channel.send(envelope)
        except Rejected as reason:
            outcome.failed.append((record.pk, Reason.REJECTED, str(reason)))
        except ChannelDown as reason:
            outcome.down = str(reason)
            outcome.not_begun.append(record.pk)
        except Unavailable as reason:
            if record.attempts > len(BACK_OFF):
                outcome.failed.append((record.pk, Reason.GAVE_UP, str(reason)))
            else:
                outcome.retry.append((record.pk, back_off(record, at=clock()), str(reason)))
        except Exception as reason:
            log.warning("record %s is uncertain", record.pk, exc_info=True)
            outcome.uncertain.append((record.pk, f"{type(reason).__name__}: {reason}"))


def finished(batch: Batch, outcome: Outcome) -> Iterator[tuple[Claimed, Envelope]]:
    """Finish the copies of a batch; one whose text cannot be filled in fails with the reason."""
    sender = batch.message.sender
    assert batch.copy is not None and sender is not None  # noqa: S101, PT018 - going live has asked for both
    for record in batch.records:
        try:
            rendered = batch.copy.render(record.filled, record_id=record.pk)
        except content.ContentError as reason:
            outcome.failed.append((record.pk, Reason.CONTENT, str(reason)))
        else:
            yield record, copies.envelope(batch.message, sender, rendered, record_id=record.pk, to=record.to)


def back_off(record: Claimed, *, at: datetime) -> datetime:
    """When to try again: later each time, and not everybody at once."""
    wait = BACK_OFF[min(record.attempts, len(BACK_OFF)) - 1]
    return at + wait * random.Random(f"{record.pk}.{record.attempts}").uniform(1, 1.25)  # noqa: S311 - jitter


# Settle

SETTLE_SENT = (
    "WITH settled AS (UPDATE delivery_deliveryrecord r SET status = 'sent', sent_at = %(now)s, reason = '',"
    " claim = NULL, leased_until = NULL, due_at = NULL, provider_id = given.provider_id"
    " FROM unnest(%(ids)s::bigint[], %(providers)s::text[]) AS given(id, provider_id)"
    " WHERE r.id = given.id AND r.status = 'sending' AND r.claim = %(claim)s RETURNING r.customer_id),"
    " people AS MATERIALIZED (SELECT c.id FROM audiences_customer c WHERE c.id IN (SELECT customer_id FROM settled)"
    " ORDER BY c.id FOR NO KEY UPDATE)"
    " UPDATE audiences_customer c SET last_contacted_at = %(now)s FROM people WHERE c.id = people.id"
)


def settle(batch: Batch, outcome: Outcome, *, at: datetime) -> None:
    """Write down how a batch went; only what is still this claim's, so a worker thought dead settles nothing."""
    mine = DeliveryRecord.objects.filter(claim=batch.claim)
    # A batch that went as it should is settled in one statement, which needs no transaction around it.
    went_well = len(outcome.sent) == len(batch.records)
    with nullcontext() if went_well else transaction.atomic(), prepared() as cursor:
        if outcome.sent:
            params: dict[str, Any] = {
                "now": at,
                "claim": batch.claim,
                "ids": list(outcome.sent),
                "providers": list(outcome.sent.values()),
            }
            cursor.execute(SETTLE_SENT, params, prepare=True)
        for pk, reason, words in outcome.failed:
            mine.filter(pk=pk).mark_failed(reason=reason, detail=words)
        for pk, due_at, words in outcome.retry:
            mine.filter(pk=pk).put_back(reason=Reason.RETRY, due_at=due_at, detail=words)
        for pk, words in outcome.uncertain:
            mine.filter(pk=pk).mark_uncertain(reason=Reason.LOST_TOUCH, detail=words)
        if outcome.not_begun:
            mine.filter(pk__in=outcome.not_begun).not_begun(due_at=at + DOWN_FOR, detail=outcome.down)


@contextmanager
def prepared() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor of the driver itself, which can prepare; in the transaction Django has open, with Django's errors."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        yield cursor


def give_up_abandoned(*, at: datetime) -> int:
    """Call uncertain what a worker took in hand and never settled; returns how many."""
    return DeliveryRecord.objects.abandoned(at).mark_uncertain(
        reason=Reason.WORKER_DIED, detail=f"Taken in hand more than {LEASE.seconds // 60} minutes ago and not settled."
    )
