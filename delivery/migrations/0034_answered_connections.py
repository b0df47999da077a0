from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0033_fingerprints_of_rewritten_rules"),
    ]

    operations = [
        migrations.AddField(
            model_name="connectionshare",
            name="is_answered",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="connectionshare",
            name="since",
            field=models.DateTimeField(db_default=Now()),
        ),
    ]
