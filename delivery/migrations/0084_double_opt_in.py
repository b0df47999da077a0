"""The reason “has not confirmed the address”."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('delivery', '0083_cheap_updates'),
    ]

    operations = [
        migrations.AlterField(
            model_name='deliveryrecord',
            name='reason',
            field=models.CharField(blank=True, choices=[('', ''), ('queued', 'Queued'), ('window', 'Waits for the delivery window to open'), ('visit', "Waits for the customer's next visit"), ('retry', 'Will be tried again'), ('paused', 'The message is paused'), ('cap', 'Frequency cap reached'), ('same_inbox', 'Already sent to this address'), ('no_email', 'Has no email address'), ('unsubscribed', 'Unsubscribed from emails'), ('not_confirmed', 'Has not confirmed the address'), ('opted_out', 'Opted out of the topic'), ('bounced', 'Their email bounced'), ('complained', 'Marked an email as spam'), ('no_device', 'Has no device for mobile push'), ('no_company', 'Not in a company'), ('left_company', 'No longer in this company'), ('matched_at_launch', 'Matched already at go-live'), ('archived', 'The customer is archived'), ('no_longer_matches', 'No longer matches the audience'), ('stopped', 'The message was stopped'), ('merged', 'Merged with a customer who had received it'), ('rejected', 'Refused'), ('gave_up', 'Gave up after several tries'), ('content', 'The text could not be rendered'), ('worker_died', 'The worker stopped while sending'), ('lost_touch', 'The connection was lost while sending')], default='', max_length=32),
        ),
    ]
