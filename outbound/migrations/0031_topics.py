"""Everybody sees the topics of messages; an Admin may change them."""

from django.db import migrations

from outbound import roles


class Migration(migrations.Migration):
    dependencies = [("outbound", "0030_second_factor"), ("audiences", "0071_topics"), ("messaging", "0063_topics")]
    operations = [migrations.RunPython(lambda apps, _: roles.install(apps), migrations.RunPython.noop)]
