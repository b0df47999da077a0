"""The messenger's conversations: list and thread (polled, so answered with 304), replies, read marks."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid5

from django.db.models import Count, Max, Q, QuerySet, Value
from django.db.models.functions import Concat
from django.utils import timezone
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import JsonObject, body
from audiences.api.base.errors import MissingField
from audiences.api.base.lookups import get_row
from audiences.api.payloads import Json
from audiences.intake import Refused, Source
from audiences.intake.attributes.fields import read_text
from audiences.intake.identity_resolution import read_email
from audiences.models import Customer
from audiences.models.customers import Role
from audiences.transactions import retried
from delivery.api.messenger import payloads as messenger_payloads
from delivery.api.messenger.access import (
    AddressRateLimit,
    MessengerEndpoint,
    MessengerForm,
    VisitorRateLimit,
    customer_of,
    speaker,
)
from delivery.conversations import attachments as conversation_attachments
from delivery.conversations import threads
from delivery.messenger import sessions
from delivery.models import Conversation, ConversationPart, DeliveryRecord, PartType, Reason, Status
from delivery.tracking import in_app
from messaging.models import RUNNING

# The default and the maximum length of the list.
DEFAULT_LIMIT, MAX_LIMIT = 50, 1000
MAX_PARTS = 500
MAX_BODY_LENGTH = 10_000
RELATED = ("record__message__sender", "record__version", "record__customer", "record__company")


class Threads(MessengerEndpoint):
    """/messenger/conversations."""

    parser_classes = [JsonObject, MessengerForm]

    def get(self, request: Request) -> Response:
        """List the newest conversations, `most` of them; 304 if nothing changed. Polling is not a visit."""
        customer = speaker(request).customer
        rows = Conversation.objects.of_customer(customer) if customer else Conversation.objects.none()
        found = rows.aggregate(n=Count("pk"), newest=Max("updated_at"), unread=Count("pk", filter=Q(read=False)))
        expected = customer is not None and is_expected(customer)
        most = requested_limit(request)
        tag = etag(customer and customer.pk, *found.values(), expected, most)
        if tag in request.headers.get("If-None-Match", ""):
            return not_modified(tag)
        listed = newest_conversations(rows, most=most)
        answer = {
            "type": "conversation.list",
            "conversations": listed,
            "unread_count": found["unread"],
            "older": max(0, found["n"] - most),
            # A direct message is waiting, which only a visit delivers.
            "expected": expected,
        }
        return Response(answer, headers=cache_headers(tag))

    def post(self, request: Request) -> Response:
        """Open a conversation. A visitor's first message makes them a lead."""
        written, images = read_message(request)
        key, at = idempotency_key_of(request), timezone.now()
        who, attachments = speaker(request), cache(lambda: store_images(images))

        @retried
        def begin() -> tuple[Customer, Conversation]:
            customer = who.customer
            if customer is None:
                assert who.visitor is not None  # noqa: S101 - a speaker is a customer or a visitor
                customer = sessions.lead_for(who.visitor, at=at)
            ticket = ticket_of("conversation", customer.pk, key)
            begun = Conversation.objects.filter(ticket=ticket).first() if ticket else None
            begun = begun or threads.open_by_customer(
                customer, body=written, at=at, attachments=attachments(), ticket=ticket
            )
            return customer, begun

        customer, begun = begin()
        return Response(full_conversation(conversation_of(customer, begun.pk), customer))


class Thread(MessengerEndpoint):
    """/messenger/conversations/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Return one conversation; 304 if nothing changed."""
        customer = customer_of(request)
        found = conversation_of(customer, pk)
        tag = etag(found.pk, found.updated_at, found.read, has_no_email(customer))
        if tag in request.headers.get("If-None-Match", ""):
            return not_modified(tag)
        return Response(full_conversation(found, customer), headers=cache_headers(tag))


class Reply(MessengerEndpoint):
    """/messenger/conversations/{id}/reply."""

    parser_classes = [JsonObject, MessengerForm]

    def post(self, request: Request, pk: str) -> Response:
        """Add the customer's message, with any images."""
        customer = customer_of(request)
        written, images = read_message(request)
        found = conversation_of(customer, pk)
        ticket = ticket_of("part", found.pk, idempotency_key_of(request))
        if not (ticket and ConversationPart.objects.filter(ticket=ticket).exists()):
            threads.reply_by_customer(
                found, body=written, at=timezone.now(), attachments=store_images(images), ticket=ticket
            )
        return Response(full_conversation(conversation_of(customer, pk), customer))


class Read(MessengerEndpoint):
    """/messenger/conversations/{id}/read."""

    def post(self, request: Request, pk: str) -> Response:
        """Mark the conversation as read in the named version, and its in-app message as opened."""
        found = conversation_of(customer_of(request), pk)
        sent: Any = request.data
        version = read_text(sent.get("version"), "version", most=40)
        is_read = threads.mark_read(found, version=version)
        if found.record is not None:
            in_app.record_open(found.record, at=timezone.now())
        return Response({"type": "conversation", "id": str(found.pk), "read": is_read})


def conversation_of(customer: Customer, pk: Any) -> Conversation:
    """Return one of the customer's conversations, or raise Unknown (404)."""
    return get_row(Conversation.objects.of_customer(customer).select_related(*RELATED), str(pk))


class Address(MessengerEndpoint):
    """/messenger/email."""

    throttle_classes = [VisitorRateLimit, AddressRateLimit]

    def post(self, request: Request) -> Response:
        """Store the email address of a lead. Users have theirs from the website."""
        customer = customer_of(request)
        email = read_email(body(request).get("email"))
        if not email:
            raise MissingField("email is required", field="email")
        if has_no_email(customer):
            # Another customer may have this address. The answer must not reveal that.
            intake.save_lead({"email": email}, lead=customer, at=timezone.now(), source=Source.BROWSER)
        return Response({"type": "lead", "email": email})


def has_no_email(customer: Customer) -> bool:
    """Return whether the customer is a lead who can be answered only in the messenger."""
    return customer.role == Role.LEAD and not customer.email


def idempotency_key_of(request: Request) -> UUID | None:
    """Return the browser's idempotency key: it sends the message again if no answer came."""
    sent: Any = request.data
    given = sent.get("key")
    if given in (None, ""):
        return None
    try:
        return UUID(str(given))
    except ValueError:
        raise Refused("key must be a UUID.", field="key") from None


def ticket_of(kind: str, pk: int, key: UUID | None) -> UUID | None:
    """Return the stored form of an idempotency key, which is unique for each customer or conversation."""
    return uuid5(key, f"{kind} {pk}") if key else None


def full_conversation(found: Conversation, customer: Customer) -> Json:
    """Return a conversation with its comments. Notes and assignments are not for customers."""
    newest = comments().filter(conversation=found).order_by("-created_at", "-pk")[:MAX_PARTS]
    return messenger_payloads.conversation_payload(found, reversed(newest), asks_email=has_no_email(customer))


def requested_limit(request: Request) -> int:
    most = request.query_params.get("most", "")
    return min(max(int(most), DEFAULT_LIMIT), MAX_LIMIT) if re.fullmatch("[0-9]{1,6}", most) else DEFAULT_LIMIT


def newest_conversations(rows: QuerySet[Conversation], *, most: int) -> list[Json]:
    """Return the newest conversations, ordered by their latest comment."""
    found = list(rows.select_related(*RELATED).order_by("-updated_at", "-pk")[:most])
    newest = comments().filter(conversation__in=found).order_by("conversation_id", "-created_at", "-pk")
    last = {part.conversation_id: part for part in newest.distinct("conversation_id")}
    listed = [messenger_payloads.list_entry(row, last.get(row.pk)) for row in found]
    return sorted(listed, key=lambda entry: (entry["last_at"], int(entry["id"])), reverse=True)


def comments() -> QuerySet[ConversationPart]:
    """Return the comments of customers and teammates."""
    return ConversationPart.objects.filter(part_type=PartType.COMMENT).select_related("teammate")


def is_expected(customer: Customer) -> bool:
    """Return whether a direct message waits for the customer's next visit; the messenger then visits at once."""
    # The status is an expression for the reason that `delivery.visits.statement` gives.
    records = DeliveryRecord.objects.annotate(now=Concat("status", Value("")))
    return records.filter(
        customer=customer,
        now=Status.WAITING,
        reason=Reason.VISIT,
        message__to_customer=customer,
        message__state__in=RUNNING,
    ).exists()


def read_message(request: Request) -> tuple[str, Sequence[Any]]:
    """Return the text and the images of the request; raise Missing if there are neither."""
    sent: Any = request.data
    images = request.FILES.getlist("images") if request.FILES else []
    if len(images) > conversation_attachments.MAX_IMAGES:
        raise Refused(f"A message can have at most {conversation_attachments.MAX_IMAGES} images.", field="images")
    written = read_text(sent.get("body"), "body", most=MAX_BODY_LENGTH)
    if not written and not images:
        raise MissingField("body is required", field="body")
    return written, images


def store_images(images: Sequence[Any]) -> list[dict[str, Any]]:
    """Store all images, or none if one is refused."""
    checked = [conversation_attachments.check_image(image) for image in images]
    return [conversation_attachments.store_image(image, kind) for image, kind in zip(images, checked, strict=True)]


def etag(*facts: object) -> str:
    """Return an ETag for an answer that depends on these facts only."""
    joined = "|".join(fact.isoformat() if isinstance(fact, datetime) else str(fact) for fact in facts)
    return f'"{hashlib.sha256(joined.encode()).hexdigest()[:20]}"'


def cache_headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, no-cache"}


def not_modified(tag: str) -> Response:
    return Response(status=status.HTTP_304_NOT_MODIFIED, headers=cache_headers(tag))
