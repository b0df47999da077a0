"""JSON payloads of messages and conversations, for the API and for webhooks (wire 5.5 to 5.9)."""

from typing import Any

from audiences.api.payloads import Json, list_payload, unix, user_reference
from delivery import rendering
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from messaging.content import ContentError
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Message

# Ids of messages have a prefix, so that none is mistaken for the id of a conversation: one for our messages, one for
# the first message of a conversation that a customer began.
MESSAGE_PREFIX, OPENING_PREFIX = "msg_", "umsg_"
# An in-app message is a conversation for clients; other types are the names of channels.
MESSAGE_TYPES: dict[Channel, str] = {channel: channel.value for channel in Channel} | {Channel.IN_APP: "conversation"}


def message_id(message_pk: int) -> str:
    """Return the id of a message of ours."""
    return f"{MESSAGE_PREFIX}{message_pk}"


def opening_id(conversation_pk: int) -> str:
    """Return the id of a customer's message that began a conversation."""
    return f"{OPENING_PREFIX}{conversation_pk}"


def body_of(html: str, *, plain: bool) -> str:
    return html_to_text(html) if plain else html


def author_of(message: Message) -> Json:
    teammate = message.sender.teammate_id if message.sender else None
    return {"type": "admin", "id": str(teammate or message.created_by_id or "") or None}


def opening_message(conversation: Conversation, *, plain: bool) -> Json:
    """Return the first message of a conversation: ours, as the customer received it, or the customer's own."""
    record = conversation.record
    files: list[Json] = []
    if record is None:
        files = conversation.attachments
        subject, body, author, kind, delivered_as, pk = (
            "",
            conversation.body,
            user_reference(conversation.customer),
            "conversation",
            "customer_initiated",
            opening_id(conversation.pk),
        )
    else:
        subject, body = rendered_subject_and_body(record)
        message = record.message
        author, kind, pk = author_of(message), MESSAGE_TYPES[Channel(message.channel)], message_id(message.pk)
        delivered_as = "admin_initiated" if message.to_customer_id else "automated"
    return {
        "type": kind,
        "id": pk,
        "subject": subject,
        "body": body_of(body, plain=plain),
        "delivered_as": delivered_as,
        "author": author,
        "attachments": list(map(attachment, files)),
        "url": None,
    }


def rendered_subject_and_body(record: DeliveryRecord) -> tuple[str, str]:
    """Return subject and body as the customer received them; both "" if they cannot be rendered."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        return "", ""
    return (rendered.subject, rendered.html or rendered.text) if rendered else ("", "")


def conversation(found: Conversation, *, plain: bool = False) -> Json:
    """Return a conversation as it appears in lists, without its parts."""
    user = user_reference(found.customer)
    first_reply = found.first_reply_at and {
        "created_at": unix(found.first_reply_at),
        "type": "conversation",
        "url": None,
    }
    return {
        "type": "conversation",
        "id": str(found.pk),
        "created_at": unix(found.created_at),
        "updated_at": unix(found.updated_at),
        "waiting_since": unix(found.waiting_since),
        "snoozed_until": unix(found.snoozed_until),
        "sent_at": unix(found.record.sent_at if found.record else found.created_at),
        "user": user,
        "customers": [user],
        "customer_first_reply": first_reply,
        "assignee": assignee(found),
        "conversation_message": opening_message(found, plain=plain),
        "open": found.state == "open",
        "state": found.state,
        "read": found.read,
        "tags": list_payload("tag", ()),
    }


def assignee(found: Conversation) -> Json:
    if found.assignee_id is None:
        return {"type": "nobody_admin", "id": None}
    return {"type": "admin", "id": str(found.assignee_id)}


def conversation_with_parts(found: Conversation, *, plain: bool = False) -> Json:
    parts = [part(entry, of=found, plain=plain) for entry in found.parts.order_by("created_at", "pk")[:500]]
    return {
        **conversation(found, plain=plain),
        "conversation_parts": {
            **list_payload("conversation_part", parts),
            "total_count": found.parts.count(),
        },
        "conversation_rating": {
            "rating": None,
            "remark": None,
            "created_at": None,
            "customer": {"type": None, "id": None},
            "teammate": {"type": None, "id": None},
        },
    }


def part(entry: ConversationPart, *, of: Conversation, plain: bool) -> Json:
    by_us: dict[str, Any] = {"type": "admin", "id": str(entry.teammate_id) if entry.teammate_id else None}
    return {
        "type": "conversation_part",
        "id": str(entry.pk),
        "part_type": entry.part_type,
        "body": body_of(entry.body, plain=plain) or None,
        "body_that_may_be_quoted": body_of(entry.folded_body, plain=plain) or None,
        "created_at": unix(entry.created_at),
        "updated_at": unix(entry.created_at),
        "notified_at": unix(entry.created_at),
        "assigned_to": {"type": "admin", "id": str(entry.assigned_to_id)} if entry.assigned_to_id else None,
        "author": user_reference(of.customer) if entry.by_customer else by_us,
        "attachments": list(map(attachment, entry.attachments)),
        "external_id": None,
    }


def attachment(file: Json) -> Json:
    """Return an attachment; unknown values are null."""
    fields = ("name", "url", "content_type", "filesize", "width", "height")
    return {"type": "upload", **{field: file.get(field) for field in fields}}
