"""Replies and other actions on a conversation: note, assignment, open, close, snooze."""

import mimetypes
from collections.abc import Callable
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import Forbidden, MissingField
from audiences.api.base.lookups import admins, find_admin
from audiences.intake import Refused, Unknown
from audiences.intake.attributes.fields import first_given, read_flag, read_long_text, read_moment, read_text
from audiences.transactions import retried
from delivery.api.conversations import PLAIN, conversation_response, find_conversation
from delivery.api.messages import person_of
from delivery.conversations import threads
from delivery.models import Conversation
from messaging.content import ContentError

MAX_ATTACHMENTS = 5
MAX_REPLY_LENGTH = 100_000
LAST = "last"


class Reply(Endpoint):
    """/conversations/{id}/reply, and /conversations/last/reply for the newest conversation of one user."""

    parameters = {"post": (PLAIN,), "put": (PLAIN,)}
    rights = {"post": "send"}

    def post(self, request: Request, pk: str) -> Response:
        """Reply to or change a conversation, as its user or as a teammate; return the conversation with its parts."""
        # Some clients repeat the conversation's id in the body.
        sent, at = {key: value for key, value in body(request).items() if key != "id"}, timezone.now()
        found = newest_conversation_of(sent) if pk == LAST else find_conversation(pk)
        try:
            if is_by_teammate(sent):
                act_as_teammate(found, sent, at=at, is_last=pk == LAST)
            else:
                reply_as_customer(found, sent, at=at)
        except ContentError as wrong:
            raise Refused(str(wrong), field="body") from wrong
        return conversation_response(request, found)

    def put(self, request: Request, pk: str) -> Response:
        """Mark the conversation as read by the customer: `{"read": true}`. The Python client uses this URL."""
        found = find_conversation(pk)
        if read_flag(body(request).get("read"), "read"):
            threads.mark_read(found)
        return conversation_response(request, found)


def newest_conversation_of(sent: dict[str, Any]) -> Conversation:
    """Return the newest conversation of the user that the body names."""
    customer = person_of({**sent, "type": ""} if is_by_teammate(sent) else sent)
    found = Conversation.objects.of_customer(customer).order_by("-updated_at", "-pk").first()
    if found is None:
        raise Unknown("This user has no conversations.", field="id")
    return found


def is_by_teammate(sent: dict[str, Any]) -> bool:
    """Return whether a teammate is the author: by `type`, or without it by an admin_id."""
    kind = read_text(sent.get("type"), "type") or ("user" if first_given(sent, "admin_id") is None else "admin")
    if kind not in ("admin", "user", "contact", "lead"):
        raise Refused("type must be user or admin.", field="type")
    return kind == "admin"


@retried
def reply_as_customer(found: Conversation, sent: dict[str, Any], *, at: datetime) -> None:
    if (read_text(sent.get("message_type"), "message_type") or "comment") != "comment":
        raise Refused("The message_type of a user's reply must be comment.", field="message_type")
    if person_of(sent).pk != found.customer_id:
        raise Forbidden("This conversation belongs to another user.")
    attachments = attachments_of(sent)
    threads.reply_by_customer(found, body=required_body(sent, or_any=attachments), at=at, attachments=attachments)


@retried
def act_as_teammate(found: Conversation, sent: dict[str, Any], *, at: datetime, is_last: bool) -> None:
    """Carry out the action that message_type names."""
    kind = read_text(sent.get("message_type"), "message_type") or "comment"
    if kind not in ACTIONS:
        raise Refused(f"message_type must be one of {', '.join(ACTIONS)}.", field="message_type")
    ACTIONS[kind](found, teammate_of(sent, is_last=is_last), sent, at)


def teammate_of(sent: dict[str, Any], *, is_last: bool) -> User:
    """Return the teammate by admin_id, or by email unless the email is the user's."""
    named = first_given(sent, "admin_id")
    if named is None and first_given(sent, "email") is not None and not is_last:
        email = read_text(sent["email"], "email")
        found = admins().filter(email__iexact=email).first()
        if found is None:
            raise Unknown(f"No such email[{email}]", field="email")
        return found
    if named is None:
        raise MissingField("admin_id is required", field="admin_id")
    return find_admin(named)


def comment(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Reply to the customer."""
    attachments = attachments_of(sent)
    words = required_body(sent, or_any=attachments)
    threads.reply_by_teammate(found, teammate=teammate, body=words, at=at, attachments=attachments)


def note(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Add a note for the team."""
    threads.add_note(found, teammate=teammate, body=required_body(sent), at=at)


def assign(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Assign the conversation to a teammate; "0" or "nobody" removes the assignment."""
    named = read_text(sent.get("assignee_id"), "assignee_id")
    if not named:
        raise MissingField("assignee_id is required", field="assignee_id")
    to = None if named in ("0", "nobody") else find_admin(named, what="assignee_id")
    threads.assign(found, to=to, teammate=teammate, at=at, body=optional_body(sent))


def reopen(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Open the conversation; reply first if there is a body."""
    if sent.get("body"):
        comment(found, teammate, sent, at)
    threads.reopen(found, teammate=teammate, at=at)


def close(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Close the conversation; reply first if there is a body."""
    if sent.get("body"):
        comment(found, teammate, sent, at)
    threads.close(found, teammate=teammate, at=at)


def snooze(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Snooze the conversation until a time in the future."""
    until = read_moment(sent.get("snoozed_until"), "snoozed_until")
    if until is None:
        raise MissingField("snoozed_until is required", field="snoozed_until")
    if until <= at:
        raise Refused("snoozed_until must be in the future.", field="snoozed_until")
    threads.snooze(found, until=until, teammate=teammate, at=at)


ACTIONS: dict[str, Callable[[Conversation, User, dict[str, Any], datetime], None]] = {
    "comment": comment,
    "note": note,
    "assignment": assign,
    "open": reopen,
    "close": close,
    "snoozed": snooze,
}


def required_body(sent: dict[str, Any], *, or_any: object = None) -> str:
    """Return the body; raise Missing if there is neither a body nor an attachment."""
    words = optional_body(sent)
    if not words and not or_any:
        raise MissingField("body is required", field="body")
    return words


def optional_body(sent: dict[str, Any]) -> str:
    """Return the body, or "" if there is none."""
    return read_text(sent.get("body"), "body", most=MAX_REPLY_LENGTH)


def attachments_of(sent: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the files at `attachment_urls` as links. Nothing is downloaded."""
    urls = first_given(sent, "attachment_urls")
    urls = [] if urls is None else urls
    if not isinstance(urls, list) or len(urls) > MAX_ATTACHMENTS:
        raise Refused(f"attachment_urls must be a list of at most {MAX_ATTACHMENTS} URLs.", field="attachment_urls")
    return [linked_file(read_long_text(url, "attachment_urls")) for url in urls]


def linked_file(url: str) -> dict[str, Any]:
    """Return what the URL of a file shows about it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused(
            "attachment_urls contains an invalid URL. Each must begin with http:// or https://.",
            field="attachment_urls",
        )
    name = PurePosixPath(parts.path).name or parts.hostname
    return {"name": name, "url": url, "content_type": mimetypes.guess_type(name)[0]}
