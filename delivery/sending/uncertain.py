"""Uncertain records: settled by staff, who may ask the customer, or by a provider's proof; never automatically.

The caller logs who settled how many. A proof may come twice, late, or before it is needed.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce

from audiences.models import Customer
from audiences.transactions import retried
from delivery import locks, rendering
from delivery.models import DeliveryRecord, DeviceCopy, Reason, Status
from messaging.models import RUNNING, Channel, State

# States of a message whose copies may be sent again.
MAY_GO_AGAIN = (*RUNNING, State.PAUSED)
IN_DOUBT = (Status.UNCERTAIN, Status.SENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Facts that staff can look up in the log of a provider or mail server."""

    to: str
    message_id: str
    provider_id: str
    taken_at: datetime | None
    tries: int
    why: str


class Proof(StrEnum):
    """A provider's statement about a copy."""

    TAKEN = "taken"
    BOUNCED = "bounced"
    REFUSED = "refused"


def evidence_of(record: DeliveryRecord) -> Evidence:
    """Return what staff can look up about an uncertain record."""
    is_email = record.message.channel == Channel.EMAIL
    return Evidence(
        to=record.address or (record.customer.email or "" if is_email else ""),
        message_id=rendering.message_id(record.pk) if is_email else "",
        provider_id=record.provider_id,
        taken_at=record.taken_at,
        tries=record.attempts,
        why=record.why,
    )


def mark_as_sent(records: QuerySet[DeliveryRecord], *, at: datetime) -> list[int]:
    """Mark uncertain records as sent at the moment of their claim. Return their keys."""
    return mark_records_sent(records.filter(status=Status.UNCERTAIN), at=at)


@retried
def send_again(records: QuerySet[DeliveryRecord], *, at: datetime) -> list[int]:
    """Put uncertain records back in the queue, except those of messages that have ended. Return their keys."""
    found = records.filter(status=Status.UNCERTAIN, message__state__in=MAY_GO_AGAIN)
    pks = list(found.select_for_update(no_key=True, of=("self",)).order_by("pk").values_list("pk", flat=True))
    DeviceCopy.objects.filter(record__in=pks, taken=False).delete()
    DeliveryRecord.objects.filter(pk__in=pks).update(
        status=Status.WAITING, reason=Reason.QUEUED, detail="", due_at=at, claim=None, address=None, attempts=0
    )
    return pks


@retried
def settle_by_proof(
    record: DeliveryRecord, *, proof: Proof, at: datetime, provider_id: str = "", words: str = ""
) -> bool:
    """Settle a record that is uncertain, or claimed by a worker that may be dead. False if it is settled already.

    A bounce proves that the copy was accepted, so the record is sent and bounced. A settled record keeps its status and
    only records the bounce: proofs come in any order.
    """
    one = DeliveryRecord.objects.filter(pk=record.pk)
    locks.lock_customers_of(one)
    # Until the lease expires the worker may settle it too, and then finds it settled.
    open_ = list(one.filter(status__in=IN_DOUBT).select_for_update(no_key=True).values_list("pk", flat=True))
    if open_ and proof is Proof.REFUSED:
        one.update(
            status=Status.FAILED, reason=Reason.REJECTED, detail=words, claim=None, leased_until=None, due_at=None
        )
    elif open_:
        mark_records_sent(one.filter(status__in=IN_DOUBT), at=at)
    if provider_id:
        one.filter(provider_id="").update(provider_id=provider_id)
    if proof is Proof.BOUNCED:
        one.filter(status=Status.SENT, bounced_at=None).update(bounced_at=at)
    return bool(open_)


@retried
def mark_records_sent(records: QuerySet[DeliveryRecord], *, at: datetime) -> list[int]:
    """Mark records as sent at the moment of their claim, and their customers as contacted then."""
    chosen = DeliveryRecord.objects.filter(pk__in=list(records.values_list("pk", flat=True)))
    locks.lock_customers_of(chosen)
    open_ = records.filter(pk__in=chosen).select_for_update(no_key=True, of=("self",)).order_by("pk")
    rows = list(open_.values_list("pk", "customer_id", "taken_at"))
    DeliveryRecord.objects.filter(pk__in=[pk for pk, _, _ in rows]).update(
        status=Status.SENT,
        sent_at=Coalesce(F("taken_at"), at),
        reason=Reason.NONE,
        detail="",
        claim=None,
        leased_until=None,
        due_at=None,
    )
    people = Customer.objects.filter(pk__in={customer for _, customer, _ in rows})
    for pk in people.values_list("pk", flat=True):
        when = max(taken_at or at for _, customer, taken_at in rows if customer == pk)
        people.filter(pk=pk).exclude(last_contacted_at__gte=when).update(last_contacted_at=when)
    return [pk for pk, _, _ in rows]
