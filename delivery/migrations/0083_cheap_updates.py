"""Rounds update every match state: on the same page, so that no index changes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0082_domain_alarm"),
    ]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE delivery_matchstate SET (fillfactor = 50)",
            "ALTER TABLE delivery_matchstate RESET (fillfactor)",
        ),
    ]
