"""Schedule for celery beat: created once. After that staff edit it in the admin; no restart undoes that."""

from typing import Any

from django.apps import apps as installed

TASKS: dict[str, tuple[str, str, int]] = {
    "Match ongoing messages": ("delivery.tasks.match_ongoing_messages", "hours", 1),
    "Send due messages": ("delivery.tasks.sweep", "minutes", 1),
    "Delete old data": ("delivery.tasks.forget_old", "days", 1),
    "Check the domains of senders": ("delivery.tasks.check_domains", "days", 1),
}


def install(apps: Any = installed) -> None:
    """Create the missing periodic tasks. Existing ones keep the settings of staff."""
    interval = apps.get_model("django_celery_beat", "IntervalSchedule")
    task = apps.get_model("django_celery_beat", "PeriodicTask")
    for name, (path, period, every) in TASKS.items():
        schedule = interval.objects.filter(every=every, period=period).first()
        schedule = schedule or interval.objects.create(every=every, period=period)
        # A run that cannot start before the next is due is dropped.
        seconds = every * {"days": 86400, "hours": 3600, "minutes": 60}[period]
        task.objects.get_or_create(
            name=name, defaults={"task": path, "interval": schedule, "expire_seconds": seconds, "enabled": True}
        )
