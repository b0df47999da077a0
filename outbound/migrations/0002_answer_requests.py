"""An Admin may export and erase all that is kept of a customer."""

from django.db import migrations

from outbound import roles


class Migration(migrations.Migration):
    dependencies = [("outbound", "0001_roles"), ("audiences", "0011_alarms_and_retention")]
    operations = [migrations.RunPython(lambda apps, _: roles.install(apps), migrations.RunPython.noop)]
