"""Workspace settings: one row, edited on one page."""

from datetime import time, timedelta
from functools import partial
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from audiences.models import Workspace
from audiences.models.consent import askable_customers
from audiences.transactions import run_within
from delivery import tasks
from delivery.models import Reason
from messaging import delivery_window
from messaging.models import RUNNING, Message, State
from outbound.composer import images
from outbound.edits.admin import ChangeLogAdmin

# Settings for which records wait; they are judged again when one of these is changed.
HOLDING_SETTINGS: dict[Reason, frozenset[str]] = {
    Reason.CAP: frozenset({"cap_messages", "cap_days", "quiet_from", "quiet_to", "zone"}),
    Reason.WINDOW: frozenset({"quiet_from", "quiet_to", "zone"}),
}


QUIET_HOURS_HELP = (
    "Emails and pushes to an audience wait until quiet hours end, besides the delivery times of each message. They are"
    " in the time zone of the delivery times: the workspace’s, or each customer’s own. Answers, messages to one person"
    " and in-app messages do not wait. Leave both empty for none."
)
OPT_IN_HELP = (
    "If on, a lead who gives an email address gets an email with a link, and no email to an audience before they open"
    " the link and confirm. The same holds for a user whose address only the browser stated. This includes the people"
    " whom you have already: they gave an address, but have not confirmed it. You can send them the email from their"
    " profile, or from the list of people. Other users need not confirm, because your server, a file or a signed"
    " address vouches for them. Answers and messages to one person are never held back."
)
MESSAGES_NAMED = 3
# The page opens without the number if counting takes longer.
COUNTED_WITHIN = timedelta(seconds=1)


class TimeOfDay(UnfoldAdminTextInputWidget):
    """A text field for a time in hours and minutes."""

    def format_value(self, value: Any) -> Any:
        return f"{value:%H:%M}" if isinstance(value, time) else super().format_value(value)


class WorkspaceForm(forms.ModelForm):
    """The settings. Office hours are one text field per day."""

    logo_upload = forms.FileField(
        required=False,
        label="Logo",
        widget=forms.FileInput({"accept": "image/png,image/jpeg,image/gif,image/webp", "class": "ob-input"}),
        help_text="PNG, JPEG, GIF or WebP, at most 5 MB. It is shown 40 pixels high at the top of branded emails.",
    )
    remove_logo = forms.BooleanField(required=False, widget=UnfoldBooleanWidget())

    class Meta:
        model = Workspace
        fields = (
            *("name", "zone", "postal_address", "colour", "confirm_above", "drift_percent"),
            *("cap_messages", "cap_days", "quiet_from", "quiet_to", "double_opt_in"),
            *("answer_by_email_after", "track_emails", "alarm_to", "keep_events_days", "keep_copies_days"),
        )
        widgets = {
            "colour": UnfoldAdminTextInputWidget({"placeholder": "#2563eb"}),
            "quiet_from": TimeOfDay({"placeholder": "22:00"}),
            "quiet_to": TimeOfDay({"placeholder": "08:00"}),
            "alarm_to": UnfoldAdminTextInputWidget({"placeholder": "ops@example.com"}),
        }
        help_texts = {
            "quiet_from": "For example 22:00.",
            "quiet_to": "For example 08:00. Quiet hours may pass midnight.",
            "colour": "The colour of the border and links of branded emails.",
            "confirm_above": "To set a message live for more people than this, a teammate must type their number.",
            "drift_percent": "The largest change of the audience between the review and setting the message live."
            " A larger change requires a new review.",
            "cap_messages": "The most messages that one customer receives within the days below, in all channels"
            " together. Leave empty for no limit.",
            "double_opt_in": "",
            "answer_by_email_after": "If the customer does not visit within this time, a teammate’s answer is also sent"
            " by email, once.",
            "track_emails": "Emails contain a tracking pixel, and their links pass through this server. If switched"
            " off, new emails contain neither, and reports show no opens and clicks.",
            "alarm_to": "Email addresses, separated by commas, that are notified when an alarm starts and when it ends."
            " Leave empty to notify every Admin.",
            "keep_events_days": "Older events are deleted once a day. The number of events and the dates of the first"
            " and last one are kept, because rules use them. Leave empty to keep all events.",
            "keep_copies_days": "After this time, the content of emails and pushes is deleted: the filled-in variables"
            " and the text of direct messages. Delivery records and reports stay. Links with variables stop working."
            " Leave empty to keep all content.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        typed = format_office_hours(self.instance.office_hours)
        for day in delivery_window.DAYS:
            # A teammate with read-only access has no form fields.
            if day in self.fields:
                self.initial[day] = typed[day]

    def clean_logo_upload(self) -> str:
        """Store the image and return its address."""
        upload = self.cleaned_data.get("logo_upload")
        return images.store_image(upload) if upload else ""

    def clean(self) -> dict[str, Any]:
        """Parse the office hours."""
        data: dict[str, Any] = super().clean() or {}
        hours: list[dict[str, Any]] = []
        for number, day in enumerate(delivery_window.DAYS):
            try:
                hours += parse_hours(number, data.get(day, ""))
            except delivery_window.WindowError as wrong:
                self.add_error(day, str(wrong))
        data["office_hours"] = hours
        if not {"quiet_from", "quiet_to"} & self.errors.keys():
            self.check_quiet_hours(data.get("quiet_from"), data.get("quiet_to"))
        return data

    def check_quiet_hours(self, begin: time | None, end: time | None) -> None:
        """Add an error if the quiet hours are invalid, or a message could not be sent at any time."""
        if begin is None and end is None:
            return
        if begin is None or end is None:
            field = "quiet_from" if begin is None else "quiet_to"
            self.add_error(field, "Enter when quiet hours begin and when they end, or leave both empty.")
            return
        try:
            delivery_window.quiet_window((begin, end))
        except delivery_window.WindowError as wrong:
            self.add_error("quiet_to" if begin == end else "quiet_from", str(wrong))
            return
        sendable = Message.objects.to_audiences().filter(state__in=(*RUNNING, State.PAUSED, State.SCHEDULED))
        closed = [
            f"“{message}”"
            for message in sendable.exclude(window=[]).order_by("pk")
            if message.open_window((begin, end)) == delivery_window.NEVER
        ]
        if closed:
            more = f" and {len(closed) - MESSAGES_NAMED:,} more" if len(closed) > MESSAGES_NAMED else ""
            self.add_error(
                "quiet_from",
                f"The delivery times of {', '.join(closed[:MESSAGES_NAMED])}{more} lie within these hours, so they"
                " could not be sent. Stop the one-offs; pause each ongoing message, and choose “Also during quiet"
                " hours” for it.",
            )

    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
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


def format_office_hours(stored: list[dict[str, Any]]) -> dict[str, str]:
    """Format office hours as text per day: “09:00-12:30, 13:30-17:00”."""
    typed: dict[str, list[str]] = {day: [] for day in delivery_window.DAYS}
    for span in stored:
        typed[delivery_window.DAYS[span["weekday"]]].append(f"{span['from']}-{span['to']}")
    return {day: ", ".join(found) for day, found in typed.items()}


def parse_hours(weekday: int, typed: str) -> list[dict[str, Any]]:
    """Parse the office hours of one day. Raises WindowError."""
    found = []
    for part in (one.strip() for one in typed.replace("–", "-").split(",") if one.strip()):
        opens, dash, closes = (one.strip() for one in part.partition("-"))
        if not dash:
            raise delivery_window.WindowError(f"Type the hours like 09:00-17:00, not “{part}”.")
        span = {"weekday": weekday, "from": normalise_time(opens), "to": normalise_time(closes)}
        delivery_window.parse_window([span])
        found.append(span)
    return found


def normalise_time(typed: str) -> str:
    """Normalise a time: “9” and “9:00” become “09:00”."""
    hours, _, minutes = typed.partition(":")
    return f"{hours:0>2}:{minutes or '00'}"


class WorkspaceAdmin(ChangeLogAdmin):
    """The settings page. The one row cannot be added or deleted."""

    form = WorkspaceForm
    readonly_fields = ("logo_now", "not_confirmed")
    fieldsets = (
        ("Workspace", {"fields": ("name", "zone")}),
        (
            "Office hours",
            {
                "fields": delivery_window.DAYS,
                "description": "For example: 09:00-12:30, 13:30-17:00. Leave empty if closed.",
            },
        ),
        ("Branded emails", {"fields": ("logo_now", "logo_upload", "remove_logo", "colour", "postal_address")}),
        ("Before a message goes live", {"fields": ("confirm_above", "drift_percent")}),
        ("Frequency cap", {"fields": ("cap_messages", "cap_days")}),
        ("Quiet hours", {"fields": ("quiet_from", "quiet_to"), "description": QUIET_HOURS_HELP}),
        ("Double opt-in", {"fields": ("double_opt_in", "not_confirmed"), "description": OPT_IN_HELP}),
        ("Inbox", {"fields": ("answer_by_email_after",)}),
        ("Emails", {"fields": ("track_emails",)}),
        ("Alarms", {"fields": ("alarm_to",)}),
        ("Data retention", {"fields": ("keep_events_days", "keep_copies_days")}),
    )

    def save_model(self, request: HttpRequest, obj: Workspace, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        for reason, names in HOLDING_SETTINGS.items():
            if names & set(form.changed_data):
                transaction.on_commit(partial(tasks.enqueue_judging, reason))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Workspace | None = None) -> bool:
        return False

    @display(description="Current logo")
    def logo_now(self, workspace: Workspace) -> SafeString | str:
        if not workspace.logo:
            return "No logo: branded emails begin with the name of the workspace."
        return format_html('<img src="{}" alt="{}" height="40" style="height: 40px">', workspace.logo, workspace.name)

    @display(description="People concerned now")
    def not_confirmed(self, workspace: Workspace) -> str:
        """Count the people who get no emails to an audience only because this is on."""
        found = run_within(COUNTED_WITHIN, askable_customers().order_by().count)
        if found is None:
            return "There are too many people to count here who must confirm their address."
        if not found:
            return "Nobody has an address that they must confirm."
        return f"{found:,} {'person has' if found == 1 else 'people have'} an address that they must confirm."

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Redirect to the one row."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:audiences_workspace_change", args=[Workspace.current().pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "title": "Workspace"})


class PlainAdmin(ChangeLogAdmin):
    """The tables of times for the schedule, which need no options of their own."""

    nothing_yet = "Times for the tasks of the schedule."
