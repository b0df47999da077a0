"""Settlement: write the outcome of a batch, and recover batches of dead workers."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection, transaction
from psycopg.types.json import Jsonb

from audiences.models import Device
from audiences.transactions import prepared, retried
from delivery import locks
from delivery.models import DeliveryRecord, Reason
from delivery.sending import journal, push_fanout, suppression
from delivery.sending import outcome as sending_outcome
from delivery.sending.claim import LEASE, Batch
from delivery.sending.journal import AbandonedBatch
from delivery.sending.outcome import Outcome

log = logging.getLogger(__name__)


# How often SETTLE_SENT runs at most: again only for records that a merge moved, or that lost their claim.
SETTLE_MAX_RUNS = 3
# Customers are locked before records, as everywhere: `locked` reads `people` to the end first.
# A record that a merge moved to another customer meanwhile is left to the next run of the statement.
SETTLE_SENT = (
    "WITH people AS MATERIALIZED (SELECT c.id FROM audiences_customer c WHERE c.id IN"
    " (SELECT r.customer_id FROM delivery_deliveryrecord r WHERE r.id = ANY(%(ids)s::bigint[]))"
    " ORDER BY c.id FOR NO KEY UPDATE),"
    " locked AS MATERIALIZED (SELECT array_agg(id) AS ids FROM people),"
    " settled AS (UPDATE delivery_deliveryrecord r SET status = 'sent', sent_at = %(now)s, reason = '',"
    " claim = NULL, leased_until = NULL, due_at = NULL, provider_id = given.provider_id"
    " FROM locked,"
    " jsonb_to_recordset(%(given)s) AS given(id bigint, provider_id text, claim uuid)"
    " WHERE r.id = given.id AND r.status = 'sending' AND r.claim = given.claim AND r.customer_id = ANY(locked.ids)"
    " RETURNING r.customer_id),"
    " contacted AS (UPDATE audiences_customer c SET last_contacted_at = %(now)s"
    " WHERE c.id IN (SELECT customer_id FROM settled))"
    " SELECT count(*) FROM settled"
)


# A record that was sent, the provider's id for it, and its claim.
Sent = tuple[int, str, UUID]
# Results of a batch that are not settled yet.
Part = tuple[Batch, Outcome]


def settle_sent(cursor: psycopg.Cursor[Any], sent: Sequence[Sent], *, at: datetime) -> None:
    """Mark records as sent that still have these claims."""
    # One document instead of arrays, which are written value by value.
    given = Jsonb([{"id": pk, "provider_id": provider_id, "claim": str(claim)} for pk, provider_id, claim in sent])
    params: dict[str, Any] = {"now": at, "given": given, "ids": f"{{{','.join(str(pk) for pk, *_ in sent)}}}"}
    left = len(sent)
    for _ in range(SETTLE_MAX_RUNS):
        cursor.execute(SETTLE_SENT, params, prepare=True)
        left -= sum(count for (count,) in cursor)
        if not left:
            return


def settle_with_retry(
    parts: Sequence[Part], *, clock: sending_outcome.Clock, on_lost: Callable[[], object] = lambda: None
) -> None:
    """Settle results. If the database is lost, call `on_lost` and retry until the first lease ends.

    So copies that were sent are recorded, and none begins meanwhile.
    """
    until = min(batch.until for batch, _ in parts)
    while True:
        try:
            settle_batches(parts, at=clock())
        except sending_outcome.DATABASE_LOST:
            if connection.in_atomic_block or clock() >= until:
                raise
            # The connection was lost, or this transaction was cancelled to resolve a deadlock.
            log.warning("a batch could not be settled; trying again", exc_info=True)
            on_lost()
            # A usable connection holds the batch's lock; a pool would hand it on with the lock.
            if not connection.is_usable():
                connection.close()
            time.sleep(sending_outcome.DATABASE_RETRY_PAUSE)
        else:
            return


def settle_batches(parts: Sequence[Part], *, at: datetime) -> None:
    """Write results of batches. All that were only sent are settled in one statement, which needs no transaction."""
    went_well = [(batch, outcome) for batch, outcome in parts if outcome.is_only_sent]
    if went_well:
        sent = [(pk, name, batch.claim) for batch, outcome in went_well for pk, name in outcome.sent.items()]
        with prepared() as cursor:
            settle_sent(cursor, sent, at=at)
    for batch, outcome in parts:
        if not outcome.is_only_sent:
            settle_batch(batch, outcome, at=at)


def settle_batch(batch: Batch, outcome: Outcome, *, at: datetime) -> None:
    """Write results of one batch. Only records of this claim change, so a worker whose lease expired changes none."""
    mine = DeliveryRecord.objects.filter(claim=batch.claim)
    with transaction.atomic(), prepared() as cursor:
        no_mailbox = [pk for pk, reason, _ in outcome.failed if reason == Reason.BOUNCED]
        if no_mailbox:
            # All customers at once, so that they are locked in order.
            locks.lock_customers_of(DeliveryRecord.objects.filter(pk__in=[record.pk for record in batch.records]))
        if outcome.sent:
            settle_sent(cursor, [(pk, name, batch.claim) for pk, name in outcome.sent.items()], at=at)
        if outcome.given:
            push_fanout.store_device_results(outcome.given, at=at)
        for pk, reason, words in outcome.failed:
            mine.filter(pk=pk).mark_failed(reason=reason, detail=words)
        for pk, again_at, words in outcome.retry:
            mine.filter(pk=pk).put_back(reason=Reason.RETRY, due_at=again_at, detail=words)
        for pk, words in outcome.uncertain:
            mine.filter(pk=pk).mark_uncertain(reason=Reason.LOST_TOUCH, detail=words)
        if outcome.not_begun:
            why = outcome.down or outcome.message_trouble
            mine.filter(pk__in=outcome.not_begun).put_back_unsent(
                due_at=at + sending_outcome.OUTAGE_RETRY_AFTER if why else None, detail=why
            )
        wrote_to = {record.pk: next(iter(record.to), "") for record in batch.records}
        for bounced in DeliveryRecord.objects.filter(pk__in=no_mailbox, reason=Reason.BOUNCED).order_by("customer_id"):
            suppression.record_hard_bounce(bounced, address=wrote_to[bounced.pk], at=at)
    if outcome.dead:
        Device.objects.retire(outcome.dead, at=at)


def settle_abandoned_batches(*, at: datetime) -> None:
    """Settle the batches of dead workers. If that fails, log it and go on; the next run tries again."""
    try:
        recover_from_journals(at=at)
    except Exception:
        log.exception("the batches of dead workers cannot be settled")


def recover_from_journals(*, at: datetime) -> int:
    """Settle the batches of this machine's dead workers by their journals. Return how many copies are in doubt."""
    in_doubt = 0
    for abandoned in journal.abandoned_batches():
        try:
            in_doubt += settle_abandoned_batch(abandoned, at=at)
        except sending_outcome.DATABASE_LOST:
            raise
        except Exception:
            # Its copies become uncertain when their lease expires; the other journals are still read.
            log.exception("the journal of claim %s cannot be settled", abandoned.claim)
    return in_doubt


@retried
def settle_abandoned_batch(abandoned: AbandonedBatch, *, at: datetime) -> int:
    """Settle one batch by the journal of its dead worker. Return how many copies are in doubt."""
    mine = DeliveryRecord.objects.filter(claim=abandoned.claim)
    # All records of a batch were claimed at one moment, which counts as the moment of sending.
    went_at = mine.values_list("taken_at", flat=True).first() or at
    with prepared() as cursor:
        settle_sent(cursor, [(pk, name, abandoned.claim) for pk, name in abandoned.taken.items()], at=went_at)
        in_doubt = mine.filter(pk__in=abandoned.in_doubt).mark_uncertain(
            reason=Reason.WORKER_DIED, detail="It stopped while it sent this copy."
        )
        mine.put_back_unsent(due_at=None, detail="")
    return in_doubt


@retried
def expire_leases(*, at: datetime) -> int:
    """Mark claimed records as uncertain whose lease has expired. Return how many."""
    # Locked records are skipped: they are being settled, or follow next time.
    free = DeliveryRecord.objects.abandoned(at).select_for_update(no_key=True, skip_locked=True)
    return DeliveryRecord.objects.filter(pk__in=free.values("pk")).mark_uncertain(
        reason=Reason.WORKER_DIED, detail=f"Claimed more than {LEASE.seconds // 60} minutes ago and not settled."
    )
