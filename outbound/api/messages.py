"""Endpoints of the Outbound list: list messages with their counts; rename, pause, resume and stop them."""

from datetime import datetime
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django_filters import ChoiceFilter, FilterSet, ModelChoiceFilter
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
from delivery.reporting import counters
from messaging.models import Channel, Message, SendType, State
from messaging.models.message import MessageQuerySet
from outbound.actions import ACTS, Act

# States that a PATCH may set, and their actions.
ACTION_FOR_STATE: dict[str, Act] = {
    State.PAUSED: ACTS["pause"],
    State.LIVE: ACTS["resume"],
    State.STOPPED: ACTS["stop"],
}
MAX_TITLE_LENGTH = 200
# Fields that can be changed only in the console.
CONSOLE_FIELDS = ("subject", "body", "format", "scheduled_for", "to_customer", "to_company")


class MessageFilter(FilterSet):
    """Filters of the list."""

    send_type = ChoiceFilter(choices=SendType.choices)
    state = ChoiceFilter(choices=State.choices)
    channel = ChoiceFilter(choices=Channel.choices)
    tag_id = ModelChoiceFilter(field_name="tags", queryset=lambda request: Tag.objects.all())

    class Meta:
        model = Message
        fields: list[str] = []


class Outbound(Endpoint):
    """/outbound."""

    parameters = {
        "get": (
            Parameter("send_type", "Only messages of this send type.", openapi.one_of(*SendType.values)),
            Parameter("state", "Only messages in this state.", openapi.one_of(*State.values)),
            Parameter("channel", "Only messages of this channel.", openapi.one_of(*Channel.values)),
            Parameter("tag_id", "Only messages with this tag."),
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


class OneMessage(Endpoint):
    """/outbound/{id}."""

    # Its state and content decide what customers receive.
    rights = {"patch": "send"}

    def get(self, request: Request, pk: str) -> Response:
        """Find a message with its counts, also a direct message."""
        return Response(message_payloads([lookups.get_row(messages_with_relations(), pk)])[0])

    def patch(self, request: Request, pk: str) -> Response:
        """Change the title, or the state: `paused` pauses, `live` resumes and `stopped` stops the message."""
        sent, at = body(request), timezone.now()
        with transaction.atomic():
            message = lookups.get_row(messages_with_relations(), pk)
            refuse_locked_fields(message, sent)
            if "title" in sent:
                rename_message(message, sent["title"], request=request)
            if "state" in sent:
                change_state(message, read_text(sent["state"], "state"), request=request, at=at)
        return Response(message_payloads([lookups.get_row(messages_with_relations(), pk)])[0])


def messages_with_relations() -> MessageQuerySet:
    return Message.objects.select_related("sender", "version").prefetch_related("tags")


def refuse_locked_fields(message: Message, sent: dict[str, Any]) -> None:
    """Refuse changes to fields that are locked once live, or that can be changed only in the console."""
    for field in Message.LOCKED_ONCE_LIVE:
        if field in sent and text_or_none(sent[field]) != text_or_none(message_payload(message)[field]):
            if message.is_locked:
                raise Conflict(f"This message has been live. Its {field} can no longer be changed.", field=field)
            raise Refused(f"The {field} can be chosen only in the console.", field=field)
    current = message_payload(message)
    for field in CONSOLE_FIELDS:
        if field in sent and text_or_none(sent[field]) != text_or_none(current[field]):
            raise Refused(f"The {field} can be changed only in the console.", field=field)


def text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def rename_message(message: Message, title: Any, *, request: Request) -> None:
    """Change the title and log the change."""
    new_title = read_text(title, "title", most=MAX_TITLE_LENGTH)
    if not new_title:
        raise Refused("A message needs a title.", field="title")
    if new_title != message.title:
        Message.objects.filter(pk=message.pk).update(title=new_title)
        log_change(message, f"Renamed, was “{message.title}”", request=request)


def change_state(message: Message, state: str, *, request: Request, at: datetime) -> None:
    """Pause, resume or stop the message and log the change. Do nothing if it has the state already."""
    if state not in ACTION_FOR_STATE:
        raise Refused(f"state must be one of {', '.join(ACTION_FOR_STATE)}.", field="state")
    if state == message.state:
        return
    try:
        ACTION_FOR_STATE[state].do(message, at=at)
    except ValidationError as refusal:
        raise Conflict(" ".join(refusal.messages), field="state") from refusal
    log_change(message, ACTION_FOR_STATE[state].logged, request=request)


def log_change(message: Message, words: str, *, request: Request) -> None:
    """Add an entry to the audit log in the name of the integration."""
    done_by = int(request.user.pk or 0)
    LogEntry.objects.log_actions(done_by, [message], CHANGE, words, single_object=True)


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
        "id": str(message.pk),
        "title": message.title,
        "channel": message.channel,
        "format": message.format or None,
        "send_type": message.send_type,
        "state": message.state,
        "subject": message.version.subject if message.version else "",
        "body": message.version.body if message.version else "",
        "sender": sender and {"type": "sender", "id": str(sender.pk), "name": sender.name, "email": sender.email},
        "audience": str(message.audience_id) if message.audience_id else None,
        "per_company": message.goes_per_company,
        "only_new_matches": message.only_new_matches,
        "to_customer": str(message.to_customer_id) if message.to_customer_id else None,
        "to_company": str(message.to_company_id) if message.to_company_id else None,
        "tags": list_payload("tag", map(tag, message.tags.all())),
        "trouble": message.problem or None,  # The API keeps this key for its clients.
        "scheduled_for": unix(message.scheduled_for),
        "went_live_at": unix(message.went_live_at),
        "created_at": unix(message.created_at),
        "updated_at": unix(message.updated_at),
    }
