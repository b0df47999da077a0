"""What comes back about a record: so far, that its customer unsubscribed. Opens, clicks and bounces come later."""

from datetime import datetime

from django.core.signing import BadSignature, Signer
from django.db import transaction

from audiences.announcing import announce_about
from audiences.models import Customer
from delivery.models import DeliveryRecord


def record_of(token: str, *, purpose: str) -> DeliveryRecord | None:
    """The record a signed token speaks of; None for a token that is not ours. Tokens never expire."""
    try:
        pk = Signer(salt=purpose).unsign(token)
    except BadSignature:
        return None
    return DeliveryRecord.objects.select_related("customer", "message").filter(pk=pk).first()


def unsubscribe(record: DeliveryRecord, *, at: datetime) -> None:
    """Take a customer off all email by their own hand, which no sync undoes (DESIGN 4.11); again is no harm."""
    with transaction.atomic():
        DeliveryRecord.objects.filter(pk=record.pk, unsubscribed_at=None).update(unsubscribed_at=at)
        customers = Customer.objects.filter(pk=record.customer_id)
        is_new = customers.filter(unsubscribed_from_emails=False).exists()
        customers.update(unsubscribed_from_emails=True, unsubscribed_by_customer_at=at, updated_at=at)
        if is_new:
            announce_about(record.customer, "unsubscribed", at=at)
