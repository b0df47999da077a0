"""Plain names for the periodic tasks that staff see on the page Schedule."""

from typing import Any

from django.db import migrations

NAMES = {
    "Hand over what is due": "Send due messages",
    "Delete what was kept long enough": "Delete expired data",
}


def rename_tasks(apps: Any, _: Any) -> None:
    task = apps.get_model("django_celery_beat", "PeriodicTask")
    for old, new in NAMES.items():
        if not task.objects.filter(name=new).exists():
            task.objects.filter(name=old).update(name=new)


def restore_names(apps: Any, _: Any) -> None:
    task = apps.get_model("django_celery_beat", "PeriodicTask")
    for old, new in NAMES.items():
        task.objects.filter(name=new).update(name=old)


class Migration(migrations.Migration):
    dependencies = [
        ("outbound", "0003_event_names"),
        ("delivery", "0015_nightly"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(rename_tasks, restore_names)]
