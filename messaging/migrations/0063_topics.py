"""The topic of a message, locked once live."""

import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0071_topics'),
        ("messaging", "0062_reason_ends_with_pause"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        pgtrigger.migrations.RemoveTrigger(
            model_name='message',
            name='locked_once_live',
        ),
        migrations.AddField(
            model_name='message',
            name='topic',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='audiences.messagetopic'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='message',
            trigger=pgtrigger.compiler.Trigger(name='locked_once_live', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD.went_live_at IS NOT NULL)', func="\n                IF NEW.channel <> OLD.channel OR NEW.send_type <> OLD.send_type OR NEW.per_company <> OLD.per_company\n                    OR (NEW.to_customer_id IS DISTINCT FROM OLD.to_customer_id\n                        AND coalesce(current_setting('outbound.merging', true), '') <> 'on')\n                    OR NEW.to_company_id IS DISTINCT FROM OLD.to_company_id\n                    OR NEW.audience_id IS DISTINCT FROM OLD.audience_id\n                    OR NEW.only_new_matches <> OLD.only_new_matches\n                    OR NEW.topic_id IS DISTINCT FROM OLD.topic_id THEN\n                    RAISE EXCEPTION 'This message has been live. How it sends can no longer be changed.'\n                        USING ERRCODE = 'check_violation';\n                END IF;\n                IF NEW.went_live_at IS DISTINCT FROM OLD.went_live_at THEN\n                    RAISE EXCEPTION 'When a message went live cannot be changed.' USING ERRCODE = 'check_violation';\n                END IF;\n                RETURN NEW;\n                ", hash='606c8dd1525c87254513820f867d6d59ec4db104', operation='UPDATE', pgid='pgtrigger_locked_once_live_1e847', table='messaging_message', when='BEFORE')),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.CheckConstraint(condition=models.Q(('topic', None), ('to_customer', None), _connector='OR'), name='only_an_audience_has_a_topic'),
        ),
    ]
