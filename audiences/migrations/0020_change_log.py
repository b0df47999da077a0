"""Change log: its table, in three slots that are truncated in turn, and the triggers that write it."""

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


# Append-only, so only a BRIN index: an entry costs its writer nearly nothing.
CREATE_TABLE = """
CREATE TABLE audiences_change (
    customer_id bigint,
    company_id bigint,
    message_id bigint,
    first_record bigint,
    last_record bigint,
    bits bigint NOT NULL,
    xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    slot smallint NOT NULL DEFAULT (date_part('hour', now())::int % 3)
) PARTITION BY LIST (slot);
CREATE TABLE audiences_change_0 PARTITION OF audiences_change FOR VALUES IN (0);
CREATE TABLE audiences_change_1 PARTITION OF audiences_change FOR VALUES IN (1);
CREATE TABLE audiences_change_2 PARTITION OF audiences_change FOR VALUES IN (2);
CREATE INDEX audiences_change_xid ON audiences_change USING brin (xid) WITH (pages_per_range = 8, autosummarize = on);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0019_webhook_streams'),
    ]

    operations = [
        migrations.RunSQL(CREATE_TABLE, "DROP TABLE audiences_change"),
        pgtrigger.migrations.AddTrigger(
            model_name='company',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (company_id, bits) SELECT id, bits FROM (SELECT n.id AS id, CASE WHEN ((o.archived_at IS NULL)) IS DISTINCT FROM ((n.archived_at IS NULL)) THEN 1073741824::bigint ELSE 0 END | CASE WHEN (o.company_id, o.name, o.plan, o.monthly_spend, o.size, o.industry, o.website, o.remote_created_at) IS DISTINCT FROM (n.company_id, n.name, n.plan, n.monthly_spend, n.size, n.industry, n.website, n.remote_created_at) THEN 2147483648::bigint ELSE 0 END | CASE WHEN (o.last_seen_at) IS DISTINCT FROM (n.last_seen_at) THEN 4294967296::bigint ELSE 0 END | CASE WHEN (o.session_count) IS DISTINCT FROM (n.session_count) THEN 8589934592::bigint ELSE 0 END | CASE WHEN (o.attributes) IS DISTINCT FROM (n.attributes) THEN 17179869184::bigint ELSE 0 END AS bits FROM old_rows o FULL JOIN new_rows n ON n.id = o.id OFFSET 0) AS changes WHERE bits <> 0;\n        END IF;\n        RETURN NULL;\n        ', hash='37ecee0897fa73b037806510b85a024ac2437878', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_c91ad', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_company', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='companytag',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (company_id, bits) SELECT DISTINCT company_id, 34359738368 FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='07dc9ef10dee44506ccda2011d809c26c8293797', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_fcdc0', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_companytag', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='companytag',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (company_id, bits) SELECT DISTINCT changes.* FROM old_rows o FULL JOIN new_rows n ON n.id = o.id CROSS JOIN LATERAL (SELECT o.company_id, 34359738368 UNION ALL SELECT n.company_id, 34359738368) AS changes WHERE (o.company_id, o.tag_id) IS DISTINCT FROM (n.company_id, n.tag_id);\n        END IF;\n        RETURN NULL;\n        ', hash='1bad2f31f8c26448ed90607d402c036b1bcbdb82', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_d3614', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_companytag', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='companytag',
            trigger=pgtrigger.compiler.Trigger(name='deletion_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM old_rows) THEN\n            INSERT INTO audiences_change (company_id, bits) SELECT DISTINCT company_id, 34359738368 FROM old_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='1fb9d9842384ced242d1db2eed09b6440e6740e6', level='STATEMENT', operation='DELETE', pgid='pgtrigger_deletion_is_logged_b8170', referencing='REFERENCING OLD TABLE AS old_rows ', table='audiences_companytag', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customer',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT id, 2305843009213693951 FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='82d7bb700a7c751dac499162fd612014d345a8a6', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_2e29e', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_customer', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customer',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n        IF EXISTS (SELECT FROM new_rows) THEN\n            IF EXISTS (SELECT FROM old_rows o FULL JOIN new_rows n ON n.id = o.id WHERE record_image_ne(ROW(o.role, (o.archived_at IS NULL), o.email, o.unsubscribed_from_emails, o.has_hard_bounced, o.marked_email_as_spam, o.name, o.phone, o.user_id, o.signed_up_at, o.last_heard_from_at, o.last_opened_email_at, o.last_clicked_email_at, o.country, o.city, o.timezone, o.browser, o.os, o.language, o.owner_id, o.details, o.attributes), ROW(n.role, (n.archived_at IS NULL), n.email, n.unsubscribed_from_emails, n.has_hard_bounced, n.marked_email_as_spam, n.name, n.phone, n.user_id, n.signed_up_at, n.last_heard_from_at, n.last_opened_email_at, n.last_clicked_email_at, n.country, n.city, n.timezone, n.browser, n.os, n.language, n.owner_id, n.details, n.attributes))) THEN\n                INSERT INTO audiences_change (customer_id, bits) SELECT id, bits FROM (SELECT n.id AS id, CASE WHEN (o.role) IS DISTINCT FROM (n.role) THEN 1::bigint ELSE 0 END | CASE WHEN ((o.archived_at IS NULL)) IS DISTINCT FROM ((n.archived_at IS NULL)) THEN 2::bigint ELSE 0 END | CASE WHEN (o.email) IS DISTINCT FROM (n.email) THEN 4::bigint ELSE 0 END | CASE WHEN (o.unsubscribed_from_emails) IS DISTINCT FROM (n.unsubscribed_from_emails) THEN 8::bigint ELSE 0 END | CASE WHEN (o.has_hard_bounced) IS DISTINCT FROM (n.has_hard_bounced) THEN 16::bigint ELSE 0 END | CASE WHEN (o.marked_email_as_spam) IS DISTINCT FROM (n.marked_email_as_spam) THEN 32::bigint ELSE 0 END | CASE WHEN (o.name) IS DISTINCT FROM (n.name) THEN 64::bigint ELSE 0 END | CASE WHEN (o.phone) IS DISTINCT FROM (n.phone) THEN 128::bigint ELSE 0 END | CASE WHEN (o.user_id) IS DISTINCT FROM (n.user_id) THEN 256::bigint ELSE 0 END | CASE WHEN (o.first_seen_at) IS DISTINCT FROM (n.first_seen_at) THEN 512::bigint ELSE 0 END | CASE WHEN (o.signed_up_at) IS DISTINCT FROM (n.signed_up_at) THEN 1024::bigint ELSE 0 END | CASE WHEN (o.last_seen_at) IS DISTINCT FROM (n.last_seen_at) THEN 2048::bigint ELSE 0 END | CASE WHEN (o.last_contacted_at) IS DISTINCT FROM (n.last_contacted_at) THEN 4096::bigint ELSE 0 END | CASE WHEN (o.last_heard_from_at) IS DISTINCT FROM (n.last_heard_from_at) THEN 8192::bigint ELSE 0 END | CASE WHEN (o.last_opened_email_at) IS DISTINCT FROM (n.last_opened_email_at) THEN 16384::bigint ELSE 0 END | CASE WHEN (o.last_clicked_email_at) IS DISTINCT FROM (n.last_clicked_email_at) THEN 32768::bigint ELSE 0 END | CASE WHEN (o.session_count) IS DISTINCT FROM (n.session_count) THEN 65536::bigint ELSE 0 END | CASE WHEN (o.country) IS DISTINCT FROM (n.country) THEN 131072::bigint ELSE 0 END | CASE WHEN (o.city) IS DISTINCT FROM (n.city) THEN 262144::bigint ELSE 0 END | CASE WHEN (o.timezone) IS DISTINCT FROM (n.timezone) THEN 524288::bigint ELSE 0 END | CASE WHEN (o.browser) IS DISTINCT FROM (n.browser) THEN 1048576::bigint ELSE 0 END | CASE WHEN (o.os) IS DISTINCT FROM (n.os) THEN 2097152::bigint ELSE 0 END | CASE WHEN (o.language) IS DISTINCT FROM (n.language) THEN 4194304::bigint ELSE 0 END | CASE WHEN (o.owner_id) IS DISTINCT FROM (n.owner_id) THEN 8388608::bigint ELSE 0 END | CASE WHEN (o.details) IS DISTINCT FROM (n.details) THEN 16777216::bigint ELSE 0 END | CASE WHEN (o.attributes) IS DISTINCT FROM (n.attributes) THEN (SELECT coalesce(bit_or(137438953472::bigint << (get_byte(decode(md5(coalesce(a.key, b.key)), 'hex'), 0) % 16)), 0) FROM jsonb_each(coalesce(o.attributes, '{}')) a FULL JOIN jsonb_each(coalesce(n.attributes, '{}')) b ON b.key = a.key WHERE a.value IS DISTINCT FROM b.value) ELSE 0 END AS bits FROM old_rows o FULL JOIN new_rows n ON n.id = o.id OFFSET 0) AS changes WHERE bits <> 0;\n            ELSE\n                INSERT INTO audiences_change (customer_id, bits) SELECT id, bits FROM (SELECT n.id AS id, CASE WHEN (o.last_seen_at) IS DISTINCT FROM (n.last_seen_at) THEN 2048::bigint ELSE 0 END | CASE WHEN (o.session_count) IS DISTINCT FROM (n.session_count) THEN 65536::bigint ELSE 0 END | CASE WHEN (o.first_seen_at) IS DISTINCT FROM (n.first_seen_at) THEN 512::bigint ELSE 0 END | CASE WHEN (o.last_contacted_at) IS DISTINCT FROM (n.last_contacted_at) THEN 4096::bigint ELSE 0 END AS bits FROM old_rows o FULL JOIN new_rows n ON n.id = o.id OFFSET 0) AS changes WHERE bits <> 0;\n            END IF;\n        END IF;\n        RETURN NULL;\n        ", hash='79c27b0f6e6753b957479f0d4b41c5d1814f23da', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_53bd2', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_customer', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customertag',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, 67108864 FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='8f8799019de8ae5ee2988c903844fb2a526aa16c', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_fd7ca', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_customertag', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customertag',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT changes.* FROM old_rows o FULL JOIN new_rows n ON n.id = o.id CROSS JOIN LATERAL (SELECT o.customer_id, 67108864 UNION ALL SELECT n.customer_id, 67108864) AS changes WHERE (o.customer_id, o.tag_id) IS DISTINCT FROM (n.customer_id, n.tag_id);\n        END IF;\n        RETURN NULL;\n        ', hash='f2f33a61e141516527b320899a5cb0eba3f5e416', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_59dfb', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_customertag', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customertag',
            trigger=pgtrigger.compiler.Trigger(name='deletion_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM old_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, 67108864 FROM old_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='172a511caf842ef0bf74c552a1a3479e4c3bfb18', level='STATEMENT', operation='DELETE', pgid='pgtrigger_deletion_is_logged_9ece0', referencing='REFERENCING OLD TABLE AS old_rows ', table='audiences_customertag', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='device',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, 33554432 FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='355e0b709279964a4c6eeb93b39b02cef551c08b', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_c5a0d', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_device', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='device',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT changes.* FROM old_rows o FULL JOIN new_rows n ON n.id = o.id CROSS JOIN LATERAL (SELECT o.customer_id, 33554432 UNION ALL SELECT n.customer_id, 33554432) AS changes WHERE (o.customer_id, (o.retired_at IS NULL)) IS DISTINCT FROM (n.customer_id, (n.retired_at IS NULL));\n        END IF;\n        RETURN NULL;\n        ', hash='2037a86629a88deb790b57bc30595eabaa6d183a', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_457a6', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_device', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='device',
            trigger=pgtrigger.compiler.Trigger(name='deletion_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM old_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, 33554432 FROM old_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='a287be6fdcb3bfe1cc254ca35ab660e892429537', level='STATEMENT', operation='DELETE', pgid='pgtrigger_deletion_is_logged_9c3b1', referencing='REFERENCING OLD TABLE AS old_rows ', table='audiences_device', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='eventsummary',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, (9007199254740992::bigint << (get_byte(decode(md5(new_rows.name), 'hex'), 0) % 8)) FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ", hash='ea3ca4702f68a8cc01c56b21c8b1d576a9e17c10', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_d5d6f', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_eventsummary', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='eventsummary',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT changes.* FROM old_rows o FULL JOIN new_rows n ON n.id = o.id CROSS JOIN LATERAL (SELECT o.customer_id, (9007199254740992::bigint << (get_byte(decode(md5(o.name), 'hex'), 0) % 8)) UNION ALL SELECT n.customer_id, (9007199254740992::bigint << (get_byte(decode(md5(n.name), 'hex'), 0) % 8))) AS changes WHERE (o.customer_id, o.name, o.count, o.first_at, o.last_at) IS DISTINCT FROM (n.customer_id, n.name, n.count, n.first_at, n.last_at);\n        END IF;\n        RETURN NULL;\n        ", hash='e2a44bf97cedbca063c9cdb925b2b624b6e38ec9', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_e6621', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_eventsummary', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='eventsummary',
            trigger=pgtrigger.compiler.Trigger(name='deletion_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n        IF EXISTS (SELECT FROM old_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, (9007199254740992::bigint << (get_byte(decode(md5(old_rows.name), 'hex'), 0) % 8)) FROM old_rows;\n        END IF;\n        RETURN NULL;\n        ", hash='9247e75285ca1ac6e46d5eef9f83c1429d150921', level='STATEMENT', operation='DELETE', pgid='pgtrigger_deletion_is_logged_aa936', referencing='REFERENCING OLD TABLE AS old_rows ', table='audiences_eventsummary', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='membership',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, company_id, bits) SELECT DISTINCT customer_id, company_id, 69256347648 FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='1e942629620edc245daff6fdef3f5539b0bd477f', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_60802', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_membership', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='membership',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, company_id, bits) SELECT DISTINCT changes.* FROM old_rows o FULL JOIN new_rows n ON n.id = o.id CROSS JOIN LATERAL (SELECT o.customer_id, o.company_id, 69256347648 UNION ALL SELECT n.customer_id, n.company_id, 69256347648) AS changes WHERE (o.customer_id, o.company_id) IS DISTINCT FROM (n.customer_id, n.company_id);\n        END IF;\n        RETURN NULL;\n        ', hash='ba04aa23feaf89f881d6df2618d80bd34fdafc3a', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_b5ca0', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_membership', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='membership',
            trigger=pgtrigger.compiler.Trigger(name='deletion_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM old_rows) THEN\n            INSERT INTO audiences_change (customer_id, company_id, bits) SELECT DISTINCT customer_id, company_id, 69256347648 FROM old_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='818e5369bd4c15c6e50e939f83c163ce4dfde686', level='STATEMENT', operation='DELETE', pgid='pgtrigger_deletion_is_logged_82576', referencing='REFERENCING OLD TABLE AS old_rows ', table='audiences_membership', when='AFTER')),
        ),
    ]
