"""The nightly round that deletes what was kept long enough."""

from django.db import migrations

from delivery import schedule


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0014_alarms"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(lambda apps, _: schedule.install(apps), migrations.RunPython.noop)]
