"""A user_id that foreign keys cannot stand on, so that who gets one waits for no launch; unique as before."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audiences", "0013_said_addresses")]

    operations = [
        # The new promise before the old one goes.
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.UniqueConstraint(
                name="one_customer_per_user_id",
                fields=("user_id",),
                condition=models.Q(user_id__isnull=False),
                violation_error_message="Another customer has this user ID.",
            ),
        ),
        migrations.AlterField(
            model_name="customer",
            name="user_id",
            field=models.TextField("user ID", blank=True, null=True),
        ),
    ]
