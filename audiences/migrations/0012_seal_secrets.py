"""Seal the secrets that stand there in plain text."""

from django.db import migrations

import audiences.models.sealed
import audiences.models.workspace


def seal(apps, schema_editor):
    for model, field in (("Workspace", "identity_secret"), ("Subscription", "secret")):
        for row in apps.get_model("audiences", model).objects.only(field):
            row.save(update_fields=[field])


class Migration(migrations.Migration):
    dependencies = [("audiences", "0011_alarms_and_retention")]

    operations = [
        migrations.AlterField(
            model_name="subscription",
            name="secret",
            field=audiences.models.sealed.SealedField(default=audiences.models.workspace.new_secret, max_length=1500),
        ),
        migrations.AlterField(
            model_name="workspace",
            name="identity_secret",
            field=audiences.models.sealed.SealedField(default=audiences.models.workspace.new_secret, max_length=200),
        ),
        migrations.RunPython(seal, migrations.RunPython.noop),
    ]
