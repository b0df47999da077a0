"""When the filters of a message are checked."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0018_import_unmatched'),
        ('messaging', '0009_plain_column_names'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='message',
            name='checking',
            field=models.CharField(choices=[('hourly', 'Every hour'), ('at_once', 'As soon as something changes')], db_default='hourly', default='hourly', max_length=8),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.CheckConstraint(condition=models.Q(('checking__in', ['hourly', 'at_once'])), name='checking_is_known'),
        ),
    ]
