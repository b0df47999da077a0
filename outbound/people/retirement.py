"""The pages of event names, and what they share with those of attributes: tabs, and the buttons that retire a name."""

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from audiences.intake import Refused
from audiences.models import Audience, RefusedName
from delivery.maintenance import retirement
from messaging.models import Message
from outbound.console.admin import ConsoleAdmin, answer_without_button, column
from outbound.console.formatting import chip

TABS = (
    ("Attributes", "admin:audiences_customattribute_changelist"),
    ("Events", "admin:audiences_eventname_changelist"),
    ("Refused names", "admin:customattribute_refused"),
)


def tabs(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the tabs of the catalogues, with the number of refused names."""
    refused = RefusedName.objects.count()
    return [
        {
            "label": f"{label} ({refused})" if label == "Refused names" and refused else label,
            "link": reverse(page),
            "active": request.path == reverse(page),
        }
        for label, page in TABS
    ]


def address_of(use: Message | Audience) -> str:
    page = "messaging_message" if isinstance(use, Message) else "audiences_audience"
    return reverse(f"admin:{page}_change", args=[use.pk])


def name_of(use: Message | Audience) -> str:
    if isinstance(use, Message):
        return f"the {use.get_state_display().lower()} message “{use}”"
    return f"the segment “{use}”"


def use_rows(uses: Iterable[Message | Audience]) -> list[dict[str, str]]:
    return [{"name": name_of(use), "address": address_of(use)} for use in uses]


class InUseOrRetired(DropdownFilter):
    """Filter names by whether they are in use or retired."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return (("in_use", "In use"), ("retired", "Retired"))

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in ("in_use", "retired"):
            return queryset
        return queryset.filter(retired_at__isnull=self.value() == "in_use")


class RetirementPages(ConsoleAdmin):
    """Base of the catalogues. Names are learned from data, so staff cannot add or delete them, only retire them."""

    list_before_template = "outbound/people/catalogue_tabs.html"
    own_pages: tuple[tuple[str, str], ...] = (
        ("<path:object_id>/retire/", "retire"),
        ("<path:object_id>/bring-back/", "bring_back"),
    )
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), "tabs": tabs(request)})

    @display(description="State", ordering="retired_at")
    def state(self, row: Any) -> SafeString:
        return chip("Retired", "plain") if row.retired_at else chip("In use", "good")

    def page_of(self, row: Any) -> str:
        return reverse(f"admin:{self.model._meta.app_label}_{self.model._meta.model_name}_change", args=[row.pk])

    def retire(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object_or_refuse(request, object_id)
        if request.method != "POST":
            return answer_without_button(request, self.page_of(row))
        try:
            with transaction.atomic():
                retirement.retire(row, at=timezone.now())
                self.note(request, row, "Retired")
        except retirement.InUse:
            messages.error(request, f"“{row.name}” was not retired: the messages and segments use_rows below use it.")
        else:
            messages.success(request, f"“{row.name}” is retired. Its stored data stays.")
        return HttpResponseRedirect(self.page_of(row))

    def bring_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object_or_refuse(request, object_id)
        if request.method != "POST":
            return answer_without_button(request, self.page_of(row))
        try:
            with transaction.atomic():
                retirement.restore(row)
                self.note(request, row, "Brought back into use")
        except Refused as wrong:
            messages.error(request, str(wrong))
        else:
            messages.success(request, f"“{row.name}” is in use again.")
        return HttpResponseRedirect(self.page_of(row))


class EventNameAdmin(RetirementPages):
    """Event names: the list, and a page of uses with the button that retires a name."""

    list_display = ("name", "since", "state")
    since = column("created_at", called="Since")
    nothing_yet = "Events are recorded when your API or your site reports what a customer did."
    list_filter = (InUseOrRetired,)
    search_fields = ("name",)
    search_help_text = "Search by name"
    ordering = ("name",)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        event = self.get_object_or_refuse(request, object_id, to="view")
        can_change = self.has_change_permission(request, event)
        if request.method == "POST" and not can_change:
            raise PermissionDenied
        uses = retirement.uses_of(event)
        return self.page(
            request,
            "outbound/people/event_name.html",
            title=event.name,
            original=event,
            can_change=can_change,
            uses=use_rows([*uses.messages, *uses.segments]),
            blocking=use_rows(uses.blocking),
            log=self.history_of(event),
        )
