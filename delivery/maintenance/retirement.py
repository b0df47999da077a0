"""Retired attributes and event names: what still uses one, and refusing to retire one in use.

A retired name is offered nowhere and takes no place in the catalogue. Data sent under it is stored as before, and staff
can restore it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from audiences import attributes
from audiences.intake.attributes.custom_attributes import catalogue_room
from audiences.intake.attributes.fields import Refused
from audiences.intake.source import MAX_ATTRIBUTES, Source
from audiences.models import Audience, CustomAttribute, EventName
from audiences.models.catalogue import Scope
from delivery.maintenance import attribute_kinds
from messaging import content
from messaging.models import Message, MessageVersion, State

# The content of other messages is not sent any more, so it uses no attribute.
UNSENT_STATES = (State.DRAFT, *attribute_kinds.STATES_USING_RULES)


class InUse(Exception):
    """A segment or a live, scheduled or paused message uses this name."""


@dataclass(frozen=True, slots=True)
class Uses:
    """The messages and segments whose rules or content use a name."""

    messages: list[Message]
    segments: list[Audience]

    @property
    def blocking(self) -> list[Message | Audience]:
        """Return the uses that prevent retiring."""
        going = [message for message in self.messages if message.state in attribute_kinds.STATES_USING_RULES]
        return [*going, *self.segments]


def uses_of(row: CustomAttribute | EventName) -> Uses:
    """Return the messages and segments that use an attribute or an event."""
    if isinstance(row, EventName):
        audiences, texts = audiences_using_event(row), []
    else:
        audiences, texts = list(attribute_kinds.audiences_using(row)), list(messages_using_variable(row))
    return Uses(
        messages=list(Message.objects.filter(Q(audience__in=audiences) | Q(pk__in=texts)).order_by("title", "pk")),
        segments=sorted((one for one in audiences if one.name), key=lambda one: one.name),
    )


def audiences_using_event(event: EventName) -> list[Audience]:
    """Return the audiences and segments with a rule on this event, in any spelling of its name."""
    asking = Audience.objects.extra(where=["""jsonb_path_exists(rules, '$.**.attribute ? (@ starts with "event")')"""])
    return [audience for audience in asking if event.name in set(events_in(audience.rules))]


def events_in(rules: Any) -> Iterator[str]:
    """Yield the events that stored rules name, in the spelling of the catalogue."""
    if isinstance(rules, dict):
        name = rules.get("attribute")
        if isinstance(name, str) and name.startswith(tuple(attributes.EVENT_ATTRIBUTES)):
            try:
                yield attributes.find_attribute(name, catalogue=attributes.EMPTY_CATALOGUE).key
            except LookupError:
                return
        for one in rules.get("rules") or ():
            yield from events_in(one)


def messages_using_variable(attribute: CustomAttribute) -> Iterator[int]:
    """Yield the messages, still to be sent, whose content has the attribute as a variable."""
    name = f"{attribute_kinds.PREFIX[Scope(attribute.scope)]}{attribute.name}"
    custom = "custom_attributes"
    versions = MessageVersion.objects.filter(
        Q(subject__contains=custom) | Q(body__contains=custom) | Q(link__contains=custom),
        pk__in=Message.objects.filter(state__in=UNSENT_STATES).values("version"),
    )
    for version in versions.iterator():
        try:
            used = [content.variables_in(text) for text in (version.subject, version.body, version.link)]
        except content.ContentError:
            continue  # Content with an error is never sent.
        if name in frozenset().union(*used):
            yield version.message_id


def retire(row: CustomAttribute | EventName, *, at: datetime) -> None:
    """Retire a name; raise InUse if it is in use. Stored data stays."""
    with transaction.atomic():
        attribute_kinds.lock_rules()
        if uses_of(row).blocking:
            raise InUse
        row.retired_at = row.retired_at or at
        row.save(update_fields=["retired_at"])


def restore(row: CustomAttribute | EventName) -> None:
    """Restore a retired name; raise Refused if the catalogue is full."""
    if row.retired_at is None:
        return
    if isinstance(row, CustomAttribute) and not catalogue_room(Scope(row.scope), source=Source.REST):
        raise Refused(f"The limit of {MAX_ATTRIBUTES} attributes is reached. Retire another attribute first.")
    row.retired_at = None
    row.save(update_fields=["retired_at"])
