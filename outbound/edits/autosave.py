"""Autosave: the text of a long form is stored while its author types, and restored when they open the form again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse, QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audiences.models import Customer
from messaging.models import Autosave, FormVisit
from messaging.models.autosave import AUTOSAVES_KEPT
from outbound.console.admin import teammate
from outbound.console.lookups import teammate_name
from outbound.edits.forms import ERASED, FoundForm, find_form

# Fifty times as long as a long email.
MAX_LENGTH = 300_000
# Typed again for each attempt, so never restored.
NOT_RESTORED = {"ticket", "confirm"}
TOO_LONG = (
    f"This text has more than {MAX_LENGTH:,} characters, so it is not saved automatically. Save it with the button."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenForm:
    """What a page needs to autosave its form: the names of the form and the tab, and the text that it restored."""

    name: str
    tab: UUID
    page: UUID
    opened_at: datetime
    revision: int = 0
    restored: Autosave | None = None
    # Whether the form shows posted text, which was refused.
    is_bound: bool = False
    max_length: int = MAX_LENGTH

    @property
    def fields(self) -> dict[str, list[str]]:
        return (self.restored.fields or {}) if self.restored else {}

    @property
    def restored_when(self) -> str:
        return moment_words(self.restored.typed_at, at=self.opened_at) if self.restored else ""

    @property
    def seen(self) -> str:
        """Return the version of the row that the restored text was typed for, or ""."""
        return next(iter(self.fields.get("seen", [])), "")

    def fill(self, form: forms.BaseForm) -> None:
        """Show the restored text as the form's initial values."""
        if self.restored is None:
            return
        data = QueryDict(mutable=True)
        for name, values in self.fields.items():
            data.setlist(name, values)
        for name, field in form.fields.items():
            if name in NOT_RESTORED or isinstance(field, forms.FileField):
                continue
            value = field.widget.value_from_datadict(data, {}, form.add_prefix(name))
            if isinstance(field, forms.DateTimeField):
                value = parse_moment(value)
            form.initial[name] = value


def parse_moment(value: Any) -> datetime | None:
    """Parse a date with a time; None if it is not valid."""
    try:
        return parse_datetime(str(value or ""))
    except ValueError:
        return None


def parse_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def open_form(request: HttpRequest, name: str, *, at: datetime, **typed_for: str) -> OpenForm:
    """Return the state of a form for its page, with the newest text of this teammate that was not saved.

    With `typed_for`, only a text that was typed in a form with these values is restored. A page that answers a post
    keeps its tab, because it shows the posted text.
    """
    mine = Autosave.objects.filter(teammate=teammate(request), form=name)
    opened = partial(OpenForm, name=name, page=uuid4(), opened_at=at)
    if request.method == "POST":
        tab = parse_uuid(request.POST.get("autosave", "")) or uuid4()
        row = mine.filter(tab=tab).first()
        return opened(tab=tab, revision=row.revision if row else 0, is_bound=True)
    values = {f"fields__{field}": [value] for field, value in typed_for.items()}
    found = mine.open().filter(**values).order_by("-typed_at").first()
    return opened(tab=found.tab, revision=found.revision, restored=found) if found else opened(tab=uuid4())


def close_form(request: HttpRequest, name: str, *, at: datetime) -> None:
    """Delete the autosave of a form that was saved, and tell the others who have it open."""
    me = teammate(request)
    if tab := parse_uuid(request.POST.get("autosave", "")):
        end_autosave(me, name, tab=tab, at=at)
    note_saved(request, name, at=at)


def note_saved(request: HttpRequest, name: str, *, at: datetime) -> None:
    """Tell the others who have the form open that it was saved."""
    saved = {"saved_at": at, "seen_at": at}
    FormVisit.objects.update_or_create(form=name, teammate=teammate(request), defaults=saved)


def end_autosave(me: User, name: str, *, tab: UUID, at: datetime) -> None:
    ended = {"fields": None, "customer": None, "typed_at": at}
    Autosave.objects.update_or_create(
        teammate=me, form=name, tab=tab, defaults=ended, create_defaults={**ended, "page": tab}
    )


def receive(request: HttpRequest) -> HttpResponse:
    """Take a report of an open page: text to store or to discard, or only that the form is open."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    at, me, posted = timezone.now(), teammate(request), request.POST
    if posted.get("teammate") != str(me.pk):
        return refusal("Another teammate is logged in here. Your text is kept in this browser.", status=400)
    try:
        form = find_form(posted.get("form", ""), request)
    except PermissionDenied:
        return refusal("Your role no longer allows this form. Your text is kept in this browser.", status=403)
    except Http404:
        return refusal("This was deleted, so your text is not saved automatically.", status=404)
    answer: dict[str, Any] = {}
    tab = parse_uuid(posted.get("tab", ""))
    if tab and form.kind and posted.get("discard"):
        end_autosave(me, form.name, tab=tab, at=at)
    elif tab and form.kind and "fields" in posted:
        stored = store_text(me, form, tab=tab, posted=posted, at=at)
        if isinstance(stored, HttpResponse):
            return stored
        answer = stored
    return JsonResponse({**answer, **company_of(me, form, since=parse_moment(posted.get("opened")), at=at)})


def refusal(text: str, *, status: int) -> JsonResponse:
    return JsonResponse({"wrong": text}, status=status)


def company_of(me: User, form: FoundForm, *, since: datetime | None, at: datetime) -> dict[str, Any]:
    """Note the visit; return the names of the others who have the form open, and who saved it since the page opened."""
    if form.is_new:
        return {"others": [], "saved": None}
    FormVisit.objects.update_or_create(form=form.name, teammate=me, defaults={"seen_at": at})
    others = FormVisit.objects.filter(form=form.name).exclude(teammate=me).select_related("teammate")
    present = others.present(at=at).order_by("teammate__first_name", "teammate__username")
    saved = None
    if since is not None and timezone.is_aware(since):
        saved = others.filter(saved_at__gt=since).order_by("-saved_at").first()
    return {
        "others": [teammate_name(visit.teammate) for visit in present],
        "saved": saved and saved.saved_at and {"by": teammate_name(saved.teammate), "at": clock_time(saved.saved_at)},
    }


def clock_time(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%H:%M}"


def moment_words(moment: datetime, *, at: datetime) -> str:
    """Return "at 14:05", with the day if it is another one."""
    local = timezone.localtime(moment)
    day = "" if local.date() == timezone.localtime(at).date() else f"on {local:%-d %B} "
    return f"{day}at {clock_time(moment)}"


def store_text(
    me: User, form: FoundForm, *, tab: UUID, posted: Mapping[str, str], at: datetime
) -> dict[str, Any] | HttpResponse:
    """Store the fields of a form; return the new revision, or the refusal.

    If the text was ended or continued in another tab, the page continues under a new name.
    """
    if len(posted["fields"]) > MAX_LENGTH:
        return refusal(TOO_LONG, status=413)
    fields, page = parse_fields(posted["fields"]), parse_uuid(posted.get("page", ""))
    if fields is None or page is None:
        return refusal("This text could not be read. Reload the page and try again.", status=400)
    typed_at = at - min(AUTOSAVES_KEPT, timedelta(milliseconds=parse_count(posted.get("age", ""))))
    written = {"fields": fields, "page": page, "customer_id": form.customer_id, "typed_at": typed_at}
    with transaction.atomic():
        # Erasing locks the customer too, so no text about them is stored after it.
        if form.customer_id and not Customer.objects.filter(pk=form.customer_id).exclude(ERASED).lock():
            return refusal("This person was erased.", status=404)
        row, is_created = Autosave.objects.select_for_update().get_or_create(
            teammate=me, form=form.name, tab=tab, defaults=written
        )
        if not is_created:
            if row.fields is None:
                return {"new_tab": uuid4(), "is_ended": True}
            if row.page != page and row.revision != parse_count(posted.get("revision", "")):
                # Another tab continued this text. Both texts are kept.
                return {"new_tab": uuid4()}
            if row.page != page or typed_at >= row.typed_at:
                row.fields, row.page, row.customer_id, row.typed_at = fields, page, form.customer_id, typed_at
                row.revision += 1
                row.save()
    newer = Autosave.objects.open().filter(teammate=me, form=form.name, typed_at__gt=row.typed_at)
    return {"revision": row.revision, "saved_at": clock_time(at), "is_newest": not newer.exists()}


def parse_count(text: str) -> int:
    """Parse a number of at most 12 digits; 0 if it is not valid."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else 0


def parse_fields(text: str) -> dict[str, list[str]] | None:
    """Parse the fields of a form, each with its values; None if they are not valid."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(values, list) for values in found.values()):
        return None
    # PostgreSQL stores neither null characters nor halves of a character.
    return {
        storable(name): [storable(value) for value in values if isinstance(value, str)]
        for name, values in found.items()
    }


def storable(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "ignore").decode()
