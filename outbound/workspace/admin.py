"""The settings staff keep: senders, tags, the workspace and the schedule."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.admin import PeriodicTaskAdmin as BeatTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm as BeatTaskForm
from django_celery_beat.admin import TaskSelectWidget as BeatTaskSelectWidget
from django_celery_beat.models import PeriodicTask, PeriodicTasks
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from audiences.models import Audience, CompanyTag, CustomerTag, Tag, Workspace
from audiences.models.audience import ABOUT_TAGS
from delivery import tasks
from delivery.eligibility import frequency_cap
from messaging import delivery_window
from messaging.models import Message, Sender
from outbound.composer import images
from outbound.console.admin import column
from outbound.people.admin import counting
from outbound.console.change_message import ToldAdmin, from_to
from outbound.console.wording import counted


def staff() -> QuerySet[User]:
    """Who can write as a sender."""
    return User.objects.filter(is_staff=True).order_by("first_name", "username")


class SenderAdmin(ToldAdmin):
    """Who messages come from."""

    list_display = ("name", "address", "replies_to", "owner", "shared_with")
    address = column("email", called="Email")
    replies_to = column("reply_to", called="Replies go to")
    owner = column("teammate", called="Teammate")
    nothing_yet = "A sender is who a message comes from. Add one before you write the first."
    search_fields = ("name", "email")
    ordering = ("name",)
    list_select_related = ("teammate",)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Whose own it is: a teammate's, not an integration's."""
        return super().formfield_for_foreignkey(db_field, request, queryset=staff(), **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Teammates to tick."""
        kwargs |= {"queryset": staff(), "widget": UnfoldAdminCheckboxSelectMultipleWidget()}
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sender]:
        """Senders, with who may use them."""
        return super().get_queryset(request).prefetch_related("users")

    @display(description="Who may use it")
    def shared_with(self, sender: Sender) -> str:
        """The teammates who may write as this sender."""
        users = [user.get_username() for user in sender.users.all()]
        if sender.teammate and sender.teammate.get_username() not in users:
            users.insert(0, sender.teammate.get_username())
        return ", ".join(users) if users else "Everyone"


class TagForm(forms.ModelForm):
    """A tag; when it was made is not typed."""

    class Meta:
        model = Tag
        fields = ("name",)
        widgets = {"name": UnfoldAdminTextInputWidget()}


class TagAdmin(ToldAdmin):
    """Tags on customers and companies."""

    form = TagForm
    list_display = ("name", "customers_tagged", "companies_tagged")
    nothing_yet = "A tag marks customers and companies, by hand, by file or by your API. Rules can ask for it."
    search_fields = ("name",)
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tag]:
        """Tags, with how many customers and companies have each."""
        found = super().get_queryset(request)
        return found.annotate(on_customers=counting(CustomerTag, "tag"), on_companies=counting(CompanyTag, "tag"))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What goes with them. One that rules ask about stays: without it, “is not” would match everybody."""
        deleted, counted, needed, protected = super().get_deleted_objects(objs, request)
        return deleted, counted, needed, [*protected, *(use for tag in objs for use in uses(tag))]

    @display(description="Customers")
    def customers_tagged(self, tag: Tag) -> int:
        """How many customers have it."""
        return tag.on_customers  # type: ignore[attr-defined]

    @display(description="Companies")
    def companies_tagged(self, tag: Tag) -> int:
        """How many companies have it."""
        return tag.on_companies  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Tag, form: Any, change: Any) -> None:
        """Note when it was made."""
        obj.created_at = obj.created_at or timezone.now()
        super().save_model(request, obj, form, change)


def uses(tag: Tag) -> list[str]:
    """The messages and segments with a rule about a tag."""
    asking = Audience.objects.naming(tag, *ABOUT_TAGS)
    messages = Message.objects.filter(audience__in=asking).order_by("title")
    segments = asking.segments().order_by("name")
    return [*(f"the message “{one}”" for one in messages), *(f"the segment “{one}”" for one in segments)]


def hold_by_the_new_cap() -> None:
    """Have who waits by the old cap wait by the new one, or not at all."""
    if frequency_cap.ask_again(at=timezone.now()):
        tasks.nudge()


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
        return images.keep(upload) if upload else ""

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
        ("Office hours", {"fields": delivery_window.DAYS, "description": "Like 09:00-12:30, 13:30-17:00. Empty: closed."}),
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


class TaskSelectWidget(UnfoldAdminSelectWidget, BeatTaskSelectWidget):
    """The tasks there are."""


class ScheduleForm(BeatTaskForm):
    """A task of the schedule."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelectWidget()


class ScheduleAdmin(BeatTaskAdmin, ToldAdmin):
    """The schedule beat keeps; what staff change here no restart undoes."""

    form = ScheduleForm
    # The one of the library writes a script into the page, which the policy forbids.
    change_form_template = None
    list_display = ("name", "is_on", "every", "last_run")
    is_on = column("enabled", called="On", boolean=True)
    list_filter = ("enabled",)
    date_hierarchy = None
    actions = ("switch_on", "switch_off")
    last_run = column("last_run_at", called="Last run")
    nothing_yet = "What runs by itself, and how often. Without it nothing is matched or sent."

    @action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, chosen: QuerySet[PeriodicTask]) -> None:
        """Have each of them run again."""
        self.switch(request, chosen.filter(enabled=False), {"enabled": True}, told=("no", "yes", "on"))

    @action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, chosen: QuerySet[PeriodicTask]) -> None:
        """Have none of them run."""
        off = {"enabled": False, "last_run_at": None}
        self.switch(request, chosen.filter(enabled=True), off, told=("yes", "no", "off"))

    def switch(
        self, request: HttpRequest, rows: QuerySet[PeriodicTask], become: dict[str, Any], *, told: tuple[str, str, str]
    ) -> None:
        """Switch them, and tell the log and beat."""
        before, after, word = told
        with transaction.atomic():
            tasks = list(rows.select_for_update(of=("self",)))
            PeriodicTask.objects.filter(pk__in=[task.pk for task in tasks]).update(**become)
            PeriodicTasks.update_changed()
            for task in tasks:
                self.note(request, task, from_to("Enabled", before, after))
        self.message_user(request, f"{counted(len(tasks), 'task is', 'tasks are')} switched {word}.", messages.SUCCESS)

    @display(description="Runs", ordering="interval")
    def every(self, task: PeriodicTask) -> str:
        """How often."""
        times = task.interval or task.crontab or task.solar or task.clocked
        return str(times or "Never")


class PlainAdmin(ToldAdmin):
    """A table of the schedule without pages of its own."""

    nothing_yet = "Times at which tasks of the schedule can run."
