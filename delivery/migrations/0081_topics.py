"""The reason “opted out of the topic”."""

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("delivery", "0080_machine_clocks"),
    ]

    operations = [
        pgtrigger.migrations.RemoveTrigger(
            model_name='deliveryrecord',
            name='change_is_logged',
        ),
        migrations.AlterField(
            model_name='deliveryrecord',
            name='reason',
            field=models.CharField(blank=True, choices=[('', ''), ('queued', 'Queued'), ('window', 'Waits for the delivery window to open'), ('visit', "Waits for the customer's next visit"), ('retry', 'Will be tried again'), ('paused', 'The message is paused'), ('cap', 'Frequency cap reached'), ('same_inbox', 'Already sent to this address'), ('no_email', 'Has no email address'), ('unsubscribed', 'Unsubscribed from emails'), ('opted_out', 'Opted out of the topic'), ('bounced', 'Their email bounced'), ('complained', 'Marked an email as spam'), ('no_device', 'Has no device for mobile push'), ('no_company', 'Not in a company'), ('left_company', 'No longer in this company'), ('matched_at_launch', 'Matched already at go-live'), ('archived', 'The customer is archived'), ('no_longer_matches', 'No longer matches the audience'), ('stopped', 'The message was stopped'), ('merged', 'Merged with a customer who had received it'), ('rejected', 'Refused'), ('gave_up', 'Gave up after several tries'), ('content', 'The text could not be rendered'), ('worker_died', 'The worker stopped while sending'), ('lost_touch', 'The connection was lost while sending')], default='', max_length=32),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='deliveryrecord',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT unnest(ARRAY[was, now]), bits FROM (SELECT o.customer_id AS was, n.customer_id AS now, CASE WHEN ((o.status IN ('waiting', 'sending', 'uncertain', 'sent')), (o.status = 'sent'), (o.opened_at IS NULL), (o.clicked_at IS NULL), (o.replied_at IS NULL)) IS DISTINCT FROM ((n.status IN ('waiting', 'sending', 'uncertain', 'sent')), (n.status = 'sent'), (n.opened_at IS NULL), (n.clicked_at IS NULL), (n.replied_at IS NULL)) THEN 134217728::bigint ELSE 0 END | CASE WHEN n.status = 'withdrawn' AND o.status <> 'withdrawn' AND n.reason <> 'stopped' THEN 268435456::bigint ELSE 0 END | CASE WHEN o.customer_id IS DISTINCT FROM n.customer_id THEN 4611686018427387903::bigint ELSE 0 END AS bits FROM old_rows o FULL JOIN new_rows n ON n.id = o.id) AS changes WHERE bits <> 0;\n        END IF;\n        RETURN NULL;\n        ", hash='2e80831f0c51896af86fc1a38035522500e0e912', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_27ded', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='delivery_deliveryrecord', when='AFTER')),
        ),
    ]
