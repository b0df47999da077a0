"""Records in a later status, put there by the statements of the engine."""

from datetime import datetime
from uuid import uuid4

from django.db.models import QuerySet

from audiences.transactions import prepared
from delivery.models import DeliveryRecord, Status
from delivery.sending.settle import settle_sent


def mark_records_sent(records: QuerySet[DeliveryRecord], *, at: datetime) -> None:
    """Send records that wait or are claimed: claim those that wait, and settle all as a batch does."""
    keys = list(records.values_list("pk", flat=True))
    records = DeliveryRecord.objects.filter(pk__in=keys)
    records.mark_sending(claim=uuid4(), until=at)
    claimed = records.filter(status=Status.SENDING, claim__isnull=False).values_list("pk", "claim")
    sent = [(key, "", claim) for key, claim in claimed if claim is not None]
    with prepared() as cursor:
        settle_sent(cursor, sent, at=at)
