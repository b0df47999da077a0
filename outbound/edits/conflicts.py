"""Conflicts: a form that was opened before someone else saved does not overwrite their version.

A page carries the version of the row that it shows, as a digest of each field. If a field has changed since, both
values are shown side by side, and the author takes either. The caller has locked the row.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils import timezone
from django.utils.choices import flatten_choices
from django.utils.datastructures import MultiValueDict
from django.utils.safestring import SafeString, mark_safe

from messaging import content
from outbound.console.admin import ConsoleAdmin
from outbound.console.lookups import teammate_name
from outbound.console.rich_text import RichTextWidget
from outbound.edits.autosave import moment_words

VERSION, CHOICE, ASKED = "seen", "take-", "asked"
MINE, THEIRS = "mine", "theirs"
# Fields of the page that are not of the row, or that the answer to a conflict gives anew.
NOT_REPEATED = {"csrfmiddlewaretoken", VERSION, ASKED, "act"}
DIGEST_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedField:
    """A field that someone else changed: both values in words, and the one that is already chosen, or ""."""

    name: str
    label: str
    mine: str | SafeString
    theirs: str | SafeString
    chosen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The fields that someone else changed, and the posted form to repeat with the choices."""

    fields: list[ChangedField]
    version: str
    posted: list[tuple[str, str]]
    is_incomplete: bool


def version_of(form: forms.BaseForm) -> str:
    """Return the version of the row that an unsaved form shows: a digest of each field."""
    return json.dumps({name: digest(stored_value(form, name)) for name in guarded_fields(form)})


def guarded_fields(form: forms.BaseForm) -> list[str]:
    return [name for name, field in form.fields.items() if not (isinstance(field, forms.FileField) or field.disabled)]


def digest(value: Any) -> str:
    return hashlib.sha256(plain_text(value).encode("utf-8", "replace")).hexdigest()[:DIGEST_LENGTH]


def plain_text(value: Any) -> str:
    """Return a value as text that is the same for equal values of a row and of a form."""
    if value is None or value is False:
        return ""
    if isinstance(value, Model):
        return str(value.pk)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="minutes")
    if isinstance(value, QuerySet | list | tuple | set):
        # Chosen rows have no order.
        return "\n".join(sorted(plain_text(one) for one in value))
    text = (json.dumps(value) if isinstance(value, dict) else str(value)).replace("\r\n", "\n").strip()
    if text[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(text), sort_keys=True)
        except (ValueError, RecursionError):
            return text
    return text


def parse_version(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def resolve(posted: Any, *, current: forms.BaseForm) -> tuple[Any, Conflict | None]:
    """Return the posted form with the choices of an earlier conflict, and the conflict that remains, or None.

    `current` is an unbound form with the values of the locked row. A post without a version is not checked.
    """
    seen, version = parse_version(posted.get(VERSION, "")), version_of(current)
    now = parse_version(version)
    changed = [name for name, value in now.items() if seen.get(name, value) != value]
    if names := [name for name in changed if differs(current, name, posted)]:
        return posted, conflict_about(names, posted, current=current, seen=seen, is_incomplete=False)
    asked = [name for name in posted.getlist(ASKED) if name in now]
    choices = {name: posted.get(f"{CHOICE}{name}", "") for name in asked}
    if not set(choices.values()) <= {MINE, THEIRS}:
        return posted, conflict_about(asked, posted, current=current, seen=seen, is_incomplete=True)
    merged = posted.copy()
    for name in (name for name, choice in choices.items() if choice == THEIRS):
        put_stored_value(merged, name, current=current)
    return merged, None


def stored_value(form: forms.BaseForm, name: str) -> Any:
    return form.get_initial_for_field(form.fields[name], name)


def posted_value(form: forms.BaseForm, name: str, posted: QueryDict) -> Any:
    """Return a posted value as the type that the row stores; as text if it is not valid."""
    field = form.fields[name]
    given = field.widget.value_from_datadict(posted, MultiValueDict(), form.add_prefix(name))
    try:
        return content.sanitise(given) if isinstance(field.widget, RichTextWidget) else field.to_python(given)
    except (ValidationError, content.ContentError):
        return given


def differs(current: forms.BaseForm, name: str, posted: QueryDict) -> bool:
    """Whether saving the posted form would change a field of the row."""
    if current.fields[name].widget.value_omitted_from_data(posted, MultiValueDict(), current.add_prefix(name)):
        return False
    return plain_text(stored_value(current, name)) != plain_text(posted_value(current, name, posted))


def put_stored_value(posted: QueryDict, name: str, *, current: forms.BaseForm) -> None:
    """Replace a posted value by the row's, as a browser would post it."""
    field, key = current.fields[name], current.add_prefix(name)
    stored = field.prepare_value(stored_value(current, name))
    if isinstance(field, forms.BooleanField):
        posted.setlist(key, ["on"] if stored else [])
        return
    if isinstance(stored, QuerySet | list | tuple | set):
        posted.setlist(key, [str(getattr(one, "pk", one)) for one in stored])
        return
    shown = field.widget.format_value(stored)
    posted.setlist(key, [str(one) for one in shown] if isinstance(shown, list | tuple) else [str(shown or "")])


def conflict_about(
    names: Iterable[str], posted: QueryDict, *, current: forms.BaseForm, seen: dict[str, str], is_incomplete: bool
) -> Conflict:
    fields = []
    for name in names:
        mine, stored = posted_value(current, name, posted), stored_value(current, name)
        label = str(current[name].label)
        chosen = posted.get(f"{CHOICE}{name}", THEIRS if digest(mine) == seen.get(name) else "")
        fields.append(
            ChangedField(
                name=name,
                label=label[:1].upper() + label[1:],
                mine=value_in_words(current.fields[name], mine),
                theirs=value_in_words(current.fields[name], stored),
                chosen=chosen,
            )
        )
    return Conflict(
        fields=fields,
        version=version_of(current),
        posted=[
            (name, value)
            for name, values in posted.lists()
            if name not in NOT_REPEATED and not name.startswith(CHOICE)
            for value in values
        ],
        is_incomplete=is_incomplete,
    )


def value_in_words(field: forms.Field, value: Any) -> str | SafeString:
    """Return a stored or posted value as staff read it."""
    if isinstance(field, forms.BooleanField):
        return "Yes" if value else "No"
    if value in (None, "", []) or (isinstance(value, QuerySet) and not value):
        return "Nothing"
    if isinstance(field.widget, RichTextWidget):
        return rich_text(str(value))
    if describe := getattr(field, "describe", None):
        return str(describe(str(value)))
    if isinstance(value, datetime):
        return f"{timezone.localtime(value):%-d %B %Y at %H:%M}"
    if isinstance(field, forms.ModelChoiceField):
        return chosen_rows(field, value)
    if isinstance(field, forms.ChoiceField):
        # Also a group of choices is a pair, of its name and its choices.
        names = dict(flatten_choices(field.choices))  # type: ignore[arg-type, var-annotated]
        values = value if isinstance(value, list | tuple) else [value]
        return ", ".join(str(names.get(one, one)) for one in values)
    return str(value)


def chosen_rows(field: "forms.ModelChoiceField[Any]", value: Any) -> str:
    """Return the names of chosen rows, given as rows or as primary keys."""
    chosen = value if isinstance(value, QuerySet | list | tuple | set) else [value]
    keys = [str(one.pk if isinstance(one, Model) else one) for one in chosen]
    rows = field.queryset.filter(pk__in=[key for key in keys if key.isdecimal()]) if field.queryset is not None else []
    return ", ".join(str(row) for row in rows) or "Nothing"


def rich_text(html: str) -> str | SafeString:
    try:
        return mark_safe(content.sanitise(html))  # noqa: S308 - sanitised
    except content.ContentError:
        return html


def conflict_page(
    admin: ConsoleAdmin, request: HttpRequest, found: Conflict, *, row: Model, is_autosaved: bool = False
) -> HttpResponse:
    """Show both values of each field that someone else changed, and post the form again with the author's choices."""
    log = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(row), object_id=str(row.pk))
    last = log.select_related("user").order_by("-action_time", "-pk").first()
    return admin.page(
        request,
        "outbound/edits/conflict.html",
        status=409,
        title=str(row),
        crumb="Compare",
        original=row,
        conflict=found,
        saved_by=teammate_name(last.user) if last else "Someone",
        saved_when=moment_words(last.action_time, at=timezone.now()) if last else "",
        is_autosaved=is_autosaved,
        lost_files=[file.name for files in request.FILES.lists() for file in files[1]],
        was_launch=request.POST.get("act", "save") != "save",
    )
