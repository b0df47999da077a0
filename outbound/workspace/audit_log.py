"""The audit log: each change in the console, with the teammate, the time, and the old and new values."""

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

ACTION_NAMES: dict[int, str] = {ADDITION: "Created", DELETION: "Deleted"}


class TeammateFilter(DropdownFilter):
    """Filter the log by teammate."""

    title = "teammate"
    parameter_name = "user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        users = User.objects.filter(is_staff=True).order_by("first_name", "username")
        return [(str(user.pk), user.get_full_name() or user.get_username()) for user in users]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(user=self.value()) if (self.value() or "").isdecimal() else queryset


class TypeFilter(DropdownFilter):
    """Filter the log by the type of object."""

    title = "type"
    parameter_name = "of"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Offer the types that have pages in the console."""
        kinds = ContentType.objects.get_for_models(*model_admin.admin_site._registry)  # noqa: SLF001 - the types with pages
        found = [(str(kind.pk), type_name(model)) for model, kind in kinds.items() if model is not LogEntry]
        return sorted(found, key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(content_type=self.value()) if (self.value() or "").isdecimal() else queryset


def type_name(model: type[Model]) -> str:
    words = str(called(model._meta.verbose_name_plural))
    return words[:1].upper() + words[1:]


class LogAdmin(ReadOnlyAdmin):
    """The log, newest first. It is read-only."""

    list_display = ("changed_at", "teammate", "change", "changed_object")
    nothing_yet = "Changes that your team makes in the console are listed here, with the old and new values."
    list_display_links = None
    list_filter = (TeammateFilter, TypeFilter, ("action_time", RangeDateFilter))
    # The log of one object.
    own_lookups = ("object_id",)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "change_message")
    search_help_text = "Search by name or change"
    ordering = ("-pk",)
    actions = None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), "title": "Audit log"})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Redirect to the list: entries have no pages of their own."""
        self.get_object_or_refuse(request, object_id, to="view")
        return HttpResponseRedirect(reverse("admin:admin_logentry_changelist"))

    @display(description="When", ordering="pk")
    def changed_at(self, entry: LogEntry) -> Any:
        return entry.action_time

    @display(description="Teammate")
    def teammate(self, entry: LogEntry) -> str:
        return entry.user.get_full_name() or entry.user.get_username()

    @display(description="Change")
    def change(self, entry: LogEntry) -> str:
        text = entry.get_change_message()
        return text if text and text != "Added." else ACTION_NAMES.get(entry.action_flag, text or "Changed")

    @display(description="Object")
    def changed_object(self, entry: LogEntry) -> SafeString | str:
        """Show the object with links to its page and to all its log entries."""
        if entry.content_type is None:
            return entry.object_repr
        model = entry.content_type.model_class()
        kind = format_html('<span class="ob-under">{}</span>', type_name(model) if model else entry.content_type.name)
        address = address_of(entry)
        if not address:
            return format_html("{}{}", entry.object_repr, kind)
        more = f"?of={entry.content_type_id}&object_id={entry.object_id}"
        return format_html(
            '<a href="{}">{}</a>{} <a class="ob-under" href="{}">All changes</a>',
            address,
            entry.object_repr,
            kind,
            more,
        )


def address_of(entry: LogEntry) -> str:
    """Return the URL of the object's page; empty if it is deleted or has no page."""
    kind = entry.content_type
    if kind is None or entry.action_flag == DELETION:
        return ""
    try:
        return reverse(f"admin:{kind.app_label}_{kind.model}_change", args=[entry.object_id])
    except NoReverseMatch:
        return ""
