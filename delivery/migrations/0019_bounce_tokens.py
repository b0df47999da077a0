"""The moment since which bounce addresses have tokens of their own: those of emails sent before still count a while."""

from django.db import migrations, models

RECORD = "INSERT INTO delivery_upgrade (name, at) VALUES ('bounce_tokens', now()) ON CONFLICT DO NOTHING"


class Migration(migrations.Migration):
    dependencies = [("delivery", "0018_refused_visitors")]

    operations = [
        migrations.CreateModel(
            name="Upgrade",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.RunSQL(RECORD, migrations.RunSQL.noop),
    ]
