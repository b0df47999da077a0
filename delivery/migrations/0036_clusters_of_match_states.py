from typing import Any

from django.db import migrations, models


def name_cluster(apps: Any, _schema_editor: object) -> None:
    from audiences import change_log

    apps.get_model("delivery", "MatchState").objects.update(cluster=change_log.cluster_id())


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0034_matched_at_launch"),
    ]

    operations = [
        migrations.AddField(
            model_name="matchstate",
            name="cluster",
            field=models.CharField(db_default="", default="", max_length=20),
        ),
        migrations.RunPython(name_cluster, migrations.RunPython.noop),
    ]
