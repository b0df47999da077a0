"""Payloads of the messenger's conversations: only what the customer may see."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User

from audiences.api.payloads import Json, unix
from audiences.intake import Refused
from audiences.intake.attributes.fields import MAX_WARNINGS
from delivery import rendering
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from messaging.content import ContentError, paragraphs_html
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Message

MAX_PREVIEW_LENGTH = 160
ATTACHMENT_FIELDS = ("name", "url", "content_type", "filesize", "width", "height")


def error_payloads(refused: Sequence[Refused]) -> list[Json]:
    """Return the refused parts of a page's data, up to a maximum."""
    return [
        {"code": "parameter_invalid", "message": str(wrong), "field": wrong.field} for wrong in refused[:MAX_WARNINGS]
    ]


def list_entry(conversation: Conversation, last: ConversationPart | None) -> Json:
    """Return a conversation as a list entry; `last` is its newest comment, if any."""
    opening = opening_part(conversation)
    newest = part_payload(last) if last else opening
    return {
        **common_fields(conversation),
        "subject": opening["subject"],
        "from": opening["from"] if not last or last.by_customer else newest["from"],
        "answered": last is not None,
        "by_customer": newest["by_customer"],
        "preview": preview(newest["body"]) or preview_of_files(newest["attachments"]),
        "last_at": newest["created_at"],
    }


def conversation_payload(conversation: Conversation, parts: Iterable[ConversationPart], *, asks_email: bool) -> Json:
    """Return a conversation with its parts; `asks_email` is whether the lead should be asked for an address."""
    opening = opening_part(conversation)
    all_parts = [opening, *map(part_payload, parts)]
    return {
        **common_fields(conversation),
        "subject": opening["subject"],
        "from": opening["from"],
        "parts": all_parts,
        "asks_email": asks_email,
    }


def common_fields(conversation: Conversation) -> Json:
    """Return the fields that list entries and threads share."""
    record = conversation.record
    return {
        "type": "conversation",
        "id": str(conversation.pk),
        "message": str(record.pk) if record else None,
        "format": record.message.format if record else "",
        "read": conversation.read,
        "dismissed": bool(record and record.dismissed_at),
        "shown_until": unix(record.message.shown_until) if record else None,
        "updated_at": unix(conversation.updated_at),
        # With microseconds: a reply may come within the second of the last read.
        "version": conversation.updated_at.isoformat(),
    }


def opening_part(conversation: Conversation) -> Json:
    """Return the first part of the conversation and its subject (the title of an announcement, for example)."""
    record = conversation.record
    if record is None:
        theirs = part_fields("opening", conversation.body, conversation.attachments, None, at=conversation.created_at)
        return {**theirs, "subject": ""}
    subject, body = rendered_content(record)
    return message_part(record.message, subject, body, at=record.sent_at or conversation.created_at)


def message_part(message: Message, subject: str, body: str, *, at: Any) -> Json:
    """Return a message as the first part of its conversation."""
    author = {"type": "admin", "name": message.sender.name if message.sender else ""}
    return {**part_fields("opening", body, (), author, at=at), "subject": subject}


def rendered_content(record: DeliveryRecord) -> tuple[str, str]:
    """Return the subject and the body that the customer received, as HTML; "" if they cannot be rendered."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        return "", ""
    if rendered is None:
        return "", ""
    body = rendered.html if record.message.channel == Channel.IN_APP else paragraphs_html(rendered.text)
    return rendered.subject, body


def part_payload(entry: ConversationPart) -> Json:
    author = None if entry.by_customer else teammate(entry.teammate)
    fields = part_fields(str(entry.pk), entry.shown_body, entry.attachments, author, at=entry.created_at)
    return {**fields, "folded": entry.folded_body} if entry.folded_body else fields


def part_fields(pk: str, body: str, attachments: Iterable[Mapping[str, Any]], author: Json | None, *, at: Any) -> Json:
    """Return one part; without an author it is the customer's."""
    return {
        "id": pk,
        "body": body,
        "by_customer": author is None,
        "from": author,
        "attachments": [{key: entry.get(key) for key in ATTACHMENT_FIELDS} for entry in attachments],
        "created_at": unix(at),
    }


def teammate(user: User | None) -> Json:
    """Return the author of an answer as customers see it. A deleted account has no name."""
    return {"type": "admin", "name": (user.get_full_name() or user.get_username()) if user else ""}


def preview(html: str) -> str:
    """Return the first words."""
    words = " ".join(html_to_text(html).split())
    return words if len(words) <= MAX_PREVIEW_LENGTH else f"{words[: MAX_PREVIEW_LENGTH - 1].rstrip()}…"


def preview_of_files(files: Iterable[Mapping[str, Any]]) -> str:
    """Describe files that came without a text; "" if there are none."""
    kinds = [str(file["content_type"] or "").startswith("image/") for file in files]
    return "" if not kinds else "Image" if all(kinds) else "File"
