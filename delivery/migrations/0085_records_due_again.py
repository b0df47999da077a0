"""An index of the records that are evaluated again before they are sent. It is created while records are written."""

from django.db import migrations, models

NAME = "record_due_again"
DEFINITION = "(message_id, due_at, id) WHERE status = 'waiting' AND reason IN ('window', 'cap')"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("delivery", "0084_double_opt_in"),
    ]

    operations = [
        migrations.RunSQL(
            [
                # An interrupted attempt leaves an invalid index.
                f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}",
                f"CREATE INDEX CONCURRENTLY {NAME} ON delivery_deliveryrecord {DEFINITION}",
            ],
            [f"DROP INDEX CONCURRENTLY {NAME}"],
            state_operations=[
                migrations.AddIndex(
                    model_name="deliveryrecord",
                    index=models.Index(
                        fields=["message", "due_at", "id"],
                        name=NAME,
                        condition=models.Q(status="waiting", reason__in=("window", "cap")),
                    ),
                ),
            ],
        ),
    ]
