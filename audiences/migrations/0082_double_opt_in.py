"""Double opt-in: the setting, the time of a confirmation, which the change log records, and confirmation emails."""

import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0081_quiet_hours'),
    ]

    operations = [
        migrations.CreateModel(
            name='ConfirmationMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.TextField(null=True)),
                ('address_hash', models.BinaryField()),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='confirmation_mails', to='audiences.customer')),
                ('requested_at', models.DateTimeField()),
                ('confirmed_at', models.DateTimeField(blank=True, null=True)),
                ('status', models.CharField(choices=[('waiting', 'Waiting'), ('sending', 'Sending'), ('uncertain', 'Uncertain'), ('sent', 'Sent'), ('failed', 'Failed'), ('skipped', 'Skipped')], default='waiting', max_length=16)),
                ('due_at', models.DateTimeField()),
                ('claim', models.UUIDField(blank=True, null=True)),
                ('leased_until', models.DateTimeField(blank=True, null=True)),
                ('taken_at', models.DateTimeField(blank=True, null=True)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('detail', models.TextField(blank=True, default='')),
                ('provider_id', models.CharField(blank=True, default='', max_length=255)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='customer',
            name='change_is_logged',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='workspace',
            name='zone_changed',
        ),
        migrations.AddField(
            model_name='customer',
            name='opted_in_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='workspace',
            name='double_opt_in',
            field=models.BooleanField(db_default=False, default=False, help_text='If on, a lead gets no email to an audience before they confirm their address.', verbose_name='leads confirm their address'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customer',
            trigger=pgtrigger.compiler.Trigger(name='opt_in_is_of_address', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD.email IS DISTINCT FROM NEW.email AND OLD.opted_in_at IS NOT DISTINCT FROM NEW.opted_in_at)', func='NEW.opted_in_at := NULL; RETURN NEW;', hash='3a55c1e2d6f0acdc736b93bcc509e0c076930310', operation='UPDATE OF "email"', pgid='pgtrigger_opt_in_is_of_address_c837a', table='audiences_customer', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customer',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n        IF EXISTS (SELECT FROM new_rows) THEN\n            IF EXISTS (SELECT FROM old_rows o FULL JOIN new_rows n ON n.id = o.id WHERE record_image_ne(ROW(o.role, (o.archived_at IS NULL), o.email, o.unsubscribed_from_emails, o.has_hard_bounced, o.marked_email_as_spam, o.name, o.phone, o.user_id, o.signed_up_at, o.last_heard_from_at, o.last_opened_email_at, o.last_clicked_email_at, o.country, o.city, o.timezone, o.browser, o.os, o.language, o.owner_id, o.details, (o.opted_in_at IS NULL), o.email_is_said, o.attributes), ROW(n.role, (n.archived_at IS NULL), n.email, n.unsubscribed_from_emails, n.has_hard_bounced, n.marked_email_as_spam, n.name, n.phone, n.user_id, n.signed_up_at, n.last_heard_from_at, n.last_opened_email_at, n.last_clicked_email_at, n.country, n.city, n.timezone, n.browser, n.os, n.language, n.owner_id, n.details, (n.opted_in_at IS NULL), n.email_is_said, n.attributes))) THEN\n                INSERT INTO audiences_change (customer_id, bits) SELECT id, bits FROM (SELECT n.id AS id, CASE WHEN (o.role) IS DISTINCT FROM (n.role) THEN 1::bigint ELSE 0 END | CASE WHEN ((o.archived_at IS NULL)) IS DISTINCT FROM ((n.archived_at IS NULL)) THEN 2::bigint ELSE 0 END | CASE WHEN (o.email, (o.opted_in_at IS NULL), o.email_is_said) IS DISTINCT FROM (n.email, (n.opted_in_at IS NULL), n.email_is_said) THEN 4::bigint ELSE 0 END | CASE WHEN (o.unsubscribed_from_emails) IS DISTINCT FROM (n.unsubscribed_from_emails) THEN 8::bigint ELSE 0 END | CASE WHEN (o.has_hard_bounced) IS DISTINCT FROM (n.has_hard_bounced) THEN 16::bigint ELSE 0 END | CASE WHEN (o.marked_email_as_spam) IS DISTINCT FROM (n.marked_email_as_spam) THEN 32::bigint ELSE 0 END | CASE WHEN (o.name) IS DISTINCT FROM (n.name) THEN 64::bigint ELSE 0 END | CASE WHEN (o.phone) IS DISTINCT FROM (n.phone) THEN 128::bigint ELSE 0 END | CASE WHEN (o.user_id) IS DISTINCT FROM (n.user_id) THEN 256::bigint ELSE 0 END | CASE WHEN (o.first_seen_at) IS DISTINCT FROM (n.first_seen_at) THEN 512::bigint ELSE 0 END | CASE WHEN (o.signed_up_at) IS DISTINCT FROM (n.signed_up_at) THEN 1024::bigint ELSE 0 END | CASE WHEN (o.last_seen_at) IS DISTINCT FROM (n.last_seen_at) THEN 2048::bigint ELSE 0 END | CASE WHEN (o.last_contacted_at) IS DISTINCT FROM (n.last_contacted_at) THEN 4096::bigint ELSE 0 END | CASE WHEN (o.last_heard_from_at) IS DISTINCT FROM (n.last_heard_from_at) THEN 8192::bigint ELSE 0 END | CASE WHEN (o.last_opened_email_at) IS DISTINCT FROM (n.last_opened_email_at) THEN 16384::bigint ELSE 0 END | CASE WHEN (o.last_clicked_email_at) IS DISTINCT FROM (n.last_clicked_email_at) THEN 32768::bigint ELSE 0 END | CASE WHEN (o.session_count) IS DISTINCT FROM (n.session_count) THEN 65536::bigint ELSE 0 END | CASE WHEN (o.country) IS DISTINCT FROM (n.country) THEN 131072::bigint ELSE 0 END | CASE WHEN (o.city) IS DISTINCT FROM (n.city) THEN 262144::bigint ELSE 0 END | CASE WHEN (o.timezone) IS DISTINCT FROM (n.timezone) THEN 524288::bigint ELSE 0 END | CASE WHEN (o.browser) IS DISTINCT FROM (n.browser) THEN 1048576::bigint ELSE 0 END | CASE WHEN (o.os) IS DISTINCT FROM (n.os) THEN 2097152::bigint ELSE 0 END | CASE WHEN (o.language) IS DISTINCT FROM (n.language) THEN 4194304::bigint ELSE 0 END | CASE WHEN (o.owner_id) IS DISTINCT FROM (n.owner_id) THEN 8388608::bigint ELSE 0 END | CASE WHEN (o.details) IS DISTINCT FROM (n.details) THEN 16777216::bigint ELSE 0 END | CASE WHEN (o.attributes) IS DISTINCT FROM (n.attributes) THEN (SELECT coalesce(bit_or(137438953472::bigint << (get_byte(decode(md5(coalesce(a.key, b.key)), 'hex'), 0) % 16)), 0) FROM jsonb_each(coalesce(o.attributes, '{}')) a FULL JOIN jsonb_each(coalesce(n.attributes, '{}')) b ON b.key = a.key WHERE a.value IS DISTINCT FROM b.value) ELSE 0 END AS bits FROM old_rows o FULL JOIN new_rows n ON n.id = o.id OFFSET 0) AS changes WHERE bits <> 0;\n            ELSE\n                INSERT INTO audiences_change (customer_id, bits) SELECT id, bits FROM (SELECT n.id AS id, CASE WHEN (o.last_seen_at) IS DISTINCT FROM (n.last_seen_at) THEN 2048::bigint ELSE 0 END | CASE WHEN (o.session_count) IS DISTINCT FROM (n.session_count) THEN 65536::bigint ELSE 0 END | CASE WHEN (o.first_seen_at) IS DISTINCT FROM (n.first_seen_at) THEN 512::bigint ELSE 0 END | CASE WHEN (o.last_contacted_at) IS DISTINCT FROM (n.last_contacted_at) THEN 4096::bigint ELSE 0 END AS bits FROM old_rows o FULL JOIN new_rows n ON n.id = o.id OFFSET 0) AS changes WHERE bits <> 0;\n            END IF;\n        END IF;\n        RETURN NULL;\n        ", hash='abda24ad3171d6e87c6dbdf9d34ead79f50aa2da', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_53bd2', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_customer', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='workspace',
            trigger=pgtrigger.compiler.Trigger(name='zone_changed', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN ((OLD.zone, OLD.identity_secret, OLD.require_user_hash, OLD.quiet_from, OLD.quiet_to, OLD.double_opt_in) IS DISTINCT FROM (NEW.zone, NEW.identity_secret, NEW.require_user_hash, NEW.quiet_from, NEW.quiet_to, NEW.double_opt_in))', func='NEW.generation = OLD.generation + 1; RETURN NEW;', hash='f724e90150b76b22fd47a1c92cb83a60ac6b4304', operation='UPDATE', pgid='pgtrigger_zone_changed_aee90', table='audiences_workspace', when='BEFORE')),
        ),
        migrations.AddIndex(
            model_name='confirmationmail',
            index=models.Index(condition=models.Q(('status', 'waiting')), fields=['due_at', 'id'], name='confirmation_due'),
        ),
        migrations.AddIndex(
            model_name='confirmationmail',
            index=models.Index(fields=['due_at'], name='confirmation_of_hour'),
        ),
        migrations.AddIndex(
            model_name='confirmationmail',
            index=models.Index(condition=models.Q(('status', 'sending')), fields=['leased_until'], name='confirmation_in_hand'),
        ),
        migrations.AddConstraint(
            model_name='confirmationmail',
            constraint=models.UniqueConstraint(fields=('address_hash',), name='one_confirmation_per_address'),
        ),
        migrations.AddConstraint(
            model_name='confirmationmail',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['waiting', 'sending', 'uncertain', 'sent', 'failed', 'skipped'])), name='confirmation_status_is_known'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='confirmationmail',
            trigger=pgtrigger.compiler.Trigger(name='address_is_hashed', sql=pgtrigger.compiler.UpsertTriggerSql(func='NEW.address_hash := audiences_address_hash(NEW.address); RETURN NEW;', hash='f04ae909ce0e86b693389d1ca1a149bc6342e0dc', operation='INSERT', pgid='pgtrigger_address_is_hashed_92b64', table='audiences_confirmationmail', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='confirmationmail',
            trigger=pgtrigger.compiler.Trigger(name='erased_has_no_details', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (NEW.address IS NULL)', func="NEW.detail := ''; NEW.provider_id := ''; RETURN NEW;", hash='be2639512594074305b03e0bdd4b138f60e405e3', operation='UPDATE', pgid='pgtrigger_erased_has_no_details_f321b', table='audiences_confirmationmail', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='confirmationmail',
            trigger=pgtrigger.compiler.Trigger(name='at_most_one_a_day', sql=pgtrigger.compiler.UpsertTriggerSql(condition="WHEN (OLD.address_hash IS DISTINCT FROM NEW.address_hash OR (OLD.requested_at IS DISTINCT FROM NEW.requested_at AND OLD.status <> 'skipped' AND (OLD.status <> 'failed' OR OLD.taken_at IS NOT NULL) AND NEW.requested_at < greatest(OLD.requested_at, OLD.taken_at, OLD.sent_at) + interval '24 hours'))", func="\n                RAISE EXCEPTION 'An address gets at most one confirmation email within 24 hours.'\n                    USING ERRCODE = 'check_violation';\n                ", hash='87823d314096032b126a5d9f7ed824ba1bf7f893', operation='UPDATE', pgid='pgtrigger_at_most_one_a_day_38ea7', table='audiences_confirmationmail', when='BEFORE')),
        ),
    ]
