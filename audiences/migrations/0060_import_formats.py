"""Formats of dates, encoding and facts about the columns of an import, instead of its first rows."""

from django.db import migrations, models

# Their cells were not read yet. Checked files stay checked: `position` of the others is at the first record.
READ_AGAIN = "UPDATE audiences_import SET state = 'reading' WHERE state = 'uploaded'"
STATES = [
    ("reading", "Being read"),
    ("uploaded", "Not checked yet"),
    ("checking", "Being checked"),
    ("checked", "Checked"),
    ("writing", "Being imported"),
    ("done", "Done"),
    ("cancelled", "Cancelled"),
]


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0051_online_indexes"),
    ]

    operations = [
        # The column is dropped one release later: processes of the release before write it.
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    "ALTER TABLE audiences_import ALTER COLUMN sample SET DEFAULT '[]'",
                    "ALTER TABLE audiences_import ALTER COLUMN sample DROP DEFAULT",
                )
            ],
            [migrations.RemoveField(model_name="import", name="sample")],
        ),
        migrations.AddField(
            model_name="import", name="encoding", field=models.CharField(db_default="utf-8", default="utf-8", max_length=16)
        ),
        migrations.AddField(model_name="import", name="column_facts", field=models.JSONField(db_default=[], default=list)),
        migrations.AddField(model_name="import", name="date_formats", field=models.JSONField(db_default=[], default=list)),
        migrations.AddField(model_name="import", name="undecodable", field=models.BigIntegerField(db_default=0, default=0)),
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
                condition=models.Q(("state__in", ["reading", "checking", "writing"])),
                fields=["id"],
                name="import_under_way",
            ),
        ),
        migrations.RunSQL(READ_AGAIN, "UPDATE audiences_import SET state = 'uploaded' WHERE state = 'reading'"),
    ]
