"""Attributes and event names taken out of use: what still goes by one, and the refusal while anything does.

A retired name is offered nowhere and takes no place in the catalogue. What is sent under it is stored as before, and
staff can bring it back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from audiences import attributes
from audiences.intake.attributes.custom_attributes import room
from audiences.intake.attributes.fields import Refused
from audiences.intake.source import MOST_ATTRIBUTES, Source
from audiences.models import Audience, CustomAttribute, EventName
from audiences.models.catalogue import Scope
from delivery.maintenance import attribute_kinds
from messaging import content
from messaging.models import Message, MessageVersion, State

# A text that is not sent any more uses nothing.
UNSENT_STATES = (State.DRAFT, *attribute_kinds.STATES_USING_RULES)


class InUse(Exception):
    """A live, scheduled or paused message, or a segment, goes by this name."""


@dataclass(frozen=True, slots=True)
class Uses:
    """The messages and segments that ask about a name, or that say what it stands for."""

    messages: list[Message]
    segments: list[Audience]

    @property
    def blocking(self) -> list[Message | Audience]:
        """Those that would go by a name that is retired."""
        going = [message for message in self.messages if message.state in attribute_kinds.STATES_USING_RULES]
        return [*going, *self.segments]


def uses_of(row: CustomAttribute | EventName) -> Uses:
    """Return everything that uses an attribute or an event."""
    if isinstance(row, EventName):
        audiences, texts = audiences_using_event(row), []
    else:
        audiences, texts = list(attribute_kinds.audiences_using(row)), list(messages_using_variable(row))
    return Uses(
        messages=list(Message.objects.filter(Q(audience__in=audiences) | Q(pk__in=texts)).order_by("title", "pk")),
        segments=sorted((one for one in audiences if one.name), key=lambda one: one.name),
    )


def audiences_using_event(event: EventName) -> list[Audience]:
    """The audiences and segments with a rule about it, however the rule spells its name."""
    asking = Audience.objects.extra(where=["""jsonb_path_exists(rules, '$.**.attribute ? (@ starts with "event")')"""])
    return [audience for audience in asking if event.name in set(events_in(audience.rules))]


def events_in(rules: Any) -> Iterator[str]:
    """The events that stored rules name, as intake writes them down."""
    if isinstance(rules, dict):
        name = rules.get("attribute")
        if isinstance(name, str) and name.startswith(tuple(attributes.EVENTS)):
            try:
                yield attributes.find(name, catalogue=attributes.EMPTY).key
            except LookupError:
                return
        for one in rules.get("rules") or ():
            yield from events_in(one)


def messages_using_variable(attribute: CustomAttribute) -> Iterator[int]:
    """The messages still to be sent whose text has the attribute as a variable."""
    name = f"{attribute_kinds.PREFIX[Scope(attribute.scope)]}{attribute.name}"
    custom = "custom_attributes"
    versions = MessageVersion.objects.filter(
        Q(subject__contains=custom) | Q(body__contains=custom) | Q(link__contains=custom),
        pk__in=Message.objects.filter(state__in=UNSENT_STATES).values("version"),
    )
    for version in versions.iterator():
        try:
            used = [content.variables(text) for text in (version.subject, version.body, version.link)]
        except content.ContentError:
            continue  # A text that cannot be read says nothing to anybody.
        if name in frozenset().union(*used):
            yield version.message_id


def retire(row: CustomAttribute | EventName, *, at: datetime) -> None:
    """Take it out of use; InUse while something goes by it. What is stored stays."""
    with transaction.atomic():
        attribute_kinds.lock_rules()
        if uses_of(row).blocking:
            raise InUse
        row.retired_at = row.retired_at or at
        row.save(update_fields=["retired_at"])


def restore(row: CustomAttribute | EventName) -> None:
    """Take it into use again; Refused if the catalogue is full."""
    if row.retired_at is None:
        return
    if isinstance(row, CustomAttribute) and not room(Scope(row.scope), source=Source.REST):
        raise Refused(f"There are {MOST_ATTRIBUTES} attributes already. Retire another one first.")
    row.retired_at = None
    row.save(update_fields=["retired_at"])
