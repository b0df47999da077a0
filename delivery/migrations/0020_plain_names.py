from django.db import migrations


class Migration(migrations.Migration):
    """Plain names for models and columns. Tables keep their names."""

    dependencies = [("delivery", "0019_bounce_tokens")]

    operations = [
        migrations.AlterModelTable(name="rest", table="delivery_rest"),
        migrations.RenameModel(old_name="Rest", new_name="ChannelOutage"),
    ]
