"""Conversations: what a customer and the team say to each other after a message reached them (DESIGN 3)."""

from collections.abc import Iterable
from datetime import datetime

from delivery.models import Conversation, DeliveryRecord


def begin(records: Iterable[DeliveryRecord], *, at: datetime) -> list[Conversation]:
    """Open the conversation each of these messages starts; it stays out of the inbox until somebody replies."""
    return Conversation.objects.bulk_create(
        [
            Conversation(customer_id=record.customer_id, record_id=record.pk, created_at=at, updated_at=at)
            for record in records
        ]
    )
