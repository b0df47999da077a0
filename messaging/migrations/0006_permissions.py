from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("messaging", "0005_style_and_launching")]
    operations = [
        migrations.AlterModelOptions(
            name="message",
            options={
                "permissions": [
                    ("set_live", "Can set live, pause, resume and stop messages"),
                    ("write_to_one", "Can send a message to one person"),
                ]
            },
        )
    ]
