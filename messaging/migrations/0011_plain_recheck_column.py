from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("messaging", "0010_checking")]

    operations = [migrations.RenameField(model_name="message", old_name="rejudge_before", new_name="recheck_before")]
