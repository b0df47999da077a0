"""The request of a notification: body, signature, and the current state of the object that it is about (wire 5.13)."""

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

from audiences.api import companies, users
from audiences.api.payloads import APP_ID, Json, event, list_payload, unix
from audiences.models import Company, Event, Notification
from delivery.conversations import payloads
from delivery.models import Conversation, ConversationPart


def signed_headers(body: bytes, *, secret: str) -> dict[str, str]:
    """Return headers signed with the subscription's secret, by SHA-1 for compatible subscribers and by SHA-256."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Outbound",
        "X-Hub-Signature": f"sha1={hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}",
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }


def notification_body(notification: Notification) -> Json:
    """Return the body of a request; only the number of attempts changes between attempts."""
    return {
        "type": "notification_event",
        "id": f"notif_{notification.pk}",
        "topic": notification.topic,
        "app_id": APP_ID,
        "data": {"type": "notification_event_data", "item": notification.payload},
        "delivery_attempts": notification.attempts,
        "first_sent_at": unix(notification.first_sent_at),
        "created_at": unix(notification.created_at),
    }


def build_item(notification: Notification) -> Json:
    """Return the current state of the notification's object."""
    kinds = notification.topic.split(".")
    return ITEMS["tag" if "tag" in kinds else kinds[0]](notification)


def conversation_item(notification: Notification) -> Json:
    """Return the conversation with the part that was added."""
    about = notification.about
    found = Conversation.objects.get(pk=about["conversation"])
    parts = [
        payloads.part(part, of=found, plain=False)
        for part in ConversationPart.objects.filter(conversation=found, pk=about.get("part"))
    ]
    return {
        **payloads.conversation(found),
        "user": customer_item(notification),
        "conversation_parts": {**list_payload("conversation_part", parts), "total_count": len(parts)},
    }


def customer_item(notification: Notification) -> Json:
    assert notification.customer is not None  # noqa: S101 - every topic but ping and company has one
    return users.user_payloads([notification.customer])[0]


def tag_item(notification: Notification) -> Json:
    tag = {"type": "tag", **notification.about["tag"]}
    return {
        "type": "user_tag",
        "created_at": unix(notification.created_at),
        "tag": tag,
        "user": customer_item(notification),
    }


def company_item(notification: Notification) -> Json:
    return companies.company_payloads([Company.objects.get(pk=notification.about["company"])])[0]


def event_item(notification: Notification) -> Json:
    about = notification.about
    assert notification.customer is not None  # noqa: S101 - every event has one
    found = Event.objects.get(
        customer=notification.customer,
        name=about["event"],
        happened_at=datetime.fromtimestamp(about["happened_at"], tz=UTC),
    )
    return event(found, customer=notification.customer)


def ping_item(_notification: Notification) -> Json:
    return {"type": "ping", "message": "Outbound can reach this address."}


ITEMS: dict[str, Callable[[Notification], Json]] = {
    "conversation": conversation_item,
    "user": customer_item,
    "contact": customer_item,
    "tag": tag_item,
    "company": company_item,
    "event": event_item,
    "ping": ping_item,
}
