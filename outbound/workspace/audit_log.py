"""The log: who did what, when, from what to what."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, RangeDateFilter
from unfold.decorators import display

from outbound.console.admin import ReadOnlyAdmin
from outbound.templatetags.console import called

DID: dict[int, str] = {ADDITION: "Made", DELETION: "Deleted"}


class ByWhom(DropdownFilter):
    """What one teammate did."""

    title = "who"
    parameter_name = "user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Those who did anything here."""
        users = User.objects.filter(is_staff=True).order_by("first_name", "username")
        return [(str(user.pk), user.get_full_name() or user.get_username()) for user in users]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep what they did."""
        return queryset.filter(user=self.value()) if (self.value() or "").isdecimal() else queryset


class OfWhat(DropdownFilter):
    """What was done to one sort of thing."""

    title = "what"
    parameter_name = "of"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """The sorts of things that have a page."""
        kinds = ContentType.objects.get_for_models(*model_admin.admin_site._registry)  # noqa: SLF001 - what there is a page for
        found = [(str(kind.pk), name(model)) for model, kind in kinds.items() if model is not LogEntry]
        return sorted(found, key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep what was done to those."""
        return queryset.filter(content_type=self.value()) if (self.value() or "").isdecimal() else queryset


def name(model: type[Model]) -> str:
    """What staff call a table."""
    words = str(called(model._meta.verbose_name_plural))
    return words[:1].upper() + words[1:]


class LogAdmin(ReadOnlyAdmin):
    """The log, newest first. Nobody adds to it, changes it or deletes from it by hand."""

    list_display = ("when", "who", "did", "to_what")
    nothing_yet = "What your team does in the console is written down here: who did what, when, from what to what."
    list_display_links = None
    list_filter = (ByWhom, OfWhat, ("action_time", RangeDateFilter))
    # All that was done to one object.
    own_lookups = ("object_id",)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "change_message")
    search_help_text = "Search by name or by what was done"
    ordering = ("-pk",)
    actions = None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, called what staff call it."""
        return super().changelist_view(request, {**(extra_context or {}), "title": "Log"})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """There is no page of one line."""
        self.get_object_or_refuse(request, object_id, to="view")
        return HttpResponseRedirect(reverse("admin:admin_logentry_changelist"))

    @display(description="When", ordering="pk")
    def when(self, entry: LogEntry) -> Any:
        """When it was done."""
        return entry.action_time

    @display(description="Who")
    def who(self, entry: LogEntry) -> str:
        """Who did it."""
        return entry.user.get_full_name() or entry.user.get_username()

    @display(description="Did")
    def did(self, entry: LogEntry) -> str:
        """What was done, in words."""
        said = entry.get_change_message()
        return said if said and said != "Added." else DID.get(entry.action_flag, said or "Changed")

    @display(description="To what")
    def to_what(self, entry: LogEntry) -> SafeString | str:
        """What it was done to, with a way to it, and to all that was done to it."""
        if entry.content_type is None:
            return entry.object_repr
        model = entry.content_type.model_class()
        kind = format_html('<span class="ob-under">{}</span>', name(model) if model else entry.content_type.name)
        address = address_of(entry)
        if not address:
            return format_html("{}{}", entry.object_repr, kind)
        more = f"?of={entry.content_type_id}&object_id={entry.object_id}"
        return format_html(
            '<a href="{}">{}</a>{} <a class="ob-under" href="{}">All that was done to it</a>',
            address,
            entry.object_repr,
            kind,
            more,
        )


def address_of(entry: LogEntry) -> str:
    """Where the object's page is; empty where it is gone or never had one."""
    kind = entry.content_type
    if kind is None or entry.action_flag == DELETION:
        return ""
    try:
        return reverse(f"admin:{kind.app_label}_{kind.model}_change", args=[entry.object_id])
    except NoReverseMatch:
        return ""
