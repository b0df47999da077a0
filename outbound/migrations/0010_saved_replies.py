"""Everybody sees the saved replies; a Sender may write them."""

from django.db import migrations

from outbound import roles


class Migration(migrations.Migration):
    dependencies = [("outbound", "0004_suppression"), ("messaging", "0050_saved_replies")]
    operations = [migrations.RunPython(lambda apps, _: roles.install(apps), migrations.RunPython.noop)]
