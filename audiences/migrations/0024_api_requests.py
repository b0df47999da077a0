import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import audiences.models.sealed

ADDITION = 1


def find_creators(apps, schema_editor):
    """Set the teammate of each token: the audit log knows the teammate who created it."""
    log = apps.get_model("admin", "LogEntry").objects.filter(
        content_type__app_label="audiences", content_type__model="integration", action_flag=ADDITION
    )
    creators = dict(log.order_by("-pk").values_list("object_id", "user_id"))
    for token in apps.get_model("audiences", "Integration").objects.filter(pk__in=creators):
        token.teammate_id = creators[token.pk]
        token.save(update_fields=["teammate"])


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0021_plain_change_columns"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="integration",
            name="teammate",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunPython(find_creators, migrations.RunPython.noop),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=255)),
                ("digest", models.CharField(max_length=64)),
                ("status", models.PositiveSmallIntegerField(default=0)),
                ("answer", audiences.models.sealed.SealedField(null=True)),
                (
                    "people",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("created_at", models.DateTimeField(db_index=True)),
                (
                    "integration",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="audiences.integration",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("integration", "key"), name="carried_out_once")],
            },
        ),
    ]
