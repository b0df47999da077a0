"""What the log says of a change: each field with what it was and what it is."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from outbound.console import ConsoleAdmin

LONGEST = 200


def changes(form: forms.BaseForm, *, secrets: Iterable[str] = ()) -> str:
    """Every field that changed, in words: “Name: from “Acme” to “Fernwood”.” A secret's value is not told."""
    told = []
    for name in form.changed_data:
        field = form.fields[name]
        before, after = form.get_initial_for_field(field, name), form.cleaned_data.get(name)
        if name in secrets:
            told.append(f"{label_of(form, name)}: changed")
        else:
            told.append(from_to(label_of(form, name), shown(before, field), shown(after, field)))
    return ". ".join(told)


def from_to(what: str, before: str, after: str) -> str:
    """One change in words."""
    return f"{what}: from {before} to {after}"


def label_of(form: forms.BaseForm, name: str) -> str:
    """What the form calls a field."""
    label = str(form[name].label)
    return label[:1].upper() + label[1:]


def shown(value: Any, field: forms.Field | None = None) -> str:
    """A value as the log shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", [], ()):
        return "nothing"
    if isinstance(field, forms.ModelChoiceField) and not isinstance(value, Model | QuerySet | list | tuple):
        value = field.queryset.filter(pk=value).first() if field.queryset is not None else value
    if isinstance(value, QuerySet | list | tuple | set):
        return ", ".join(shown(one) for one in value) or "nothing"
    if isinstance(field, forms.ChoiceField) and not isinstance(field, forms.ModelChoiceField):
        value = dict(field.choices).get(value, value)  # type: ignore[arg-type]
    text = " ".join(str(value).split())
    return f"“{text}”" if len(text) <= LONGEST else f"“{text[:LONGEST].rstrip()}…”"


class ToldAdmin(ConsoleAdmin):
    """An admin whose changes are told with old and new values."""

    # Fields whose values nobody reads in a log.
    secrets: tuple[str, ...] = ()

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        """What was changed, from what to what."""
        if add:
            return [{"added": {}}]
        return changes(form, secrets=self.secrets) or "Saved without a change"
