"""Everybody sees the names of events; an Admin may retire them."""

from django.db import migrations

from outbound import roles


class Migration(migrations.Migration):
    dependencies = [("outbound", "0002_answer_requests"), ("audiences", "0015_name_catalogues")]
    operations = [migrations.RunPython(lambda apps, _: roles.install(apps), migrations.RunPython.noop)]
