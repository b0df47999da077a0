"""Suppression: a hard bounce marks the record, and the address gets no more email, whoever has it."""

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q

from audiences.intake.identity_resolution import is_same_address
from audiences.models import Customer, Suppression, SuppressionReason, SuppressionSource
from audiences.models.suppression import flag_is_set_sql, same_address_sql
from audiences.transactions import retried
from delivery import locks
from delivery.models import AnswerMail, DeliveryRecord


@retried
def record_hard_bounce(record: DeliveryRecord, *, address: str, at: datetime) -> bool:
    """Record that a copy bounced because its mailbox does not exist. Return False if that is known.

    The bounce is about an address: a customer with another address by now is not affected, and neither is one whose
    server forwards to an address that does not exist. A repeated report has the same moment, so it does not undo a flag
    that staff have cleared meanwhile.
    """
    is_news = Q(bounced_at=None) | Q(bounced_at__lt=at)
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    locks.lock_customers_of(rows)
    if not rows.filter(is_news).update(bounced_at=at, hard_bounced_at=at):
        return False
    suppress_bounced_recipient(rows.select_related("customer").get(), address=address, at=at)
    return True


def suppress_bounced_recipient(email: DeliveryRecord | AnswerMail, *, address: str, at: datetime) -> None:
    """Suppress the address that an email went to, if the report is about it; "" if the report does not name it.

    A report must not suppress an address to which the email did not go. If that was not stored, only a report that
    names the customer's confirmed address counts.
    """
    recipient = email.recipient_address
    if recipient and (is_same_address(recipient, address) if address else email.address):
        suppress_dead_mailbox(recipient, at=at)


@retried
def suppress_dead_mailbox(address: str, *, at: datetime) -> None:
    lock_customers_with_address(address)
    Suppression.objects.suppress(address, SuppressionReason.HARD_BOUNCE, source=SuppressionSource.SERVER, at=at)


def lock_customers_with_address(address: str) -> None:
    """Lock the customers whom an entry for this address changes, in the order in which others lock them."""
    Customer.objects.with_address(address).lock()


def repair_flags(*, at: datetime) -> int:
    """Set the flags of customers who got an address in the moment in which it was suppressed. Return how many."""
    with connection.cursor() as cursor:
        cursor.execute(REPAIR_FLAGS, {"since": at - timedelta(hours=1)})
        return int(cursor.rowcount)


# The update only starts the trigger that sets the flags.
REPAIR_FLAGS = f"""
UPDATE audiences_customer c SET email = c.email FROM audiences_suppression s
WHERE s.created_at >= %(since)s AND s.lifted_at IS NULL AND {same_address_sql("c.email", "s.address")}
    AND NOT {flag_is_set_sql("c")}
"""
