"""The daily check of the senders' domains."""

from django.db import migrations

from delivery import schedule


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0071_hard_bounces"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(lambda apps, _: schedule.install(apps), migrations.RunPython.noop)]
