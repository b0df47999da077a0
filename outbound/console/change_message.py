"""Change messages of the log: each changed field with its old and new value."""

from collections.abc import Iterable, Mapping
from datetime import time
from itertools import takewhile
from typing import Any

from django import forms
from django.db.models import Model, QuerySet
from django.utils import timezone

from audiences.models import Audience, Workspace
from messaging import delivery_window
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Message, SendType, WindowZone
from outbound.console.wording import rules_in_one_line

MAX_VALUE_LENGTH = 200
# Equal characters to show before the first difference.
CONTEXT_LENGTH = 40


def changes(form: forms.BaseForm, *, secrets: Iterable[str] = ()) -> str:
    """Describe every changed field: “Name: from “Acme” to “Fernwood””. The values of `secrets` are left out."""
    told = []
    for name in form.changed_data:
        field = form.fields[name]
        before, after = form.get_initial_for_field(field, name), form.cleaned_data.get(name)
        if name in secrets:
            told.append(f"{label_of(form, name)}: changed")
        else:
            told.append(change_text(label_of(form, name), display_value(before, field), display_value(after, field)))
    return ". ".join(told)


def change_text(what: str, before: str, after: str) -> str:
    return f"{what}: from {before} to {after}"


def label_of(form: forms.BaseForm, name: str) -> str:
    label = str(form[name].label)
    return label[:1].upper() + label[1:]


def display_value(value: Any, field: forms.Field | None = None) -> str:
    """Format a value for the log."""
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
    text = f"{value:%H:%M}" if isinstance(value, time) else " ".join(str(value).split())
    return f"“{text}”" if len(text) <= MAX_VALUE_LENGTH else f"“{text[:MAX_VALUE_LENGTH].rstrip()}…”"


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Describe the differences between two sets of labelled values."""
    return ". ".join(
        change_text(what, *shorten_equal_start(before.get(what, ""), words))
        for what, words in after.items()
        if before.get(what, "") != words
    )


def shorten_equal_start(before: str, after: str) -> tuple[str, str]:
    """Format two texts for the log; long ones start shortly before their first difference."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    begin = same - CONTEXT_LENGTH if max(len(before), len(after)) > MAX_VALUE_LENGTH and same > CONTEXT_LENGTH else 0
    lead = "…" if begin else ""
    return tuple(display_value(f"{lead}{text[begin:]}" if text else "") for text in (before, after))  # type: ignore[return-value]


def message_fields(message: Message) -> dict[str, str]:
    """Return the editable fields of a message, labelled and in words."""
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
        "Filters are checked": message.get_checking_display() if message.is_matched_by_rounds else "",
        "Only new matches": display_value(message.only_new_matches) if message.send_type == SendType.ONGOING else "",
        "Topic": str(message.topic or ""),
        "Filters": rules_in_one_line(message.audience.rules) if message.audience else "",
        "One copy to each inbox": display_value(message.same_inbox_once) if message.channel == Channel.EMAIL else "",
        "Delivery times": delivery_times(message),
        "Also during quiet hours": display_value(message.during_quiet_hours) if message.during_quiet_hours else "",
        "Stop showing on": end_of_showing(message),
    }


def end_of_showing(message: Message) -> str:
    """Return when an in-app message stops being shown, in the workspace's time zone; "" if never."""
    if message.shown_until is None:
        return ""
    return f"{timezone.localtime(message.shown_until, Workspace.current().tz):%A %-d %B %Y at %H:%M}"


def segment_fields(segment: Audience) -> dict[str, str]:
    """Return the name and filters of a segment in words."""
    return {"Name": segment.name, "Filters": rules_in_one_line(segment.rules)}


def delivery_times(message: Message) -> str:
    """Return the delivery times of a message in words."""
    try:
        window = message.parsed_window
    except delivery_window.WindowError as wrong:
        return str(wrong)
    if message.window_zone == WindowZone.CUSTOMER and window.spans:
        return f"{delivery_window.describe_window(window, '')}, in each customer’s own time zone"
    return delivery_window.describe_window(window, Workspace.current().zone)
