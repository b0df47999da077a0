"""What customers do with the in-app messages they are shown: opened, dismissed, clicked, each the first time only."""

from datetime import datetime

from django.db import transaction

from delivery.models import Conversation, DeliveryRecord


def opened(record: DeliveryRecord, *, at: datetime) -> None:
    """Note that the customer saw it whole; its conversation is read."""
    with transaction.atomic():
        # The conversation first, as a reply does: the two are asked for at once.
        Conversation.objects.filter(record=record, parts=None).update(read=True)
        DeliveryRecord.objects.filter(pk=record.pk, opened_at=None).update(opened_at=at)


def dismissed(record: DeliveryRecord, *, at: datetime) -> None:
    """Note that the customer closed it; a chat not opened stays unread in their list."""
    DeliveryRecord.objects.filter(pk=record.pk, dismissed_at=None).update(dismissed_at=at)


def clicked(record: DeliveryRecord, *, at: datetime) -> None:
    """Note that the customer followed a link in it, which is to have opened it."""
    opened(record, at=at)
    DeliveryRecord.objects.filter(pk=record.pk, clicked_at=None).update(clicked_at=at)
