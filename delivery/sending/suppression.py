"""What a bounce means for who it was sent to: the record learns when, and a mailbox that is not there takes no more."""

from datetime import datetime

from django.db.models import Q

from audiences.intake.identity_resolution import lower_case
from audiences.models import Customer
from audiences.transactions import retried
from delivery import locks
from delivery.models import DeliveryRecord


@retried
def record_hard_bounce(record: DeliveryRecord, *, address: str, at: datetime) -> bool:
    """Note that nobody gets mail where a record went; False where that is no news.

    It is about an address: who has another one by now is not bounced. A report that comes again says the same moment,
    and does not undo what staff, who cleared the customer's flag meanwhile, know better.
    """
    is_news = Q(bounced_at=None) | Q(bounced_at__lt=at)
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    locks.lock_customers_of(rows)
    if not rows.filter(is_news).update(bounced_at=at):
        return False
    record = rows.get()
    flag_hard_bounce(record.customer_id, address=record.address or address, at=at)
    return True


def flag_hard_bounce(customer_id: int, *, address: str, at: datetime) -> None:
    """Send no more mail to a customer, as long as this is their address; "" where nobody knows what it was."""
    found = Customer.objects.filter(pk=customer_id, has_hard_bounced=False)
    if address:
        found = found.filter(email=lower_case(address.strip()))
    found.update(has_hard_bounced=True, updated_at=at)
