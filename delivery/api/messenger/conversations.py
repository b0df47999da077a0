"""The messenger's conversations: what there is (asked for again and again, answered with 304), replies, read."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid5

from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import JsonObject, body
from audiences.api.base.errors import Missing
from audiences.api.base.lookups import one_of
from audiences.api.payloads import Json
from audiences.intake import Refused, Source
from audiences.intake.attributes.fields import text
from audiences.intake.identity_resolution import read_email
from audiences.models import Customer
from audiences.models.customers import Role
from audiences.transactions import retried
from delivery.api.messenger import payloads as messenger_payloads
from delivery.api.messenger.access import Form, MessengerEndpoint, customer_of, speaker
from delivery.conversations import attachments as conversation_attachments
from delivery.conversations import threads
from delivery.messenger import sessions
from delivery.models import Conversation, ConversationPart, DeliveryRecord, PartType, Reason, Status
from delivery.tracking import in_app
from messaging.models import RUNNING

# How many conversations are listed, and at most where older ones are asked for too.
MOST, MOST_EVER = 50, 1000
MOST_PARTS = 500
LONGEST_BODY = 10_000
RELATED = ("record__message__sender", "record__version", "record__customer", "record__company")


class Threads(MessengerEndpoint):
    """/messenger/conversations."""

    parser_classes = [JsonObject, Form]

    def get(self, request: Request) -> Response:
        """List the newest, `most` of them; 304 while nothing changed. A poll, and no visit."""
        customer = speaker(request).customer
        rows = Conversation.objects.of(customer) if customer else Conversation.objects.none()
        found = rows.aggregate(n=Count("pk"), newest=Max("updated_at"), unread=Count("pk", filter=Q(read=False)))
        expected = customer is not None and is_expected(customer)
        most = asked_for(request)
        tag = etag(customer and customer.pk, *found.values(), expected, most)
        if tag in request.headers.get("If-None-Match", ""):
            return unchanged(tag)
        listed = newest_first(rows, most=most)
        answer = {
            "type": "conversation.list",
            "conversations": listed,
            "unread_count": found["unread"],
            "older": max(0, found["n"] - most),
            # There is something for them that only a visit brings.
            "expected": expected,
        }
        return Response(answer, headers=fresh(tag))

    def post(self, request: Request) -> Response:
        """Begin a conversation; with their first words a visitor becomes a lead."""
        written, images = words(request)
        key, at = key_of(request), timezone.now()
        who, attachments = speaker(request), cache(lambda: kept(images))

        @retried
        def begin() -> tuple[Customer, Conversation]:
            customer = who.customer
            if customer is None:
                assert who.visitor is not None  # noqa: S101 - whoever speaks is one of the two
                customer = sessions.lead_for(who.visitor, at=at)
            ticket = ticket_of("conversation", customer.pk, key)
            begun = Conversation.objects.filter(ticket=ticket).first() if ticket else None
            begun = begun or threads.open_by_customer(
                customer, body=written, at=at, attachments=attachments(), ticket=ticket
            )
            return customer, begun

        customer, begun = begin()
        return Response(full_conversation(one(customer, begun.pk), customer))


class Thread(MessengerEndpoint):
    """/messenger/conversations/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Read one; 304 while nothing changed."""
        customer = customer_of(request)
        found = one(customer, pk)
        tag = etag(found.pk, found.updated_at, found.read, has_no_email(customer))
        if tag in request.headers.get("If-None-Match", ""):
            return unchanged(tag)
        return Response(full_conversation(found, customer), headers=fresh(tag))


class Reply(MessengerEndpoint):
    """/messenger/conversations/{id}/reply."""

    parser_classes = [JsonObject, Form]

    def post(self, request: Request, pk: str) -> Response:
        """Add what the customer wrote, with images where there are any."""
        customer = customer_of(request)
        written, images = words(request)
        found = one(customer, pk)
        ticket = ticket_of("part", found.pk, key_of(request))
        if not (ticket and ConversationPart.objects.filter(ticket=ticket).exists()):
            threads.reply_by_customer(found, body=written, at=timezone.now(), attachments=kept(images), ticket=ticket)
        return Response(full_conversation(one(customer, pk), customer))


class Read(MessengerEndpoint):
    """/messenger/conversations/{id}/read."""

    def post(self, request: Request, pk: str) -> Response:
        """Note that the customer has read it, as it was in the version named; what it began with was opened then."""
        found = one(customer_of(request), pk)
        sent: Any = request.data
        version = text(sent.get("version"), "version", most=40)
        is_read = threads.mark_read(found, version=version)
        if found.record is not None:
            in_app.record_open(found.record, at=timezone.now())
        return Response({"type": "conversation", "id": str(found.pk), "read": is_read})


def one(customer: Customer, pk: Any) -> Conversation:
    """One conversation of this customer; whoever else's it is, there is none."""
    return one_of(Conversation.objects.of(customer).select_related(*RELATED), str(pk))


class Address(MessengerEndpoint):
    """/messenger/email."""

    def post(self, request: Request) -> Response:
        """Take the address at which a lead wants to be answered; of users their own product knows it."""
        customer = customer_of(request)
        email = read_email(body(request).get("email"))
        if not email:
            raise Missing("email is required", field="email")
        if has_no_email(customer):
            # Whoever is known by it is somebody else, and the answer must not tell whether there is anybody.
            intake.save_lead({"email": email}, lead=customer, at=timezone.now(), source=Source.BROWSER)
        return Response({"type": "lead", "email": email})


def has_no_email(customer: Customer) -> bool:
    """Whether this is a lead who can be answered only in the messenger."""
    return customer.role == Role.LEAD and not customer.email


def key_of(request: Request) -> UUID | None:
    """The key a browser made for what it sends, so that it can send it again when no answer came."""
    sent: Any = request.data
    given = sent.get("key")
    if given in (None, ""):
        return None
    try:
        return UUID(str(given))
    except ValueError:
        raise Refused("key is a UUID that was made for this message.", field="key") from None


def ticket_of(kind: str, pk: int, key: UUID | None) -> UUID | None:
    """The ticket of what a key was made for: another browser's same key is another ticket."""
    return uuid5(key, f"{kind} {pk}") if key else None


def full_conversation(found: Conversation, customer: Customer) -> Json:
    """A conversation with what was said; what the team said among themselves is not for customers."""
    newest = spoken().filter(conversation=found).order_by("-created_at", "-pk")[:MOST_PARTS]
    return messenger_payloads.conversation_payload(found, reversed(newest), asks_email=has_no_email(customer))


def asked_for(request: Request) -> int:
    """How many conversations the list is to have."""
    most = request.query_params.get("most", "")
    return min(max(int(most), MOST), MOST_EVER) if re.fullmatch("[0-9]{1,6}", most) else MOST


def newest_first(rows: QuerySet[Conversation], *, most: int) -> list[Json]:
    """The list, ordered by what was last said."""
    found = list(rows.select_related(*RELATED).order_by("-updated_at", "-pk")[:most])
    newest = spoken().filter(conversation__in=found).order_by("conversation_id", "-created_at", "-pk")
    last = {part.conversation_id: part for part in newest.distinct("conversation_id")}
    listed = [messenger_payloads.listed(row, last.get(row.pk)) for row in found]
    return sorted(listed, key=lambda entry: (entry["last_at"], int(entry["id"])), reverse=True)


def spoken() -> QuerySet[ConversationPart]:
    """What customers and the team said to each other."""
    return ConversationPart.objects.filter(part_type=PartType.COMMENT).select_related("teammate")


def is_expected(customer: Customer) -> bool:
    """Whether a teammate wrote to this very customer since their last visit: the messenger visits at once then."""
    return DeliveryRecord.objects.filter(
        customer=customer,
        status=Status.WAITING,
        reason=Reason.VISIT,
        message__to_customer=customer,
        message__state__in=RUNNING,
    ).exists()


def words(request: Request) -> tuple[str, Sequence[Any]]:
    """What was written, and the images with it; there must be something."""
    sent: Any = request.data
    images = request.FILES.getlist("images") if request.FILES else []
    if len(images) > conversation_attachments.MAX_IMAGES:
        raise Refused(f"At most {conversation_attachments.MAX_IMAGES} images go with one message.", field="images")
    written = text(sent.get("body"), "body", most=LONGEST_BODY)
    if not written and not images:
        raise Missing("body is required", field="body")
    return written, images


def kept(images: Sequence[Any]) -> list[dict[str, Any]]:
    """The images stored, all or none."""
    checked = [conversation_attachments.check_image(image) for image in images]
    return [conversation_attachments.store_image(image, kind) for image, kind in zip(images, checked, strict=True)]


def etag(*facts: object) -> str:
    """A tag for an answer that is the same while these facts are."""
    told = "|".join(fact.isoformat() if isinstance(fact, datetime) else str(fact) for fact in facts)
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:20]}"'


def fresh(tag: str) -> dict[str, str]:
    """The headers of an answer that is asked for again."""
    return {"ETag": tag, "Cache-Control": "private, no-cache"}


def unchanged(tag: str) -> Response:
    """Nothing new."""
    return Response(status=status.HTTP_304_NOT_MODIFIED, headers=fresh(tag))
