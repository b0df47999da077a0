import delivery.models.pace
import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    """Plain names for models and columns. Tables and constraints keep their names."""

    dependencies = [("delivery", "0019_bounce_tokens"), ("messaging", "0009_plain_column_names")]

    operations = [
        migrations.AlterModelTable(name="rest", table="delivery_rest"),
        migrations.RenameModel(old_name="Rest", new_name="ChannelOutage"),
        # PostgreSQL renames the column in the index too, so the index is not built again.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RenameField(model_name="deliveryrecord", old_name="inbox", new_name="address"),
            ],
            state_operations=[
                migrations.RemoveConstraint(model_name="deliveryrecord", name="same_inbox_once"),
                migrations.RenameField(model_name="deliveryrecord", old_name="inbox", new_name="address"),
                migrations.AddConstraint(
                    model_name="deliveryrecord",
                    constraint=models.UniqueConstraint(
                        name="same_inbox_once",
                        fields=("message", "address", "company"),
                        condition=models.Q(status__in=("sending", "uncertain", "sent"), address__isnull=False),
                        nulls_distinct=False,
                    ),
                ),
            ],
        ),
        migrations.RenameField(model_name="deliveryrecord", old_name="filled", new_name="variables"),
        migrations.RenameField(model_name="alarm", old_name="words", new_name="description"),
        migrations.AlterField(
            model_name='alarm',
            name='kind',
            field=models.CharField(choices=[('beat', 'Scheduler (beat) not running'), ('sweep', 'Minute sweep not running'), ('channel', 'Channel unavailable'), ('due', 'Messages are stuck'), ('trouble', 'A message cannot be sent'), ('uncertain', 'Deliveries are uncertain'), ('answers', 'Answer emails are not sent'), ('webhooks', 'Webhooks are not delivered'), ('refused', 'Visitors are refused')], max_length=12),
        ),
        migrations.AlterField(
            model_name='deliveryrecord',
            name='reason',
            field=models.CharField(blank=True, choices=[('', ''), ('queued', 'Queued'), ('window', 'Waits for the delivery window to open'), ('visit', "Waits for the customer's next visit"), ('retry', 'Will be tried again'), ('paused', 'The message is paused'), ('cap', 'Frequency cap reached'), ('same_inbox', 'Already sent to this address'), ('no_email', 'Has no email address'), ('unsubscribed', 'Unsubscribed from emails'), ('bounced', 'Their email bounced'), ('complained', 'Marked an email as spam'), ('no_device', 'Has no device for mobile push'), ('no_company', 'Not in a company'), ('left_company', 'No longer in this company'), ('archived', 'The customer is archived'), ('no_longer_matches', 'No longer matches the audience'), ('stopped', 'The message was stopped'), ('merged', 'Merged with a customer who had received it'), ('rejected', 'Refused'), ('gave_up', 'Gave up after several tries'), ('content', 'The text could not be rendered'), ('worker_died', 'The worker stopped while sending'), ('lost_touch', 'The connection was lost while sending')], default='', max_length=32),
        ),
        migrations.AlterField(
            model_name='hit',
            name='who',
            field=models.CharField(choices=[('person', 'A person'), ('privacy', 'Apple Mail Privacy Protection'), ('machine', 'A scanner, bot or prefetch')], max_length=8),
        ),
        migrations.AlterField(
            model_name='pace',
            name='per_second',
            field=models.DecimalField(blank=True, decimal_places=3, help_text='For all workers together. Leave empty for no limit.', max_digits=8, null=True, validators=[django.core.validators.MinValueValidator(0.001)], verbose_name='messages per second'),
        ),
        migrations.AlterField(
            model_name='pace',
            name='warm_up',
            field=models.JSONField(blank=True, default=list, help_text='The limit of the first day, the second day, and so on. After the last day there is no limit.', validators=[delivery.models.pace.check_plan], verbose_name='warm-up plan'),
        ),
        migrations.AlterField(
            model_name='refusedvisitors',
            name='reason',
            field=models.CharField(choices=[('not_signed', 'The user_hash was missing or wrong'), ('address_form', 'The address was not in lower case'), ('user_id_form', 'The user_id was not in its stored form')], max_length=12),
        ),
        migrations.AlterConstraint(
            model_name='pace',
            name='pace_is_above_zero',
            constraint=models.CheckConstraint(condition=models.Q(('per_second', None), ('per_second__gt', 0), _connector='OR'), name='pace_is_above_zero', violation_error_message='The rate must be above zero. To send nothing, pause the messages.'),
        ),
        # Messages whose copies rest say so in new words, which the worker clears again by their beginning.
        migrations.RunSQL(
            """
            UPDATE messaging_message SET problem = 'Paused: the mail server refuses this sender. Sending resumes once it'
                ' is accepted.' || substr(problem, 45) WHERE problem LIKE 'Its copies wait until their sender is taken.%';
            UPDATE messaging_message SET problem = 'Paused: no copy of this message can be rendered.'
                || substr(problem, 50) WHERE problem LIKE 'Its copies wait, as none of them can be finished.%';
            """,
            migrations.RunSQL.noop,
        ),
    ]
