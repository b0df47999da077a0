"""Everybody sees the suppression list; a Sender may add addresses and lift entries."""

from django.db import migrations

from outbound import roles


class Migration(migrations.Migration):
    dependencies = [("outbound", "0003_event_names"), ("audiences", "0031_suppression")]
    operations = [migrations.RunPython(lambda apps, _: roles.install(apps), migrations.RunPython.noop)]
