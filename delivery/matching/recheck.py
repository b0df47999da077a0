"""Recheck: evaluate waiting records again when the delivery window opens or a message is resumed."""

from datetime import datetime
from itertools import count

from django.db import connection, transaction
from django.db.models import Exists

from audiences.compiler import Condition
from audiences.rules import RuleError
from delivery.eligibility import conditions
from delivery.matching import sql
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import RUNNING, Channel, Message, State

# Records that are made due in one transaction, for which no other has to wait long.
DUE_SLICE = 5_000


def recheck_slice(message: Message, *, at: datetime) -> bool:
    """Recheck one slice of the records held by a pause, and one of those held by the window or the cap.

    Return False if the rules are no longer valid.
    """
    try:
        recheck_held(message, at=at, slices=1)
        recheck_due(message, at=at, slices=1)
    except RuleError as wrong:
        Message.objects.filter(pk=message.pk).update(problem=str(wrong))
        return False
    return True


def recheck_due(message: Message, *, at: datetime, slices: int | None = None) -> int:
    """Recheck due records that waited for the window or the cap. Return how many were withdrawn (behaviour 4.8)."""
    waited = f"r.reason IN ('{Reason.WINDOW}', '{Reason.CAP}') AND r.due_at <= %(now)s"
    return recheck_records(
        message,
        at=at,
        condition=conditions.condition_of(message, view=conditions.AS_MATCHED),
        among=waited,
        matched_at="r.matched_at",
        due="%(now)s",
        slices=slices,
    )


def recheck_held(message: Message, *, at: datetime, slices: int | None = None) -> int:
    """Recheck the records that a pause held, after the message was resumed. Return how many were withdrawn."""
    if message.recheck_before is None:
        return 0
    # The machine that resumed it may have a clock ahead of ours.
    matched_at = "greatest(%(now)s::timestamptz, %(held)s)"
    withdrawn = recheck_records(
        message,
        at=at,
        condition=conditions.condition_of(message, view=conditions.AS_HELD),
        among="r.matched_at < %(held)s",
        matched_at=matched_at,
        due=sql.DUE,
        slices=slices,
    )
    # Records that another worker is rechecking count as held, and so do those of a killed worker, which may wait again.
    # That worker, or a later one, clears the mark.
    held = message.records.filter(matched_at__lt=message.recheck_before)
    done = Message.objects.filter(pk=message.pk, recheck_before=message.recheck_before)
    for status in (Status.WAITING, Status.SENDING):
        done = done.exclude(Exists(held.filter(status=status)))
    done.update(recheck_before=None)
    return withdrawn


def recheck_records(
    message: Message,
    *,
    at: datetime,
    condition: Condition,
    among: str,
    matched_at: str,
    due: str,
    slices: int | None,
) -> int:
    """Requeue waiting records that still match and withdraw the others: all, or at most so many slices.

    A push that a device has stays in the queue, because it counts as sent whatever the other devices answer.
    """
    waiting = f"r.message_id = %(message)s::bigint AND r.status = '{Status.WAITING}' AND {among}"
    same_company = "r.company_id = k.id" if message.per_company else "TRUE"
    on_device = conditions.IS_ON_A_DEVICE if message.channel == Channel.PUSH else "FALSE"
    pairs = condition.pairs(
        per_company=message.per_company,
        joins=" JOIN slice r ON r.customer_id = c.id",
        where=f"{conditions.reachable_sql(message.channel, topic=message.topic_id)} AND {same_company}",
        columns=f", r.id AS record_id, {due} AS due_at, {conditions.KEPT_LAST_SEEN} AS last_seen",
    )
    unreachable = (
        f"(SELECT {conditions.unreachable_reason_sql(message)} FROM audiences_customer c WHERE c.id = r.customer_id)"
    )
    statement = (
        f"WITH slice AS MATERIALIZED (SELECT r.* FROM delivery_deliveryrecord r WHERE {waiting}"
        " ORDER BY r.due_at, r.id LIMIT %(slice)s FOR UPDATE SKIP LOCKED),"
        f" pairs AS MATERIALIZED ({pairs}),"
        f" judged AS (SELECT r.id, p.record_id IS NOT NULL OR {on_device} AS holds,"
        f" CASE WHEN p.record_id IS NULL AND {on_device} THEN r.due_at ELSE p.due_at END AS due_at,"
        " CASE WHEN p.record_id IS NULL THEN r.judged_last_seen_at ELSE p.last_seen END AS last_seen FROM slice r"
        " LEFT JOIN pairs p ON p.record_id = r.id)"
        " UPDATE delivery_deliveryrecord r SET"
        f" status = CASE WHEN holds THEN '{Status.WAITING}' ELSE '{Status.WITHDRAWN}' END,"
        f" reason = CASE WHEN NOT holds AND {conditions.has_left_sql()} THEN '{Reason.LEFT_COMPANY}'"
        f" WHEN NOT holds THEN coalesce({unreachable}, '{Reason.NO_LONGER_MATCHES}')"
        f" WHEN judged.due_at > %(now)s THEN '{Reason.WINDOW}' ELSE '{Reason.QUEUED}' END,"
        f" due_at = judged.due_at, matched_at = {matched_at},"
        " judged_last_seen_at = judged.last_seen FROM judged WHERE judged.id = r.id"
        " RETURNING holds"
    )
    params = {
        **condition.params,
        **sql.round_params(message, at=at),
        "slice": sql.SLICE,
        "held": message.recheck_before,
    }
    withdrawn = 0
    for _ in range(slices) if slices is not None else count():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, params)
            rows = cursor.fetchall()
        withdrawn += sum(not holds for (holds,) in rows)
        if len(rows) < sql.SLICE:
            break
    return withdrawn


def make_waiting_records_due(reason: Reason, *, at: datetime) -> int:
    """Make the records that wait for this reason due, after the settings have changed. Return how many.

    Commits in slices: do not call it within a transaction. Each record is looked at once, because a dispatcher may make
    it wait again meanwhile.
    """
    total = 0
    for message in Message.objects.filter(state__in=(*RUNNING, State.PAUSED)).order_by("pk"):
        waiting = message.records.filter(status=Status.WAITING, reason=reason, due_at__gt=at)
        keys = list(waiting.order_by("pk").values_list("pk", flat=True))
        for first in range(0, len(keys), DUE_SLICE):
            with transaction.atomic():
                found = waiting.filter(pk__in=keys[first : first + DUE_SLICE]).select_for_update(no_key=True)
                locked = list(found.order_by("pk").values_list("pk", flat=True))
                total += DeliveryRecord.objects.filter(pk__in=locked).update(due_at=at)
    return total
