"""What the pages of attributes and of events share: their tabs, and the buttons that retire and bring back."""

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
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
from outbound.console.admin import ConsoleAdmin, not_done
from outbound.console.formatting import chip

TABS = (
    ("Attributes", "admin:audiences_customattribute_changelist"),
    ("Events", "admin:audiences_eventname_changelist"),
    ("Refused names", "admin:customattribute_refused"),
)


def tabs(request: HttpRequest) -> list[dict[str, Any]]:
    """The tabs of the catalogues, with how many names were refused."""
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
    """Where it is edited."""
    page = "messaging_message" if isinstance(use, Message) else "audiences_audience"
    return reverse(f"admin:{page}_change", args=[use.pk])


def name_of(use: Message | Audience) -> str:
    """What a list of uses calls it."""
    if isinstance(use, Message):
        return f"the {use.get_state_display().lower()} message “{use}”"
    return f"the segment “{use}”"


def listed(uses: Iterable[Message | Audience]) -> list[dict[str, str]]:
    """Uses as a page lists them."""
    return [{"name": name_of(use), "address": address_of(use)} for use in uses]


class InUseOrRetired(DropdownFilter):
    """All, those in use, or those that are retired."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return (("in_use", "In use"), ("retired", "Retired"))

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep those asked for."""
        if self.value() not in ("in_use", "retired"):
            return queryset
        return queryset.filter(retired_at__isnull=self.value() == "in_use")


class RetirementPages(ConsoleAdmin):
    """Names that are learnt and not typed: listed under tabs, retired and brought back by a button."""

    list_before_template = "outbound/catalogue_tabs.html"
    own_pages: tuple[tuple[str, str], ...] = (
        ("<path:object_id>/retire/", "retire"),
        ("<path:object_id>/bring-back/", "bring_back"),
    )
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A name is learnt from what is sent."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It stays, as long as anybody may have it."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, with its tabs."""
        return super().changelist_view(request, {**(extra_context or {}), "tabs": tabs(request)})

    @display(description="State", ordering="retired_at")
    def state(self, row: Any) -> SafeString:
        """Whether it is in use."""
        return chip("Retired", "plain") if row.retired_at else chip("In use", "good")

    def page_of(self, row: Any) -> str:
        """Where its buttons are."""
        return reverse(f"admin:{self.model._meta.app_label}_{self.model._meta.model_name}_change", args=[row.pk])

    def retire(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a name out of use."""
        row = self.found(request, object_id)
        if request.method != "POST":
            return not_done(request, self.page_of(row))
        try:
            with transaction.atomic():
                retirement.retire(row, at=timezone.now())
                self.note(request, row, "Retired")
        except retirement.InUse:
            messages.error(request, f"“{row.name}” was not retired: what is named below goes by it.")
        else:
            messages.success(request, f"“{row.name}” is retired. What is stored under it stays.")
        return HttpResponseRedirect(self.page_of(row))

    def bring_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a retired name into use again."""
        row = self.found(request, object_id)
        if request.method != "POST":
            return not_done(request, self.page_of(row))
        try:
            with transaction.atomic():
                retirement.restore(row)
                self.note(request, row, "Brought back into use")
        except Refused as wrong:
            messages.error(request, str(wrong))
        else:
            messages.success(request, f"“{row.name}” is in use again.")
        return HttpResponseRedirect(self.page_of(row))
