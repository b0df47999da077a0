from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("delivery", "0026_connection_shares")]

    operations = [
        migrations.RenameField(model_name="alarm", old_name="told_at", new_name="notified_at"),
        migrations.RenameField(model_name="alarm", old_name="told_over_at", new_name="end_notified_at"),
        migrations.RenameField(model_name="alarm", old_name="telling_until", new_name="notifying_until"),
    ]
