"""The request of a notification: body, signature, and the current state of the object that it is about (wire 5.13)."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

from audiences.api import companies, users
from audiences.api.payloads import APP_ID, Json, event, list_payload, unix
from audiences.models import Company, Customer, Event, Notification
from audiences.models.customers import Role
from delivery.conversations import payloads
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from messaging.models import Channel

# The form of a secret in Standard Webhooks: this prefix and the key in base64.
WHSEC = "whsec_"
MESSAGE_TYPES: dict[Channel, str] = {Channel.EMAIL: "email", Channel.IN_APP: "inapp", Channel.PUSH: "push"}
# Events whose moment changes if earlier ones turn out to be a scanner's.
REVISED = ("opened", "clicked")


class Retracted(Exception):
    """The event did not happen: a scanner opened or clicked, and not the customer."""


def signing_key(secret: str) -> bytes:
    """Return the key of Standard Webhooks: the decoded secret if it has their form, else its characters."""
    return base64.b64decode(secret.removeprefix(WHSEC), validate=True) if secret.startswith(WHSEC) else secret.encode()


def standard_secret(secret: str) -> str:
    """Return a secret in the form that libraries for Standard Webhooks read."""
    return WHSEC + base64.b64encode(signing_key(secret)).decode()


def standard_signature(signed: bytes, *, secret: str) -> str:
    """Return the signature of Standard Webhooks over the id, the timestamp and the body, separated by dots."""
    return f"v1,{base64.b64encode(hmac.new(signing_key(secret), signed, hashlib.sha256).digest()).decode()}"


def request_headers(notification: Notification, body: bytes, *, at: datetime) -> dict[str, str]:
    """Return signed headers: by SHA-1 for compatible subscribers, by SHA-256, and as in Standard Webhooks.

    `webhook-id` stays the same when a notification is sent again; `webhook-timestamp` is the moment of the attempt.
    """
    secret, name, seconds = notification.subscription.secret, f"notif_{notification.pk}", str(unix(at))
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Outbound",
        "X-Hub-Signature": f"sha1={hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}",
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
        "webhook-id": name,
        "webhook-timestamp": seconds,
        "webhook-signature": standard_signature(f"{name}.{seconds}.".encode() + body, secret=secret),
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


def message_item(notification: Notification) -> Json:
    """Return an event of one customer's copy of a message; raise Retracted if it was a scanner's open or click."""
    record = DeliveryRecord.objects.select_related("message", "company").get(pk=notification.about["record"])
    event = notification.topic.removeprefix("message.")
    # The event that replaces it has a notification of its own.
    if event in REVISED and getattr(record, f"{event}_at") != notification.created_at:
        raise Retracted
    assert notification.customer is not None  # noqa: S101 - every copy has one
    message, company = record.message, record.company
    return {
        "type": "message_event",
        "event": event,
        "happened_at": unix(notification.created_at),
        "delivery_id": str(record.pk),
        "message": {
            "type": "message",
            "id": payloads.message_id(message.pk),
            "title": message.title,
            "message_type": MESSAGE_TYPES[Channel(message.channel)],
            "send_type": message.send_type,
        },
        "user": person(notification.customer),
        "company": {"type": "company", "id": str(company.pk), "company_id": company.company_id} if company else None,
        "sent_at": unix(record.sent_at),
        "reason": record.why or None,
    }


def person(customer: Customer) -> Json:
    """Return who a customer is, without their attributes."""
    kind = "contact" if customer.role == Role.LEAD else "user"
    names = {"user_id": customer.user_id, "email": customer.email, "name": customer.name}
    return {"type": kind, "id": str(customer.pk), **names}


def ping_item(_notification: Notification) -> Json:
    return {"type": "ping", "message": "Outbound can reach this address."}


ITEMS: dict[str, Callable[[Notification], Json]] = {
    "conversation": conversation_item,
    "user": customer_item,
    "contact": customer_item,
    "tag": tag_item,
    "company": company_item,
    "event": event_item,
    "message": message_item,
    "ping": ping_item,
}
