from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("delivery", "0039_answer_email_addresses"),
    ]

    operations = [
        migrations.AddField(
            model_name='conversationpart',
            name='fold_position',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
    ]
