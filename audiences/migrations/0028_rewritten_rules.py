from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audiences", "0026_token_rights")]

    operations = [
        migrations.CreateModel(
            name="RewrittenRules",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("owner", models.CharField(choices=[("audience", "Audience"), ("version", "Version")], max_length=8)),
                ("row_id", models.BigIntegerField()),
                ("before", models.JSONField()),
                ("after", models.JSONField()),
            ],
            options={
                "verbose_name_plural": "rewritten rules",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("owner", "row_id"), name="rules_rewritten_once")],
            },
        ),
    ]
