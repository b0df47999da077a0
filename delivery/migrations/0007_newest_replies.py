from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('delivery', '0006_kept_counts'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='conversation',
            index=models.Index(condition=models.Q(('first_reply_at__isnull', False)), fields=['-first_reply_at'], name='conversation_replied'),
        ),
    ]
