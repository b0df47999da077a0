"""The settings staff keep: senders, tags, the workspace and the schedule."""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from audiences.models import Workspace
from delivery import tasks
from delivery.eligibility import frequency_cap
from messaging import delivery_window
from outbound.composer import images
from outbound.console.change_message import ToldAdmin


def hold_by_the_new_cap() -> None:
    """Have who waits by the old cap wait by the new one, or not at all."""
    if frequency_cap.recheck_capped_records(at=timezone.now()):
        tasks.enqueue_dispatch()


class WorkspaceForm(forms.ModelForm):
    """The workspace; its office hours are typed day by day."""

    logo_upload = forms.FileField(
        required=False,
        label="Logo",
        widget=forms.FileInput({"accept": "image/png,image/jpeg,image/gif,image/webp", "class": "ob-input"}),
        help_text="A picture at most 5 MB, shown 40 pixels high. Branded emails begin with it.",
    )
    remove_logo = forms.BooleanField(required=False, widget=UnfoldBooleanWidget())

    class Meta:
        model = Workspace
        fields = (
            *("name", "zone", "postal_address", "colour", "confirm_above", "drift_percent"),
            *("cap_messages", "cap_days", "answer_by_email_after", "track_emails"),
            *("alarm_to", "keep_events_days", "keep_copies_days"),
        )
        widgets = {
            "colour": UnfoldAdminTextInputWidget({"placeholder": "#2563eb"}),
            "alarm_to": UnfoldAdminTextInputWidget({"placeholder": "ops@example.com"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        typed = by_day(self.instance.office_hours)
        for day in delivery_window.DAYS:
            # Only what the page shows: a teammate who may only look has none of these.
            if day in self.fields:
                self.initial[day] = typed[day]

    def clean_logo_upload(self) -> str:
        """Keep the picture, if it is one."""
        upload = self.cleaned_data.get("logo_upload")
        return images.store_image(upload) if upload else ""

    def clean(self) -> dict[str, Any]:
        """Read the office hours."""
        data: dict[str, Any] = super().clean() or {}
        hours: list[dict[str, Any]] = []
        for number, day in enumerate(delivery_window.DAYS):
            try:
                hours += spans(number, data.get(day, ""))
            except delivery_window.WindowError as wrong:
                self.add_error(day, str(wrong))
        data["office_hours"] = hours
        return data

    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        """Write down the hours and the logo with the rest."""
        self.instance.office_hours = self.cleaned_data["office_hours"]
        if self.cleaned_data.get("remove_logo"):
            self.instance.logo = ""
        if self.cleaned_data.get("logo_upload"):
            self.instance.logo = self.cleaned_data["logo_upload"]
        return super().save(commit=commit)


for day in delivery_window.DAYS:
    WorkspaceForm.base_fields[day] = WorkspaceForm.declared_fields[day] = forms.CharField(
        required=False, max_length=100, widget=UnfoldAdminTextInputWidget({"placeholder": "Closed"})
    )


def by_day(stored: list[dict[str, Any]]) -> dict[str, str]:
    """Office hours as they are typed: for each day “09:00-12:30, 13:30-17:00”."""
    typed: dict[str, list[str]] = {day: [] for day in delivery_window.DAYS}
    for span in stored:
        typed[delivery_window.DAYS[span["weekday"]]].append(f"{span['from']}-{span['to']}")
    return {day: ", ".join(found) for day, found in typed.items()}


def spans(weekday: int, typed: str) -> list[dict[str, Any]]:
    """Read the hours of one day; WindowError says what is wrong with them."""
    found = []
    for part in (one.strip() for one in typed.replace("–", "-").split(",") if one.strip()):
        opens, dash, closes = (one.strip() for one in part.partition("-"))
        if not dash:
            raise delivery_window.WindowError(f"Type the hours like 09:00-17:00, not “{part}”.")
        span = {"weekday": weekday, "from": clock(opens), "to": clock(closes)}
        delivery_window.parse([span])
        found.append(span)
    return found


def clock(typed: str) -> str:
    """Read a time as people type it: 9, 9:00 and 09:00 are one."""
    hours, _, minutes = typed.partition(":")
    return f"{hours:0>2}:{minutes or '00'}"


class WorkspaceAdmin(ToldAdmin):
    """One row of settings: it opens straight away, and is never added or deleted."""

    form = WorkspaceForm
    readonly_fields = ("logo_now",)
    fieldsets = (
        ("Workspace", {"fields": ("name", "zone")}),
        (
            "Office hours",
            {"fields": delivery_window.DAYS, "description": "Like 09:00-12:30, 13:30-17:00. Empty: closed."},
        ),
        ("Branded emails", {"fields": ("logo_now", "logo_upload", "remove_logo", "colour", "postal_address")}),
        ("Before a message goes live", {"fields": ("confirm_above", "drift_percent")}),
        ("How much one customer gets", {"fields": ("cap_messages", "cap_days")}),
        ("Inbox", {"fields": ("answer_by_email_after",)}),
        ("Emails", {"fields": ("track_emails",)}),
        ("When something is stuck", {"fields": ("alarm_to",)}),
        ("How long it is kept", {"fields": ("keep_events_days", "keep_copies_days")}),
    )

    def save_model(self, request: HttpRequest, obj: Workspace, form: Any, change: Any) -> None:
        """Have the new cap hold for who waits by the old one, too."""
        super().save_model(request, obj, form, change)
        if {"cap_messages", "cap_days"} & set(form.changed_data):
            transaction.on_commit(hold_by_the_new_cap)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Workspace | None = None) -> bool:
        """And it stays."""
        return False

    @display(description="Logo now")
    def logo_now(self, workspace: Workspace) -> SafeString | str:
        """The picture there is."""
        if not workspace.logo:
            return "None: branded emails begin with the name."
        return format_html('<img src="{}" alt="{}" height="40" style="height: 40px">', workspace.logo, workspace.name)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """There is no list of one: go to it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:audiences_workspace_change", args=[Workspace.current().pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The settings, under their own name."""
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "title": "Workspace"})


class PlainAdmin(ToldAdmin):
    """A table of the schedule without pages of its own."""

    nothing_yet = "Times at which tasks of the schedule can run."
