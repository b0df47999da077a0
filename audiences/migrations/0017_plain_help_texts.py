"""Help texts and error messages in plain English; the database does not change."""

import audiences.models.workspace
import django.core.validators
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0016_known_addresses'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name='workspace',
            name='alarm_to',
            field=models.TextField(blank=True, db_default='', default='', help_text='Email addresses, separated by commas, that get alarms and their all-clear. Empty: every Admin.', validators=[audiences.models.workspace.check_addresses], verbose_name='alarms go to'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='allowed_origins',
            field=models.JSONField(blank=True, default=list, help_text='Websites that may load the messenger.'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='answer_by_email_after',
            field=models.PositiveSmallIntegerField(db_default=5, default=5, help_text='If the customer has not returned by then, they get the teammate’s answer by email.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1440)], verbose_name='minutes before an answer is emailed'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='cap_messages',
            field=models.PositiveSmallIntegerField(blank=True, help_text='Maximum for one customer within the days below, across all channels. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='messages at most'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='colour',
            field=models.CharField(db_default='#2563eb', default='#2563eb', help_text='Colour of the border and links in branded emails.', max_length=7, validators=[django.core.validators.RegexValidator('^#[0-9a-fA-F]{6}$', 'Enter a colour such as #0b5cad.')]),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='confirm_above',
            field=models.PositiveIntegerField(default=1000, help_text='Above this many recipients, the sender must type the number to set a message live.'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='drift_percent',
            field=models.PositiveSmallIntegerField(default=5, help_text='How much an audience may change between review and go-live, in percent.'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='keep_copies_days',
            field=models.PositiveSmallIntegerField(blank=True, help_text='After this, the personal content of emails and pushes is deleted, and links made of variables stop working. Recipients, times and results are kept. Empty: keep for ever.', null=True, validators=[django.core.validators.MinValueValidator(7)], verbose_name='keep copies for days'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='keep_events_days',
            field=models.PositiveSmallIntegerField(blank=True, help_text='Older events are deleted once a day. Their count, first and last time are kept for rules. Empty: keep for ever.', null=True, validators=[django.core.validators.MinValueValidator(7)], verbose_name='keep events for days'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='logo',
            field=models.CharField(blank=True, db_default='', default='', help_text='URL of an image, about 40 pixels high. It is shown at the top of branded emails.', max_length=500),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='require_user_hash',
            field=models.BooleanField(default=True, help_text='If off, any visitor can pretend to be any of your customers.', verbose_name='require identity verification'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='track_emails',
            field=models.BooleanField(db_default=True, default=True, help_text='Adds an invisible image to emails and routes their links through this server. If off, new emails have neither, and reports cannot show opens and clicks.', verbose_name='track opens and clicks'),
        ),
        migrations.AlterConstraint(
            model_name='audience',
            name='segment_name_once',
            constraint=models.UniqueConstraint(condition=models.Q(('name', ''), _negated=True), fields=('name',), name='segment_name_once', violation_error_message='A segment with this name already exists.'),
        ),
        migrations.AlterConstraint(
            model_name='customer',
            name='one_customer_per_known_email_without_user_id',
            constraint=models.UniqueConstraint(condition=models.Q(('email__isnull', False), ('email_is_said', False), ('user_id', None)), fields=('email',), name='one_customer_per_known_email_without_user_id', violation_error_message='Another customer without a user ID has this email.'),
        ),
        migrations.AlterConstraint(
            model_name='tag',
            name='tag_name_once',
            constraint=models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='tag_name_once', violation_error_message='A tag with this name already exists.'),
        ),
    ]
