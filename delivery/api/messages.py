"""Messages from one teammate to one customer, and from a customer to the team (wire 5.9)."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import Forbidden, MissingField
from audiences.api.base.lookups import find_admin, find_lead, get_row
from audiences.api.payloads import Json, admin, unix, user_reference
from audiences.intake import Refused, Unknown
from audiences.intake.attributes.fields import first_given, read_long_text, read_mapping, read_text
from audiences.models import Company, Customer, Workspace
from audiences.models.consent import has_not_confirmed
from audiences.transactions import retried
from delivery import tasks
from delivery.conversations import payloads, threads
from delivery.matching import direct
from delivery.models import Conversation, DeliveryRecord, Reason
from messaging.content import paragraphs_html
from messaging.models import Channel, Format, Message, Sender

# Values of message_type. Without one, a message is a chat in the app.
KINDS: dict[str, tuple[Channel, str]] = {
    "inapp": (Channel.IN_APP, Format.CHAT),
    "announcement": (Channel.IN_APP, Format.ANNOUNCEMENT),
    "email": (Channel.EMAIL, ""),
    "push": (Channel.PUSH, ""),
}
KIND_NAMES = {way: name for name, way in KINDS.items()}
DEFAULT_KIND = "inapp"
# The keys that only some types of messages read.
KEYS_OF_KINDS: dict[str, tuple[str, ...]] = {
    "subject": ("email", "announcement", "push"),
    "template": ("email",),
    "link": ("push",),
}
RECORD_TIMES = (
    "due_at",
    "sent_at",
    "opened_at",
    "clicked_at",
    "replied_at",
    "bounced_at",
    "complained_at",
    "unsubscribed_at",
)
RELATED = ("customer", "conversation", "message__version", "message__created_by")
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
            way = read_text(sent.get("message_type"), "message_type") or DEFAULT_KIND
            self.note_without_effect(sent, *(key for key, kinds in KEYS_OF_KINDS.items() if way not in kinds))
            record = from_teammate(sent, writer, kind=way)
            if record.company_id is None:
                self.note_without_effect(sent, "company_id")
            template = {"template": template_of(sent)} if way in KEYS_OF_KINDS["template"] else {}
            return Response({**admin_message(record), **template})
        if kind in CUSTOMER_TYPES:
            self.note_without_effect(sent, "to", "company_id", *KEYS_OF_KINDS)
            return Response(from_customer(sent, writer))
        raise Refused("from must name the author: a type of admin or user, and an id.", field="from")


class OneMessage(Endpoint):
    """/messages/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Return a message to or from one customer, with its status, times and conversation."""
        if pk.startswith(payloads.OPENING_PREFIX):
            begun = Conversation.objects.filter(record=None).select_related("customer")
            return Response(user_message(get_row(begun, pk.removeprefix(payloads.OPENING_PREFIX))))
        if not pk.startswith(payloads.MESSAGE_PREFIX):
            raise Unknown(f"No such id[{pk}]: ids of messages begin with {payloads.MESSAGE_PREFIX}.", field="id")
        found = get_row(Message.objects.all(), pk.removeprefix(payloads.MESSAGE_PREFIX))
        if found.to_customer_id is None:
            raise Unknown(f"{pk} is a message to an audience. GET /outbound/{pk} returns it.", field="id")
        record = DeliveryRecord.objects.select_related(*RELATED).get(message=found)
        return Response(admin_message(record))


def from_teammate(sent: dict[str, Any], writer: dict[str, Any], *, kind: str) -> DeliveryRecord:
    """Send a direct message to one customer."""
    if first_given(writer, "id") is None:
        raise MissingField("from.id is required", field="from")
    teammate = find_admin(writer["id"], what="from")
    if kind not in KINDS:
        raise Refused(f"message_type must be one of {', '.join(KINDS)}.", field="message_type")
    channel, how = KINDS[kind]
    written = read_text(sent.get("body"), "body", most=MAX_BODY_LENGTH)
    subject = read_text(sent.get("subject"), "subject")
    if not written:
        raise MissingField("body is required", field="body")
    if channel == Channel.EMAIL and not subject:
        raise MissingField("subject is required for an email", field="subject")
    template_of(sent)
    link = read_long_text(sent.get("link"), "link")
    customer = person_of(read_mapping(sent.get("to"), "to"))
    company = company_of(sent)
    check_may_be_written_to(customer, channel=channel)
    at = timezone.now()

    @retried
    def send() -> DeliveryRecord:
        record = direct.send_to_one(
            customer,
            channel=channel,
            format=how,
            sender=sender_of(teammate),
            subject=subject if kind in KEYS_OF_KINDS["subject"] else "",
            body=as_html(written),
            by=teammate,
            at=at,
            company=company,
            link=link if kind in KEYS_OF_KINDS["link"] else "",
        )
        transaction.on_commit(tasks.enqueue_dispatch)
        return record

    try:
        return send()
    except ValidationError as wrong:
        raise refusal_from(wrong) from wrong


def template_of(sent: dict[str, Any]) -> str:
    """Return the template, which the response repeats. Emails to one person have one design."""
    template = read_text(sent.get("template"), "template") or "plain"
    if template not in TEMPLATES:
        raise Refused("template must be plain or personal.", field="template")
    return template


def person_of(reference: dict[str, Any]) -> Customer:
    """Return the user that a reference names, or the lead if its type is contact or lead."""
    kind = read_text(reference.get("type"), "type") or "user"
    if kind not in CUSTOMER_TYPES:
        raise Refused("type must be user or contact.", field="type")
    is_lead = kind in ("contact", "lead")
    return find_lead(reference) if is_lead else intake.find_customer(reference)


def company_of(sent: dict[str, Any]) -> Company | None:
    """Return the company that the text is about; None if company_id is not given."""
    named = first_given(sent, "company_id")
    return None if named is None else intake.find_company({"company_id": named})


def check_may_be_written_to(customer: Customer, *, channel: Channel) -> None:
    """Raise Forbidden if the customer cannot be reached by this channel (behaviour 4.12)."""
    if channel == Channel.EMAIL and customer.unsubscribed_from_emails:
        raise Forbidden("This user is unsubscribed from emails")
    if channel == Channel.EMAIL and has_not_confirmed(customer) and Workspace.current().double_opt_in:
        raise Forbidden("This contact has not confirmed their email address")
    if reason := direct.unreachable_reason(customer, channel=channel):
        raise Forbidden(str(Reason(reason).label))


def refusal_from(wrong: ValidationError) -> Refused:
    """Convert a ValidationError to the API's error, with its first message."""
    if not hasattr(wrong, "error_dict"):
        return Refused(wrong.messages[0])
    field, lines = next(iter(wrong.message_dict.items()))
    names = {"__all__": "", "company": "company_id", "sender": "from", "channel": "message_type"}
    return Refused(lines[0], field=names.get(field, field))


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


def admin_message(record: DeliveryRecord) -> Json:
    """Return the payload of a direct message; its id is `conversation_message.id` of the conversation."""
    message, conversation = record.message, getattr(record, "conversation", None)
    version = message.version
    kind = KIND_NAMES[Channel(message.channel), message.format]
    pk = payloads.message_id(message.pk)
    owner = (
        admin(message.created_by) if message.created_by else {"type": "admin", "id": None, "name": "", "email": None}
    )
    return {
        "type": "admin_message",
        "id": pk,
        "created_at": unix(record.matched_at),
        "message_type": kind,
        **({} if kind == DEFAULT_KIND else {"subject": version.subject if version else ""}),
        "body": version.body if version else "",
        "owner": {key: value for key, value in owner.items() if key in ("type", "id", "name", "email")},
        "to": user_reference(record.customer),
        "status": record.status,
        "reason": record.why or None,
        **{name: unix(getattr(record, name)) for name in RECORD_TIMES},
        "conversation_id": str(conversation.pk) if conversation else None,
        "links": links_to(pk),
    }


def links_to(message_id: str) -> Json:
    """Return the address at which the message and its result can be read."""
    return {"self": f"{settings.PUBLIC_URL}/api/messages/{message_id}"}


def from_customer(sent: dict[str, Any], writer: dict[str, Any]) -> Json:
    """Open a conversation by a customer."""
    customer = person_of(writer)
    written = read_text(sent.get("body"), "body", most=MAX_BODY_LENGTH)
    if not written:
        raise MissingField("body is required", field="body")
    return user_message(threads.open_by_customer(customer, body=written, at=timezone.now()))


def user_message(conversation: Conversation) -> Json:
    """Return the payload of a customer's message that began a conversation."""
    pk = payloads.opening_id(conversation.pk)
    return {
        "type": "user_message",
        "id": pk,
        "created_at": unix(conversation.created_at),
        "body": conversation.body,
        "message_type": DEFAULT_KIND,
        "author": user_reference(conversation.customer),
        "conversation_id": str(conversation.pk),
        "links": links_to(pk),
    }
