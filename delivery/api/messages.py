"""Messages from one teammate to one customer, and from a customer to the team (wire 5.9)."""

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import Forbidden, MissingField
from audiences.api.base.lookups import find_admin, find_lead
from audiences.api.payloads import Json, admin, unix
from audiences.intake import Refused
from audiences.intake.attributes.fields import first_given, read_mapping, read_text
from audiences.models import Customer
from audiences.transactions import retried
from delivery import tasks
from delivery.conversations import threads
from delivery.matching import direct
from delivery.models import DeliveryRecord, Reason
from messaging.content import paragraphs_html
from messaging.models import Channel, Format, Sender

CHANNELS = {"inapp": Channel.IN_APP, "email": Channel.EMAIL}
CUSTOMER_TYPES = ("user", "contact", "lead")
TEMPLATES = ("plain", "personal")
MAX_BODY_LENGTH = 100_000


class Messages(Endpoint):
    """/messages."""

    rights = {"post": "send"}

    def post(self, request: Request) -> Response:
        """Send a message from a teammate to a customer, or from a customer to the team; `from` names the author."""
        sent = body(request)
        writer = read_mapping(sent.get("from"), "from")
        kind = read_text(writer.get("type"), "from.type")
        if kind == "admin":
            return Response(from_teammate(sent, writer))
        if kind in CUSTOMER_TYPES:
            return Response(from_customer(sent, writer))
        raise Refused("from must name the author: a type of admin or user, and an id.", field="from")


def from_teammate(sent: dict[str, Any], writer: dict[str, Any]) -> Json:
    """Send a direct message to one customer."""
    if first_given(writer, "id") is None:
        raise MissingField("from.id is required", field="from")
    teammate = find_admin(writer["id"], what="from")
    kind = read_text(sent.get("message_type"), "message_type")
    if kind not in CHANNELS:
        raise Refused("message_type must be inapp or email.", field="message_type")
    channel = CHANNELS[kind]
    written, subject = (
        read_text(sent.get("body"), "body", most=MAX_BODY_LENGTH),
        read_text(sent.get("subject"), "subject"),
    )
    if not written:
        raise MissingField("body is required", field="body")
    if channel == Channel.EMAIL and not subject:
        raise MissingField("subject is required for an email", field="subject")
    template = read_text(sent.get("template"), "template") or "plain"
    if template not in TEMPLATES:
        raise Refused("template must be plain or personal.", field="template")
    customer = person_of(read_mapping(sent.get("to"), "to"))
    check_may_be_written_to(customer, channel=channel)
    at = timezone.now()

    @retried
    def send() -> DeliveryRecord:
        record = direct.send_to_one(
            customer,
            channel=channel,
            format=Format.CHAT if channel == Channel.IN_APP else "",
            sender=sender_of(teammate),
            subject=subject if channel == Channel.EMAIL else "",
            body=as_html(written),
            by=teammate,
            at=at,
        )
        transaction.on_commit(tasks.enqueue_dispatch)
        return record

    try:
        record = send()
    except ValidationError as wrong:
        raise refusal_from(wrong) from wrong
    return admin_message(record, teammate=teammate, kind=kind, subject=subject, template=template)


def person_of(reference: dict[str, Any]) -> Customer:
    """Return the user that a reference names, or the lead if its type is contact or lead."""
    kind = read_text(reference.get("type"), "type") or "user"
    if kind not in CUSTOMER_TYPES:
        raise Refused("type must be user or contact.", field="type")
    is_lead = kind in ("contact", "lead")
    return find_lead(reference) if is_lead else intake.find_customer(reference)


def check_may_be_written_to(customer: Customer, *, channel: Channel) -> None:
    """Raise Forbidden if the customer cannot be reached by this channel (behaviour 4.12)."""
    if channel == Channel.EMAIL and customer.unsubscribed_from_emails:
        raise Forbidden("This user is unsubscribed from emails")
    if reason := direct.unreachable_reason(customer, channel=channel):
        raise Forbidden(str(Reason(reason).label))


def refusal_from(wrong: ValidationError) -> Refused:
    """Convert a ValidationError to the API's error, with its first message."""
    if not hasattr(wrong, "error_dict"):
        return Refused(wrong.messages[0])
    field, lines = next(iter(wrong.message_dict.items()))
    return Refused(lines[0], field="" if field == "__all__" else field)


def sender_of(teammate: User) -> Sender:
    """Return the teammate's sender; create it at its first use."""
    own = Sender.objects.filter(teammate=teammate).order_by("pk").first()
    if own is None:
        if not teammate.email:
            raise Refused("This admin has no email address to send from.", field="from")
        name = teammate.get_full_name() or teammate.get_username()
        own = Sender.objects.create(name=name, email=teammate.email, teammate=teammate)
    return own


def as_html(written: str) -> str:
    """Return a body as HTML: unchanged if it contains a tag, else as paragraphs."""
    return written if "<" in written and ">" in written else paragraphs_html(written)


def admin_message(record: DeliveryRecord, *, teammate: User, kind: str, subject: str, template: str) -> Json:
    """Return the payload of a direct message; its id is `conversation_message.id` of the conversation."""
    message = record.message
    shape = {
        "type": "admin_message",
        "id": str(message.pk),
        "created_at": unix(record.matched_at),
        "message_type": kind,
        "body": message.version.body if message.version else "",
        "owner": {key: value for key, value in admin(teammate).items() if key in ("type", "id", "name", "email")},
    }
    return {**shape, "subject": subject, "template": template} if kind == "email" else shape


def from_customer(sent: dict[str, Any], writer: dict[str, Any]) -> Json:
    """Open a conversation by a customer."""
    customer = person_of(writer)
    written = read_text(sent.get("body"), "body", most=MAX_BODY_LENGTH)
    if not written:
        raise MissingField("body is required", field="body")
    conversation = threads.open_by_customer(customer, body=written, at=timezone.now())
    return {
        "type": "user_message",
        "id": str(conversation.pk),
        "created_at": unix(conversation.created_at),
        "body": conversation.body,
        "message_type": "inapp",
        "conversation_id": str(conversation.pk),
    }
