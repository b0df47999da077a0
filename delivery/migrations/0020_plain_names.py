from django.db import migrations, models


class Migration(migrations.Migration):
    """Plain names for models and columns. Tables and constraints keep their names."""

    dependencies = [("delivery", "0019_bounce_tokens")]

    operations = [
        migrations.AlterModelTable(name="rest", table="delivery_rest"),
        migrations.RenameModel(old_name="Rest", new_name="ChannelOutage"),
        # PostgreSQL renames the column in the index too, so the index is not built again.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RenameField(model_name="deliveryrecord", old_name="inbox", new_name="address"),
            ],
            state_operations=[
                migrations.RemoveConstraint(model_name="deliveryrecord", name="same_inbox_once"),
                migrations.RenameField(model_name="deliveryrecord", old_name="inbox", new_name="address"),
                migrations.AddConstraint(
                    model_name="deliveryrecord",
                    constraint=models.UniqueConstraint(
                        name="same_inbox_once",
                        fields=("message", "address", "company"),
                        condition=models.Q(status__in=("sending", "uncertain", "sent"), address__isnull=False),
                        nulls_distinct=False,
                    ),
                ),
            ],
        ),
        migrations.RenameField(model_name="deliveryrecord", old_name="filled", new_name="variables"),
        migrations.RenameField(model_name="alarm", old_name="words", new_name="description"),
    ]
