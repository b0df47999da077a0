"""Settlement: write the outcome of a batch, and recover batches of dead workers."""

import logging
import time
from contextlib import nullcontext
from datetime import datetime

from django.db import connection, transaction

from audiences.models import Device
from audiences.transactions import retried
from delivery import locks
from delivery.models import DeliveryRecord, Reason
from delivery.sending import batch as sending_batch
from delivery.sending import journal, push_fanout, suppression
from delivery.sending import outcome as sending_outcome
from delivery.sending.claim import LEASE, Batch, prepared
from delivery.sending.journal import AbandonedBatch
from delivery.sending.outcome import Outcome

log = logging.getLogger(__name__)


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


def settle_with_retry(batch: Batch, outcome: Outcome, *, clock: sending_outcome.Clock) -> None:
    """Settle, and where the database is lost wait for it until the lease is over: what left is not forgotten."""
    while True:
        try:
            settle_batch(batch, outcome, at=clock())
        except sending_outcome.DATABASE_LOST:
            if connection.in_atomic_block or clock() >= batch.until:
                raise
            # Lost, or this transaction was cancelled to resolve a deadlock.
            log.warning("a batch could not be settled; trying again", exc_info=True)
            # One that works holds the lock of the batch, which a pool would hand on with it.
            if not connection.is_usable():
                connection.close()
            time.sleep(sending_outcome.DATABASE_RETRY_PAUSE)
        else:
            return


def settle_batch(batch: Batch, outcome: Outcome, *, at: datetime) -> None:
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
            sending_batch.settle_sent(cursor, outcome.sent, claim=batch.claim, at=at)
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


def recover_from_journals(*, at: datetime) -> int:
    """Settle the batches of this machine's dead workers by their own notes; returns how many copies are in doubt."""
    in_doubt = 0
    for landed in journal.abandoned_batches():
        try:
            in_doubt += settle_abandoned_batch(landed, at=at)
        except sending_outcome.DATABASE_LOST:
            raise
        except Exception:
            # It is let go of, and its copies become uncertain with their lease; others' notes are not kept from us.
            log.exception("what was noted of claim %s cannot be settled", landed.claim)
    return in_doubt


@retried
def settle_abandoned_batch(landed: AbandonedBatch, *, at: datetime) -> int:
    """Settle one batch by the notes of its dead worker; returns how many copies are in doubt."""
    mine = DeliveryRecord.objects.filter(claim=landed.claim)
    # All of a batch were taken in hand at one moment; what went out, went out then.
    went_at = mine.values_list("taken_at", flat=True).first() or at
    with prepared() as cursor:
        sending_batch.settle_sent(cursor, landed.taken, claim=landed.claim, at=went_at)
        in_doubt = mine.filter(pk__in=landed.in_doubt).mark_uncertain(
            reason=Reason.WORKER_DIED, detail="It ended while it handed this copy over."
        )
        mine.put_back_unsent(due_at=None, detail="")
    return in_doubt


@retried
def expire_leases(*, at: datetime) -> int:
    """Call uncertain what a worker took in hand and never settled; returns how many."""
    # Nobody is waited for: a record in other hands is being settled, or comes next time.
    free = DeliveryRecord.objects.abandoned(at).select_for_update(no_key=True, skip_locked=True)
    return DeliveryRecord.objects.filter(pk__in=free.values("pk")).mark_uncertain(
        reason=Reason.WORKER_DIED, detail=f"Taken in hand more than {LEASE.seconds // 60} minutes ago and not settled."
    )
