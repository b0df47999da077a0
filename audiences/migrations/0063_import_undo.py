"""Undo of imports: its states and counts."""

from django.db import migrations, models

STATES = [
    ("reading", "Being read"),
    ("uploaded", "Not checked yet"),
    ("checking", "Being checked"),
    ("checked", "Checked"),
    ("writing", "Being imported"),
    ("done", "Done"),
    ("cancelled", "Cancelled"),
    ("undoing", "Being undone"),
    ("undone", "Undone"),
]


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0062_import_effects"),
    ]

    operations = [
        migrations.AddField(model_name="import", name="undone", field=models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField(model_name="import", name="kept", field=models.BigIntegerField(db_default=0, default=0)),
        migrations.AlterField(
            model_name="import",
            name="state",
            field=models.CharField(choices=STATES, default="reading", max_length=16),
        ),
        migrations.RemoveConstraint(model_name="import", name="import_state_is_known"),
        migrations.AddConstraint(
            model_name="import",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", [state for state, _ in STATES])), name="import_state_is_known"
            ),
        ),
        migrations.RemoveIndex(model_name="import", name="import_under_way"),
        migrations.AddIndex(
            model_name="import",
            index=models.Index(
                condition=models.Q(("state__in", ["reading", "checking", "writing", "undoing"])),
                fields=["id"],
                name="import_under_way",
            ),
        ),
    ]
