"""Customers as a dry run would leave them, also existing ones, and notes about repeated customers."""

import django.db.models.deletion
from django.db import migrations, models

# Processes of this release delete imports without knowing the table.
DROP_FOREIGN_KEY = """
DO $$
DECLARE name text;
BEGIN
    SELECT conname INTO STRICT name FROM pg_constraint
    WHERE conrelid = 'audiences_importnewcomer'::regclass AND contype = 'f';
    EXECUTE format('ALTER TABLE audiences_importnewcomer DROP CONSTRAINT %I', name);
END $$
"""


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0060_import_formats"),
    ]

    operations = [
        # The table is dropped one release later: processes of the release before write it.
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL(DROP_FOREIGN_KEY, migrations.RunSQL.noop)],
            [migrations.DeleteModel(name="ImportNewcomer")],
        ),
        migrations.CreateModel(
            name="ImportPreview",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("line", models.BigIntegerField()),
                ("existing", models.BigIntegerField(null=True)),
                ("user_id", models.TextField(null=True)),
                ("email", models.TextField(null=True)),
                ("facts", models.JSONField(default=dict)),
                ("attributes", models.JSONField(default=dict)),
                (
                    "of",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="previews",
                        to="audiences.import",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("user_id__isnull", False)),
                        fields=["of", "user_id"],
                        name="preview_by_user_id",
                    ),
                    models.Index(
                        condition=models.Q(("email__isnull", False)), fields=["of", "email"], name="preview_by_email"
                    ),
                    models.Index(
                        condition=models.Q(("existing__isnull", False)),
                        fields=["of", "existing"],
                        name="preview_by_customer",
                    ),
                ],
            },
        ),
        migrations.AddField(model_name="import", name="repeated", field=models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField(model_name="import", name="repeated_changes", field=models.BigIntegerField(db_default=0, default=0)),
        migrations.AddField(
            model_name="importproblem",
            name="kind",
            field=models.CharField(
                choices=[("error", "Error"), ("repeat", "Repeated customer")],
                db_default="error",
                default="error",
                max_length=8,
            ),
        ),
    ]
