"""The schedule: the periodic tasks of Celery beat."""

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
from outbound.console.change_message import change_text
from outbound.console.wording import counted
from outbound.edits.admin import ChangeLogAdmin


class TaskSelectWidget(UnfoldAdminSelectWidget, BeatTaskSelectWidget):
    pass


class ScheduleForm(BeatTaskForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelectWidget()


class ScheduleAdmin(BeatTaskAdmin, ChangeLogAdmin):
    """The periodic tasks. Restarts do not overwrite the changes of staff."""

    form = ScheduleForm
    # The template of the library has an inline script, which the Content Security Policy forbids.
    change_form_template = None
    list_display = ("name", "is_on", "every", "last_run")
    is_on = column("enabled", called="On", boolean=True)
    list_filter = ("enabled",)
    date_hierarchy = None
    actions = ("switch_on", "switch_off")
    last_run = column("last_run_at", called="Last run")
    nothing_yet = "Tasks that run periodically. Without them, no messages are matched or sent."

    @action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, chosen: QuerySet[PeriodicTask]) -> None:
        self.switch(request, chosen.filter(enabled=False), {"enabled": True}, log_words=("no", "yes", "on"))

    @action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, chosen: QuerySet[PeriodicTask]) -> None:
        off = {"enabled": False, "last_run_at": None}
        self.switch(request, chosen.filter(enabled=True), off, log_words=("yes", "no", "off"))

    def switch(
        self,
        request: HttpRequest,
        rows: QuerySet[PeriodicTask],
        values: dict[str, Any],
        *,
        log_words: tuple[str, str, str],
    ) -> None:
        """Update these tasks, log the change, and have beat reload the schedule."""
        before, after, word = log_words
        with transaction.atomic():
            tasks = list(rows.select_for_update(of=("self",)))
            PeriodicTask.objects.filter(pk__in=[task.pk for task in tasks]).update(**values)
            PeriodicTasks.update_changed()
            for task in tasks:
                self.note(request, task, change_text("Enabled", before, after))
        self.message_user(request, f"{counted(len(tasks), 'task is', 'tasks are')} switched {word}.", messages.SUCCESS)

    @display(description="Runs", ordering="interval")
    def every(self, task: PeriodicTask) -> str:
        times = task.interval or task.crontab or task.solar or task.clocked
        return str(times or "Never")
