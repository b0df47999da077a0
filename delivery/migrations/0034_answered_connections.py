import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0033_fingerprints_of_rewritten_rules"),
    ]

    operations = [
        migrations.AddField(
            model_name="connectionshare",
            name="is_answered",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="connectionshare",
            name="since",
            # Shares end within seconds.
            field=models.DateTimeField(default=django.utils.timezone.now),
            preserve_default=False,
        ),
    ]
