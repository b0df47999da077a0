"""Conversations: what a customer and the team say to each other after a message reached them (DESIGN 3)."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from audiences.models import Customer
from delivery.models import Conversation, DeliveryRecord
from messaging.content import paragraphs


def begin(records: Iterable[DeliveryRecord], *, at: datetime) -> list[Conversation]:
    """Open the conversation each of these messages starts; it stays out of the inbox until somebody replies."""
    return Conversation.objects.bulk_create(
        [
            Conversation(customer_id=record.customer_id, record_id=record.pk, created_at=at, updated_at=at)
            for record in records
        ]
    )


def open_by_customer(customer: Customer, *, body: str, at: datetime) -> Conversation:
    """Open a conversation with what a customer wrote, in plain text; it is in the inbox at once."""
    with transaction.atomic():
        Customer.objects.filter(pk=customer.pk).update(last_heard_from_at=at)
        return Conversation.objects.create(
            customer=customer,
            body=paragraphs(body),
            created_at=at,
            updated_at=at,
            waiting_since=at,
            first_reply_at=at,
            read=True,
        )
