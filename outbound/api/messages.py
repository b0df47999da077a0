"""The Outbound list over HTTP: messages with what they did; renamed, paused, resumed and stopped as in the console."""

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
from audiences.api.base.openapi import PAGE, asked
from audiences.api.base.paging import paged
from audiences.api.payloads import Json, listed, tag, unix
from audiences.intake import Conflict, Refused
from audiences.intake.attributes.fields import text
from audiences.models import Tag
from delivery.reporting import counters
from messaging.models import Channel, Message, SendType, State
from messaging.models.message import MessageQuerySet
from outbound.actions import ACTS, Act

# What a PATCH may ask a message to become.
BECOMES: dict[str, Act] = {
    State.PAUSED: ACTS["pause"],
    State.LIVE: ACTS["resume"],
    State.STOPPED: ACTS["stop"],
}
LONGEST_TITLE = 200
# What a message shows and a PATCH does not change.
OF_THE_CONSOLE = ("subject", "body", "format", "scheduled_for", "to_customer", "to_company")


class MessageFilter(FilterSet):
    """What the list can be narrowed by."""

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
            asked("send_type", "Ongoing or one-off.", openapi.one_of(*SendType.values)),
            asked("state", "Where it is in its life.", openapi.one_of(*State.values)),
            asked("channel", "How it reaches people.", openapi.one_of(*Channel.values)),
            asked("tag_id", "Those with a tag."),
            *PAGE,
        )
    }

    def get(self, request: Request) -> Response:
        """List the messages to audiences, the newest first, with their counts."""
        wanted = MessageFilter(request.query_params, queryset=messages().to_audiences().order_by("-pk"))
        users.check(wanted, request)
        found, pages, total = paged(request, wanted.qs)
        return Response({"type": "message.list", "pages": pages, "total_count": total, "messages": shapes(found)})


class OneMessage(Endpoint):
    """/outbound/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """One message with its counts; one to a single person too."""
        return Response(shapes([lookups.one_of(messages(), pk)])[0])

    def patch(self, request: Request, pk: str) -> Response:
        """Change the title; pause (`state` paused), resume (live) or stop it (stopped)."""
        sent, at = body(request), timezone.now()
        with transaction.atomic():
            message = lookups.one_of(messages(), pk)
            check_lock(message, sent)
            if "title" in sent:
                rename(message, sent["title"], request=request)
            if "state" in sent:
                become(message, text(sent["state"], "state"), request=request, at=at)
        return Response(shapes([lookups.one_of(messages(), pk)])[0])


def messages() -> MessageQuerySet:
    """All messages, with what their shapes show."""
    return Message.objects.select_related("sender", "version").prefetch_related("tags")


def check_lock(message: Message, sent: dict[str, Any]) -> None:
    """Refuse what is locked once live by name, and leave all else that is not changed here to the console."""
    for field in Message.LOCKED_ONCE_LIVE:
        if field in sent and text_or_none(sent[field]) != text_or_none(shape_of(message)[field]):
            if message.is_locked:
                raise Conflict(f"This message has been live. Its {field} can no longer be changed.", field=field)
            raise Refused(f"The {field} is chosen in the console.", field=field)
    shape = shape_of(message)
    for field in OF_THE_CONSOLE:
        if field in sent and text_or_none(sent[field]) != text_or_none(shape[field]):
            raise Refused(f"The {field} is changed in the console.", field=field)


def text_or_none(value: Any) -> str | None:
    """A value as it is compared."""
    return None if value is None else str(value)


def rename(message: Message, title: Any, *, request: Request) -> None:
    """Give it another title."""
    read = text(title, "title", most=LONGEST_TITLE)
    if not read:
        raise Refused("A message needs a title.", field="title")
    if read != message.title:
        Message.objects.filter(pk=message.pk).update(title=read)
        log(message, f"Renamed, was “{message.title}”", request=request)


def become(message: Message, state: str, *, request: Request, at: datetime) -> None:
    """Pause, resume or stop it, and log who did; what it is already needs nothing."""
    if state not in BECOMES:
        raise Refused(f"state is one of {', '.join(BECOMES)}.", field="state")
    if state == message.state:
        return
    try:
        BECOMES[state].do(message, at=at)
    except ValidationError as no:
        raise Conflict(" ".join(no.messages), field="state") from no
    log(message, BECOMES[state].logged, request=request)


def log(message: Message, words: str, *, request: Request) -> None:
    """Write into the console's log that the integration did it."""
    done_by = int(request.user.pk or 0)
    LogEntry.objects.log_actions(done_by, [message], CHANGE, words, single_object=True)


def shapes(found: list[Message]) -> list[Json]:
    """Messages with what they did, read for all of them at once."""
    numbers = counters.counts_of([message.pk for message in found])
    return [{**shape_of(message), "counts": counted(numbers[message.pk])} for message in found]


def counted(of: counters.Counts) -> dict[str, int]:
    """What a message did, by name."""
    return {name: of.value_of(name) for name in counters.COUNTED}


def shape_of(message: Message) -> Json:
    """A message as it stands."""
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
        "to_customer": str(message.to_customer_id) if message.to_customer_id else None,
        "to_company": str(message.to_company_id) if message.to_company_id else None,
        "tags": listed("tag", map(tag, message.tags.all())),
        "trouble": message.trouble or None,
        "scheduled_for": unix(message.scheduled_for),
        "went_live_at": unix(message.went_live_at),
        "created_at": unix(message.created_at),
        "updated_at": unix(message.updated_at),
    }
