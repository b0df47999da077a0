"""Triggers that write changes of delivery records to the change log, and quicker triggers of the counters."""

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0020_change_log'),
        ('delivery', '0023_plain_task_names'),
    ]

    operations = [
        pgtrigger.migrations.RemoveTrigger(
            model_name='deliveryrecord',
            name='counts_what_is_new',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='deliveryrecord',
            name='counts_what_changes',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='deliveryrecord',
            trigger=pgtrigger.compiler.Trigger(name='counts_what_is_new', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n    IF EXISTS (SELECT FROM new_rows) THEN\n        INSERT INTO delivery_countchange (message_id, what, quarter, number)\n            SELECT message_id, what, quarter, sum(number) FROM (SELECT message_id, status AS what, date_bin('15 minutes', sent_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS quarter, 1 AS number FROM new_rows UNION ALL SELECT message_id, moments.what, date_bin('15 minutes', moments.at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), 1 FROM new_rows CROSS JOIN LATERAL (VALUES ('opened', CASE WHEN status = 'sent' THEN opened_at END), ('clicked', CASE WHEN status = 'sent' THEN clicked_at END), ('replied', CASE WHEN status = 'sent' THEN replied_at END), ('bounced', bounced_at), ('complained', complained_at), ('unsubscribed', unsubscribed_at)) AS moments(what, at) WHERE coalesce(opened_at, clicked_at, replied_at, bounced_at, complained_at, unsubscribed_at) IS NOT NULL AND moments.at IS NOT NULL) AS changes\n            GROUP BY message_id, what, quarter HAVING sum(number) <> 0;\n    END IF;\n    RETURN NULL;\n    ", hash='862ad045075d24b0c81ff8e74ace3207d4c6fd2b', level='STATEMENT', operation='INSERT', pgid='pgtrigger_counts_what_is_new_4462b', referencing='REFERENCING NEW TABLE AS new_rows ', table='delivery_deliveryrecord', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='deliveryrecord',
            trigger=pgtrigger.compiler.Trigger(name='counts_what_changes', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n    IF EXISTS (SELECT FROM new_rows) THEN\n        INSERT INTO delivery_countchange (message_id, what, quarter, number)\n            SELECT message_id, what, quarter, sum(number) FROM (SELECT message_id, status AS what, date_bin('15 minutes', sent_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS quarter, 1 AS number FROM new_rows UNION ALL SELECT message_id, moments.what, date_bin('15 minutes', moments.at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), 1 FROM new_rows CROSS JOIN LATERAL (VALUES ('opened', CASE WHEN status = 'sent' THEN opened_at END), ('clicked', CASE WHEN status = 'sent' THEN clicked_at END), ('replied', CASE WHEN status = 'sent' THEN replied_at END), ('bounced', bounced_at), ('complained', complained_at), ('unsubscribed', unsubscribed_at)) AS moments(what, at) WHERE coalesce(opened_at, clicked_at, replied_at, bounced_at, complained_at, unsubscribed_at) IS NOT NULL AND moments.at IS NOT NULL UNION ALL SELECT message_id, status AS what, date_bin('15 minutes', sent_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS quarter, -1 AS number FROM old_rows UNION ALL SELECT message_id, moments.what, date_bin('15 minutes', moments.at, TIMESTAMPTZ '2000-01-01 00:00:00+00'), -1 FROM old_rows CROSS JOIN LATERAL (VALUES ('opened', CASE WHEN status = 'sent' THEN opened_at END), ('clicked', CASE WHEN status = 'sent' THEN clicked_at END), ('replied', CASE WHEN status = 'sent' THEN replied_at END), ('bounced', bounced_at), ('complained', complained_at), ('unsubscribed', unsubscribed_at)) AS moments(what, at) WHERE coalesce(opened_at, clicked_at, replied_at, bounced_at, complained_at, unsubscribed_at) IS NOT NULL AND moments.at IS NOT NULL) AS changes\n            GROUP BY message_id, what, quarter HAVING sum(number) <> 0;\n    END IF;\n    RETURN NULL;\n    ", hash='acfec033c26c717a44a56f697a4bd2545c05b2a5', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_counts_what_changes_cd7cb', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='delivery_deliveryrecord', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='deliveryrecord',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (message_id, first_record, last_record, bits) SELECT message_id, min(id), max(id), 134217728 FROM new_rows GROUP BY message_id;\n        END IF;\n        RETURN NULL;\n        ', hash='1b993e0a6aacdda2eaae7e723bce7d3a8bb2fcba', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_90233', referencing='REFERENCING NEW TABLE AS new_rows ', table='delivery_deliveryrecord', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='deliveryrecord',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT unnest(ARRAY[was, now]), bits FROM (SELECT o.customer_id AS was, n.customer_id AS now, CASE WHEN ((o.status IN ('waiting', 'sending', 'uncertain', 'sent')), (o.status = 'sent'), (o.opened_at IS NULL), (o.clicked_at IS NULL), (o.replied_at IS NULL)) IS DISTINCT FROM ((n.status IN ('waiting', 'sending', 'uncertain', 'sent')), (n.status = 'sent'), (n.opened_at IS NULL), (n.clicked_at IS NULL), (n.replied_at IS NULL)) THEN 134217728::bigint ELSE 0 END | CASE WHEN n.status = 'withdrawn' AND o.status <> 'withdrawn' AND n.reason <> 'stopped' THEN 268435456::bigint ELSE 0 END | CASE WHEN o.customer_id IS DISTINCT FROM n.customer_id THEN 2305843009213693951::bigint ELSE 0 END AS bits FROM old_rows o FULL JOIN new_rows n ON n.id = o.id) AS changes WHERE bits <> 0;\n        END IF;\n        RETURN NULL;\n        ", hash='c00728cdc8c8872c8b6bf75b600faf32af765f8e', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_27ded', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='delivery_deliveryrecord', when='AFTER')),
        ),
    ]
