"""The pages of the Celery beat schedule."""

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.admin import PeriodicTaskAdmin as BeatTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm as BeatTaskForm
from django_celery_beat.admin import TaskSelectWidget as BeatTaskSelectWidget
from django_celery_beat.models import PeriodicTask, PeriodicTasks
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from outbound.console.admin import column
from outbound.console.change_message import ChangeLogAdmin, change_text
from outbound.console.wording import counted


class TaskSelectWidget(UnfoldAdminSelectWidget, BeatTaskSelectWidget):
    """The tasks there are."""


class ScheduleForm(BeatTaskForm):
    """A task of the schedule."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelectWidget()


class ScheduleAdmin(BeatTaskAdmin, ChangeLogAdmin):
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
                self.note(request, task, change_text("Enabled", before, after))
        self.message_user(request, f"{counted(len(tasks), 'task is', 'tasks are')} switched {word}.", messages.SUCCESS)

    @display(description="Runs", ordering="interval")
    def every(self, task: PeriodicTask) -> str:
        """How often."""
        times = task.interval or task.crontab or task.solar or task.clocked
        return str(times or "Never")
