"""Only a known address belongs to one customer without a user_id; an address that was only said may be several leads'."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audiences", "0015_name_catalogues")]

    operations = [
        # The new promise, which is the weaker one and holds already, before the old one goes.
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.UniqueConstraint(
                name="one_customer_per_known_email_without_user_id",
                fields=("email",),
                condition=models.Q(user_id=None, email__isnull=False, email_is_said=False),
                violation_error_message="Another customer without a user ID is known by this email.",
            ),
        ),
        migrations.RemoveConstraint(model_name="customer", name="one_customer_per_email_without_user_id"),
    ]
