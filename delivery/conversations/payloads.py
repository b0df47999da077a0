"""What integrations are answered and told about messages and conversations (wire 5.5 to 5.9)."""

from typing import Any

from audiences.api.payloads import Json, list_payload, unix, user_reference
from delivery import rendering
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from messaging.content import ContentError
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Message

KINDS = {Channel.IN_APP: "conversation", Channel.EMAIL: "email", Channel.PUSH: "push"}


def body_of(html: str, *, plain: bool) -> str:
    """A body as HTML, or as plain text where the caller asked for that."""
    return html_to_text(html) if plain else html


def author_of(message: Message) -> Json:
    """The teammate a message came from."""
    teammate = message.sender.teammate_id if message.sender else None
    return {"type": "admin", "id": str(teammate or message.created_by_id or "") or None}


def opening(conversation: Conversation, *, plain: bool) -> Json:
    """What the conversation began with: our message as it read to the customer, or what the customer wrote."""
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
            str(conversation.pk),
        )
    else:
        subject, body = as_read(record)
        message = record.message
        author, kind, pk = author_of(message), KINDS[Channel(message.channel)], str(message.pk)
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


def as_read(record: DeliveryRecord) -> tuple[str, str]:
    """Subject and body as they read to the customer, empty where they cannot be made."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        return "", ""
    return (rendered.subject, rendered.html or rendered.text) if rendered else ("", "")


def conversation(found: Conversation, *, plain: bool = False) -> Json:
    """A conversation as lists have it, without its parts."""
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
        "conversation_message": opening(found, plain=plain),
        "open": found.state == "open",
        "state": found.state,
        "read": found.read,
        "tags": list_payload("tag", ()),
    }


def assignee(found: Conversation) -> Json:
    """Who a conversation is assigned to."""
    if found.assignee_id is None:
        return {"type": "nobody_admin", "id": None}
    return {"type": "admin", "id": str(found.assignee_id)}


def whole_conversation(found: Conversation, *, plain: bool = False) -> Json:
    """A conversation with its parts."""
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
    """One thing said or done in a conversation."""
    by_us: dict[str, Any] = {"type": "admin", "id": str(entry.teammate_id) if entry.teammate_id else None}
    return {
        "type": "conversation_part",
        "id": str(entry.pk),
        "part_type": entry.part_type,
        "body": body_of(entry.body, plain=plain) or None,
        "created_at": unix(entry.created_at),
        "updated_at": unix(entry.created_at),
        "notified_at": unix(entry.created_at),
        "assigned_to": {"type": "admin", "id": str(entry.assigned_to_id)} if entry.assigned_to_id else None,
        "author": user_reference(of.customer) if entry.by_customer else by_us,
        "attachments": list(map(attachment, entry.attachments)),
        "external_id": None,
    }


def attachment(file: Json) -> Json:
    """A file that came with what was said; what nobody knows of it is null."""
    known = ("name", "url", "content_type", "filesize", "width", "height")
    return {"type": "upload", **{key: file.get(key) for key in known}}
