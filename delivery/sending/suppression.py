"""Suppression: a hard bounce marks the record, and the customer receives no more email at that address."""

from datetime import datetime

from django.db.models import Q

from audiences.intake.identity_resolution import is_same_address
from audiences.models import Customer
from audiences.transactions import retried
from delivery import locks
from delivery.models import DeliveryRecord


@retried
def record_hard_bounce(record: DeliveryRecord, *, address: str, at: datetime) -> bool:
    """Record that a copy bounced because its mailbox does not exist. Return False if that is known.

    The bounce is about an address: a customer with another address by now is not suppressed, and neither is one whose
    server forwards to an address that does not exist. A repeated report has the same moment, so it does not undo a flag
    that staff have cleared meanwhile.
    """
    is_news = Q(bounced_at=None) | Q(bounced_at__lt=at)
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    locks.lock_customers_of(rows)
    if not rows.filter(is_news).update(bounced_at=at):
        return False
    record = rows.get()
    if not (record.address and address) or is_same_address(record.address, address):
        flag_hard_bounce(record.customer_id, address=record.address or address, at=at)
    return True


def flag_hard_bounce(customer_id: int, *, address: str, at: datetime) -> None:
    """Suppress email to a customer as long as this is their address; "" if the address is unknown."""
    found = Customer.objects.filter(pk=customer_id, has_hard_bounced=False)
    if address and not is_same_address(found.values_list("email", flat=True).first() or "", address):
        return
    found.update(has_hard_bounced=True, updated_at=at)
