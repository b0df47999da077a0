from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audiences", "0020_change_log")]

    operations = [migrations.RenameField(model_name="kindchange", old_name="trouble", new_name="problem")]
