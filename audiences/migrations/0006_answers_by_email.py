import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0005_brand'),
    ]

    operations = [
        migrations.AddField(
            model_name='workspace',
            name='answer_by_email_after',
            field=models.PositiveSmallIntegerField(db_default=5, default=5, help_text='A customer who has not been back by then gets a teammate’s answer by email, once.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1440)], verbose_name='minutes before an answer is emailed'),
        ),
    ]
