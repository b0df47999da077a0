"""What the messenger is told about conversations: what the customer may see, and no more."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User

from audiences.api.payloads import Json, unix
from audiences.intake import Refused
from audiences.intake.attributes.fields import MOST_WARNINGS
from delivery import rendering
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from messaging.content import ContentError, paragraphs
from messaging.content.plain_text import as_text
from messaging.models import Channel

LONGEST_PREVIEW = 160
SHOWN_OF_FILES = ("name", "url", "content_type", "filesize", "width", "height")


def errors(refused: Sequence[Refused]) -> list[Json]:
    """What was not taken of what a page said; of very much, the first."""
    return [
        {"code": "parameter_invalid", "message": str(wrong), "field": wrong.field} for wrong in refused[:MOST_WARNINGS]
    ]


def listed(conversation: Conversation, last: ConversationPart | None) -> Json:
    """A conversation as the list has it; `last` is the newest thing said after it was opened."""
    opening = opened_with(conversation)
    newest = part_payload(last) if last else opening
    return {
        **facts(conversation),
        "subject": opening["subject"],
        "from": opening["from"] if not last or last.by_customer else newest["from"],
        "answered": last is not None,
        "by_customer": newest["by_customer"],
        "preview": preview(newest["body"]) or preview_of_files(newest["attachments"]),
        "last_at": newest["created_at"],
    }


def conversation_payload(conversation: Conversation, parts: Iterable[ConversationPart], *, asks_email: bool) -> Json:
    """A conversation with all that was said in it, and whether whoever wrote can be reached only here."""
    opening = opened_with(conversation)
    told = [opening, *map(part_payload, parts)]
    return {
        **facts(conversation),
        "subject": opening["subject"],
        "from": opening["from"],
        "parts": told,
        "asks_email": asks_email,
    }


def facts(conversation: Conversation) -> Json:
    """What lists and threads both tell."""
    record = conversation.record
    return {
        "type": "conversation",
        "id": str(conversation.pk),
        "message": str(record.pk) if record else None,
        "format": record.message.format if record else "",
        "read": conversation.read,
        "dismissed": bool(record and record.dismissed_at),
        "updated_at": unix(conversation.updated_at),
        # To the microsecond: an answer may come within the second in which one was read.
        "version": conversation.updated_at.isoformat(),
    }


def opened_with(conversation: Conversation) -> Json:
    """What the conversation began with, and its subject: the title of an announcement, for example."""
    record = conversation.record
    if record is None:
        theirs = part("opening", conversation.body, conversation.attachments, None, at=conversation.created_at)
        return {**theirs, "subject": ""}
    sender = record.message.sender
    author = {"type": "admin", "name": sender.name if sender else ""}
    subject, body = as_read(record)
    return {**part("opening", body, (), author, at=record.sent_at or conversation.created_at), "subject": subject}


def as_read(record: DeliveryRecord) -> tuple[str, str]:
    """Subject and body as they read to the customer, the body as HTML to show inside a page; empty if not possible."""
    try:
        rendered = rendering.render_sent_copy(record)
    except ContentError:
        return "", ""
    if rendered is None:
        return "", ""
    body = rendered.html if record.message.channel == Channel.IN_APP else paragraphs(rendered.text)
    return rendered.subject, body


def part_payload(entry: ConversationPart) -> Json:
    """One thing that was said."""
    author = None if entry.by_customer else teammate(entry.teammate)
    return part(str(entry.pk), entry.body, entry.attachments, author, at=entry.created_at)


def part(pk: str, body: str, attachments: Iterable[Mapping[str, Any]], author: Json | None, *, at: Any) -> Json:
    """One thing that was said, by the customer where there is no other author."""
    return {
        "id": pk,
        "body": body,
        "by_customer": author is None,
        "from": author,
        "attachments": [{key: entry.get(key) for key in SHOWN_OF_FILES} for entry in attachments],
        "created_at": unix(at),
    }


def teammate(user: User | None) -> Json:
    """Whom an answer is from, as customers see it; an account that is gone has no name."""
    return {"type": "admin", "name": (user.get_full_name() or user.get_username()) if user else ""}


def preview(html: str) -> str:
    """The first words."""
    words = " ".join(as_text(html).split())
    return words if len(words) <= LONGEST_PREVIEW else f"{words[: LONGEST_PREVIEW - 1].rstrip()}…"


def preview_of_files(files: Iterable[Mapping[str, Any]]) -> str:
    """What came without a word; empty where nothing did."""
    kinds = [str(file["content_type"] or "").startswith("image/") for file in files]
    return "" if not kinds else "Image" if all(kinds) else "File"
