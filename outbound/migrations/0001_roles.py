"""The four roles. `outbound` has no models: its migrations only fill what others made."""

from django.db import migrations

from outbound import roles


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(lambda apps, _: roles.install(apps), migrations.RunPython.noop)]
