"""Endpoints of the Outbound list: list messages with their counts; rename, pause, resume and stop them."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django_filters import CharFilter, ChoiceFilter, FilterSet, ModelChoiceFilter
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api import users
from audiences.api.base import lookups, openapi
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.openapi import PAGE, Parameter
from audiences.api.base.paging import page_rows
from audiences.api.payloads import Json, list_payload, tag, unix
from audiences.intake import Conflict, Refused
from audiences.intake.attributes.fields import read_text
from audiences.models import Tag
from audiences.transactions import retried
from delivery.conversations.payloads import MESSAGE_PREFIX, message_id
from delivery.reporting import counters
from messaging.models import Channel, Message, SendType, State
from messaging.models.message import MessageQuerySet
from outbound import actions
from outbound.actions import ACTS, Act
from outbound.api import drafts
from outbound.composer import tags
from outbound.console import audit

# States that a PATCH may set, and their actions.
ACTION_FOR_STATE: dict[str, Act] = {
    State.PAUSED: ACTS["pause"],
    State.LIVE: ACTS["resume"],
    State.STOPPED: ACTS["stop"],
}
MAX_TITLE_LENGTH = 200
# Fields that follow from others, with the reason or the way to change them.
COMPUTED_FIELDS: dict[str, str] = {
    "per_company": "It follows from the text: a company variable sends it once for each company.",
    "audience": "Change the audience by rules.",
    "to_customer": "Send a message to one person by POST /messages.",
    "to_company": "Send a message to one person by POST /messages.",
    "scheduled_for": "Schedule the message by POST /outbound/{id}/schedule.",
}


class MessageFilter(FilterSet):
    """Filters of the list."""

    send_type = ChoiceFilter(choices=SendType.choices)
    state = ChoiceFilter(choices=State.choices)
    channel = ChoiceFilter(choices=Channel.choices)
    tag_id = ModelChoiceFilter(field_name="tags", queryset=lambda request: Tag.objects.all())
    topic = CharFilter(field_name="topic__name", lookup_expr="iexact")

    class Meta:
        model = Message
        fields: list[str] = []


class Outbound(Endpoint):
    """/outbound."""

    rights = {"post": "send"}

    parameters = {
        "get": (
            Parameter("send_type", "Only messages of this send type.", openapi.one_of(*SendType.values)),
            Parameter("state", "Only messages in this state.", openapi.one_of(*State.values)),
            Parameter("channel", "Only messages of this channel.", openapi.one_of(*Channel.values)),
            Parameter("tag_id", "Only messages with this tag."),
            Parameter("topic", "Only messages with the topic of this name."),
            *PAGE,
        )
    }

    def get(self, request: Request) -> Response:
        """List messages with their counts, newest first. Direct messages are not listed."""
        wanted = MessageFilter(request.query_params, queryset=messages_with_relations().to_audiences().order_by("-pk"))
        users.check_filter(wanted, request)
        found, pages, total = page_rows(request, wanted.qs)
        return Response(
            {"type": "message.list", "pages": pages, "total_count": total, "messages": message_payloads(found)}
        )

    def post(self, request: Request) -> Response:
        """Create a draft of a message to an audience."""
        sent, (by, logged_as) = body(request), drafts.callers(request)
        for field, reason in COMPUTED_FIELDS.items():
            if sent.get(field) not in (None, "", False):
                raise Refused(f"The {field} cannot be set. {reason}", field=field)
        with transaction.atomic():
            at = timezone.now()
            draft = drafts.create_draft(sent, by=by, logged_as=logged_as, at=at)
            tags.set_tags(draft, drafts.read_tag_names(sent.get("tags")), logged_as=logged_as, at=at)
        return message_response(message_id(draft.pk))


class OneMessage(Endpoint):
    """/outbound/{id}."""

    # Its state and content decide what customers receive.
    rights = {"patch": "send"}

    def get(self, request: Request, pk: str) -> Response:
        """Find a message with its counts, also a direct message."""
        return Response(message_payloads([find_message(pk)])[0])

    def patch(self, request: Request, pk: str) -> Response:
        """Change a message; the state `paused` pauses, `live` resumes and `stopped` stops it."""
        sent, at, (by, logged_as) = body(request), timezone.now(), drafts.callers(request)
        change_message(pk, sent, by=by, logged_as=logged_as, at=at)
        return message_response(pk)


@retried
def change_message(pk: str, sent: dict[str, Any], *, by: User, logged_as: User, at: datetime) -> None:
    """Carry out all changes or none."""
    message = find_message(pk)
    if message.state == State.DRAFT:
        # The lock that the composer takes, too.
        Message.objects.select_for_update(of=("self",)).get(pk=message.pk)
        message = find_message(pk)
    changed = changed_fields(message, sent)
    state = read_text(changed.get("state"), "state")
    # Pausing and stopping wait for batches and rounds, which change the row, so they come before the row is locked.
    if "state" in changed and state != State.LIVE:
        change_state(message, state, logged_as=logged_as, at=at)
    if "title" in changed:
        rename_message(message, changed["title"], logged_as=logged_as)
    if "tags" in changed:
        tags.set_tags(message, drafts.read_tag_names(changed["tags"]), logged_as=logged_as, at=at)
    edited = {key: value for key, value in changed.items() if key in drafts.WRITABLE_KEYS and key != "title"}
    if edited:
        drafts.edit(message, edited, by=by, logged_as=logged_as, at=at)
    if state == State.LIVE:
        change_state(message, state, logged_as=logged_as, at=at)


def message_response(pk: str) -> Response:
    """Return a response with the message as it is now."""
    return Response(message_payloads([find_message(pk)])[0])


def find_message(value: str) -> Message:
    """Return the message with this id, also without the prefix, which ids had before. Raise Unknown (404) if none."""
    return lookups.get_row(messages_with_relations(), value.removeprefix(MESSAGE_PREFIX))


def messages_with_relations() -> MessageQuerySet:
    return Message.objects.select_related("sender", "version", "audience", "topic").prefetch_related("tags")


def changed_fields(message: Message, sent: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not sent as they are. Refuse changes of locked and of computed fields."""
    current = message_payload(message)
    changed = {key: value for key, value in sent.items() if key in current and is_other(value, current[key])}
    for field in changed:
        if field in Message.LOCKED_ONCE_LIVE and message.is_locked:
            raise Conflict(f"This message has been live. Its {field} can no longer be changed.", field=field)
        if field in COMPUTED_FIELDS:
            raise Refused(f"The {field} cannot be set. {COMPUTED_FIELDS[field]}", field=field)
    return changed


def is_other(value: Any, current: Any) -> bool:
    """Return whether a sent value differs from the current one; a number may be sent as its text."""
    plain = (str, int, float, bool)
    return str(value) != str(current) if isinstance(value, plain) and isinstance(current, plain) else value != current


def rename_message(message: Message, title: Any, *, logged_as: User) -> None:
    """Change the title and log the change."""
    new_title = read_text(title, "title", most=MAX_TITLE_LENGTH)
    if not new_title:
        raise Refused("A message needs a title.", field="title")
    if new_title != message.title:
        Message.objects.filter(pk=message.pk).update(title=new_title)
        audit.log_change(logged_as, message, f"Renamed, was “{message.title}”")
        message.title = new_title


def change_state(message: Message, state: str, *, logged_as: User, at: datetime) -> None:
    """Pause, resume or stop the message and log the change."""
    if state not in ACTION_FOR_STATE:
        raise Refused(f"state must be one of {', '.join(ACTION_FOR_STATE)}.", field="state")
    try:
        actions.do_and_log(logged_as, message, ACTION_FOR_STATE[state], at=at)
    except ValidationError as refusal:
        raise Conflict(" ".join(refusal.messages), field="state") from refusal


def message_payloads(found: list[Message]) -> list[Json]:
    """Return the payloads of messages, with the counts of all loaded at once."""
    numbers = counters.counts_of([message.pk for message in found])
    return [{**message_payload(message), "counts": counts_payload(numbers[message.pk])} for message in found]


def counts_payload(counts: counters.Counts) -> dict[str, int]:
    return {name: counts.value_of(name) for name in counters.COUNTED}


def message_payload(message: Message) -> Json:
    sender = message.sender
    return {
        "type": "message",
        "id": message_id(message.pk),
        "title": message.title,
        "channel": message.channel,
        "format": message.format or None,
        "style": message.style,
        "send_type": message.send_type,
        "state": message.state,
        "subject": message.version.subject if message.version else "",
        "body": message.version.body if message.version else "",
        "link": message.version.link if message.version else "",
        "version": message.version.number if message.version else None,
        "sender": sender and {"type": "sender", "id": str(sender.pk), "name": sender.name, "email": sender.email},
        "audience": str(message.audience_id) if message.audience_id else None,
        "rules": message.audience.rules if message.audience else {},
        "window": message.window,
        "window_zone": message.window_zone,
        "during_quiet_hours": message.during_quiet_hours,
        "checking": message.checking,
        "same_inbox_once": message.same_inbox_once,
        "per_company": message.goes_per_company,
        "only_new_matches": message.only_new_matches,
        "topic": message.topic.name if message.topic else None,
        "shown_until": unix(message.shown_until),
        "to_customer": str(message.to_customer_id) if message.to_customer_id else None,
        "to_company": str(message.to_company_id) if message.to_company_id else None,
        "tags": list_payload("tag", map(tag, message.tags.all())),
        "trouble": message.problem or None,  # The API keeps this key for its clients.
        "paused_because": message.paused_because or None,
        "scheduled_for": unix(message.scheduled_for),
        "launching_at": unix(message.launching_at),
        "sample_size": message.sample_size,
        "went_live_at": unix(message.went_live_at),
        "created_at": unix(message.created_at),
        "updated_at": unix(message.updated_at),
    }
