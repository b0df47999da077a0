"""Records in a later status, put there by the statements of the engine."""

from collections import defaultdict
from datetime import datetime
from uuid import UUID, uuid4

from django.db.models import QuerySet

from delivery.models import DeliveryRecord, Status
from delivery.sending.claim import prepared
from delivery.sending.settle import settle_sent


def mark_records_sent(records: QuerySet[DeliveryRecord], *, at: datetime) -> None:
    """Send records that wait or are claimed: claim those that wait, and settle all as a batch does."""
    keys = list(records.values_list("pk", flat=True))
    records = DeliveryRecord.objects.filter(pk__in=keys)
    records.mark_sending(claim=uuid4(), until=at)
    claims: dict[UUID | None, list[int]] = defaultdict(list)
    for key, claim in records.filter(status=Status.SENDING).values_list("pk", "claim"):
        claims[claim].append(key)
    with prepared() as cursor:
        for claim, claimed in claims.items():
            assert claim is not None
            settle_sent(cursor, dict.fromkeys(claimed, ""), claim=claim, at=at)
