"""What the log says of a change: each field with what it was and what it is."""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

from django import forms
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from audiences.models import Audience, Workspace
from messaging import delivery_window
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Message, WindowZone
from outbound.console.admin import ConsoleAdmin
from outbound.console.wording import in_one_line

LONGEST = 200
# How much of what is the same stands before the first word that is not.
BEFORE = 40


def changes(form: forms.BaseForm, *, secrets: Iterable[str] = ()) -> str:
    """Every field that changed, in words: “Name: from “Acme” to “Fernwood”.” A secret's value is not told."""
    told = []
    for name in form.changed_data:
        field = form.fields[name]
        before, after = form.get_initial_for_field(field, name), form.cleaned_data.get(name)
        if name in secrets:
            told.append(f"{label_of(form, name)}: changed")
        else:
            told.append(from_to(label_of(form, name), display_value(before, field), display_value(after, field)))
    return ". ".join(told)


def from_to(what: str, before: str, after: str) -> str:
    """One change in words."""
    return f"{what}: from {before} to {after}"


def label_of(form: forms.BaseForm, name: str) -> str:
    """What the form calls a field."""
    label = str(form[name].label)
    return label[:1].upper() + label[1:]


def display_value(value: Any, field: forms.Field | None = None) -> str:
    """A value as the log shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", [], ()):
        return "nothing"
    if isinstance(field, forms.ModelChoiceField) and not isinstance(value, Model | QuerySet | list | tuple):
        value = field.queryset.filter(pk=value).first() if field.queryset is not None else value
    if isinstance(value, QuerySet | list | tuple | set):
        return ", ".join(display_value(one) for one in value) or "nothing"
    if isinstance(field, forms.ChoiceField) and not isinstance(field, forms.ModelChoiceField):
        value = dict(field.choices).get(value, value)  # type: ignore[arg-type]
    text = " ".join(str(value).split())
    return f"“{text}”" if len(text) <= LONGEST else f"“{text[:LONGEST].rstrip()}…”"


def between(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What became different, from what to what; what is the same is not told."""
    return ". ".join(
        from_to(what, *apart(before.get(what, ""), words))
        for what, words in after.items()
        if before.get(what, "") != words
    )


def apart(before: str, after: str) -> tuple[str, str]:
    """Two texts as the log shows them: long ones from a little before where they part."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    begin = same - BEFORE if max(len(before), len(after)) > LONGEST and same > BEFORE else 0
    lead = "…" if begin else ""
    return tuple(display_value(f"{lead}{text[begin:]}" if text else "") for text in (before, after))  # type: ignore[return-value]


def of_message(message: Message) -> dict[str, str]:
    """What staff can edit of a message, in words."""
    version = message.version
    return {
        "Name": message.title,
        "Channel": message.get_channel_display(),
        "Form": message.get_format_display() if message.format else "",
        "Style": message.get_style_display() if message.channel == Channel.EMAIL else "",
        "From": str(message.sender) if message.sender else "",
        "Subject": version.subject if version else "",
        "Text": html_to_text(version.body) if version else "",
        "Link": version.link if version else "",
        "Sends": message.get_send_type_display(),
        "Filters": in_one_line(message.audience.rules) if message.audience else "",
        "One copy to each inbox": display_value(message.same_inbox_once) if message.channel == Channel.EMAIL else "",
        "Delivery times": hours_of(message),
    }


def of_segment(segment: Audience) -> dict[str, str]:
    """What a segment is called and asks, in words."""
    return {"Name": segment.name, "Filters": in_one_line(segment.rules)}


def hours_of(message: Message) -> str:
    """When it may be delivered, in words."""
    try:
        window = message.parsed_window
    except delivery_window.WindowError as wrong:
        return str(wrong)
    if message.window_zone == WindowZone.CUSTOMER and window.spans:
        return f"{delivery_window.describe_window(window, '')}, by each customer’s own clock"
    return delivery_window.describe_window(window, Workspace.current().zone)


class ToldAdmin(ConsoleAdmin):
    """An admin whose changes are told with old and new values."""

    # Fields whose values nobody reads in a log.
    secrets: tuple[str, ...] = ()

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        """What was changed, from what to what."""
        if add:
            return [{"added": {}}]
        return changes(form, secrets=self.secrets) or "Saved without a change"
