"""Replies, and what else is done to a conversation by replying: a note, an assignment, open, close, snooze."""

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
from audiences.api.base.errors import Forbidden, Missing
from audiences.api.base.lookups import admin_of, admins, one_of
from audiences.intake import Refused, Unknown
from audiences.intake.attributes.fields import first_given, flag, long_text, moment, text
from audiences.transactions import retried
from delivery.api.conversations import PLAIN, conversation_response
from delivery.api.messages import person_of
from delivery.conversations import threads
from delivery.models import Conversation
from messaging.content import ContentError

MOST_ATTACHMENTS = 5
LONGEST_REPLY = 100_000
LAST = "last"


class Reply(Endpoint):
    """/conversations/{id}/reply, and /conversations/last/reply for the newest of one user."""

    parameters = {"post": (PLAIN,), "put": (PLAIN,)}

    def post(self, request: Request, pk: str) -> Response:
        """Say or do something in a conversation, as its user or as a teammate; answers with the whole of it."""
        # An `id` here is the conversation's: some clients send it beside the address.
        sent, at = {key: value for key, value in body(request).items() if key != "id"}, timezone.now()
        found = last_of(sent) if pk == LAST else one_of(Conversation.objects.all(), pk)
        try:
            if by_teammate(sent):
                as_teammate(found, sent, at=at, is_last=pk == LAST)
            else:
                as_customer(found, sent, at=at)
        except ContentError as wrong:
            raise Refused(str(wrong), field="body") from wrong
        return conversation_response(request, found)

    def put(self, request: Request, pk: str) -> Response:
        """Note that the customer has read it, which the Python client asks for here: `{"read": true}`."""
        found = one_of(Conversation.objects.all(), pk)
        if flag(body(request).get("read"), "read"):
            threads.mark_read(found)
        return conversation_response(request, found)


def last_of(sent: dict[str, Any]) -> Conversation:
    """The newest conversation of the user the body names."""
    customer = person_of({**sent, "type": ""} if by_teammate(sent) else sent)
    found = Conversation.objects.of(customer).order_by("-updated_at", "-pk").first()
    if found is None:
        raise Unknown("This user has no conversation.", field="id")
    return found


def by_teammate(sent: dict[str, Any]) -> bool:
    """Whether a teammate speaks: `type` says so, or an admin_id where it is left out."""
    kind = text(sent.get("type"), "type") or ("user" if first_given(sent, "admin_id") is None else "admin")
    if kind not in ("admin", "user", "contact", "lead"):
        raise Refused("type is user or admin.", field="type")
    return kind == "admin"


@retried
def as_customer(found: Conversation, sent: dict[str, Any], *, at: datetime) -> None:
    """Add what the user wrote."""
    if (text(sent.get("message_type"), "message_type") or "comment") != "comment":
        raise Refused("A user's message_type is comment.", field="message_type")
    if person_of(sent).pk != found.customer_id:
        raise Forbidden("This conversation is with another user.")
    attachments = attached(sent)
    threads.reply_by_customer(found, body=written(sent, or_any=attachments), at=at, attachments=attachments)


@retried
def as_teammate(found: Conversation, sent: dict[str, Any], *, at: datetime, is_last: bool) -> None:
    """Do what the message_type says."""
    kind = text(sent.get("message_type"), "message_type") or "comment"
    if kind not in ACTS:
        raise Refused(f"message_type is one of {', '.join(ACTS)}.", field="message_type")
    ACTS[kind](found, teammate_of(sent, is_last=is_last), sent, at)


def teammate_of(sent: dict[str, Any], *, is_last: bool) -> User:
    """The teammate who speaks, by admin_id; by email too, where that is not the user's."""
    named = first_given(sent, "admin_id")
    if named is None and first_given(sent, "email") is not None and not is_last:
        email = text(sent["email"], "email")
        found = admins().filter(email__iexact=email).first()
        if found is None:
            raise Unknown(f"No such email[{email}]", field="email")
        return found
    if named is None:
        raise Missing("admin_id is required", field="admin_id")
    return admin_of(named)


def comment(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Answer the customer."""
    attachments = attached(sent)
    words = written(sent, or_any=attachments)
    threads.reply_by_teammate(found, teammate=teammate, body=words, at=at, attachments=attachments)


def note(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Add what only the team sees."""
    threads.add_note(found, teammate=teammate, body=written(sent), at=at)


def assign(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Hand it to a teammate; "0" or nobody takes it back."""
    named = text(sent.get("assignee_id"), "assignee_id")
    if not named:
        raise Missing("assignee_id is required", field="assignee_id")
    to = None if named in ("0", "nobody") else admin_of(named, what="assignee_id")
    threads.assign(found, to=to, teammate=teammate, at=at, body=long_text_of(sent))


def reopen(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Open it, with an answer where there is a body."""
    if sent.get("body"):
        comment(found, teammate, sent, at)
    threads.reopen(found, teammate=teammate, at=at)


def close(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Close it, with an answer where there is a body."""
    if sent.get("body"):
        comment(found, teammate, sent, at)
    threads.close(found, teammate=teammate, at=at)


def snooze(found: Conversation, teammate: User, sent: dict[str, Any], at: datetime) -> None:
    """Put it away until a time to come."""
    until = moment(sent.get("snoozed_until"), "snoozed_until")
    if until is None:
        raise Missing("snoozed_until is required", field="snoozed_until")
    if until <= at:
        raise Refused("snoozed_until must lie in the future.", field="snoozed_until")
    threads.snooze(found, until=until, teammate=teammate, at=at)


ACTS: dict[str, Callable[[Conversation, User, dict[str, Any], datetime], None]] = {
    "comment": comment,
    "note": note,
    "assignment": assign,
    "open": reopen,
    "close": close,
    "snoozed": snooze,
}


def written(sent: dict[str, Any], *, or_any: object = None) -> str:
    """The body, which must be there where nothing comes with it."""
    words = long_text_of(sent)
    if not words and not or_any:
        raise Missing("body is required", field="body")
    return words


def long_text_of(sent: dict[str, Any]) -> str:
    """The body, "" where there is none."""
    return text(sent.get("body"), "body", most=LONGEST_REPLY)


def attached(sent: dict[str, Any]) -> list[dict[str, Any]]:
    """The files at `attachment_urls`, as links: nothing is fetched."""
    urls = first_given(sent, "attachment_urls")
    urls = [] if urls is None else urls
    if not isinstance(urls, list) or len(urls) > MOST_ATTACHMENTS:
        raise Refused(f"attachment_urls is a list of at most {MOST_ATTACHMENTS} addresses.", field="attachment_urls")
    return [file_at(long_text(url, "attachment_urls")) for url in urls]


def file_at(url: str) -> dict[str, Any]:
    """What an address says of the file at it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused("attachment_urls holds what is no web address.", field="attachment_urls")
    name = PurePosixPath(parts.path).name or parts.hostname
    return {"name": name, "url": url, "content_type": mimetypes.guess_type(name)[0]}
