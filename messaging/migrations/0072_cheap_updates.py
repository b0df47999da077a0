"""Rounds update every message: without the lock's trigger, and on the same page, so that no index changes."""

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0071_quiet_hours"),
    ]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE messaging_message SET (fillfactor = 50)",
            "ALTER TABLE messaging_message RESET (fillfactor)",
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name="message",
            name="locked_once_live",
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="message",
            trigger=pgtrigger.compiler.Trigger(
                name="locked_once_live",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition="WHEN (OLD.went_live_at IS NOT NULL AND (OLD.went_live_at, OLD.channel, OLD.send_type, OLD.per_company, OLD.to_customer_id, OLD.to_company_id, OLD.audience_id, OLD.only_new_matches, OLD.topic_id) IS DISTINCT FROM (NEW.went_live_at, NEW.channel, NEW.send_type, NEW.per_company, NEW.to_customer_id, NEW.to_company_id, NEW.audience_id, NEW.only_new_matches, NEW.topic_id))",
                    func="\n                IF NEW.channel <> OLD.channel OR NEW.send_type <> OLD.send_type OR NEW.per_company <> OLD.per_company\n                    OR (NEW.to_customer_id IS DISTINCT FROM OLD.to_customer_id\n                        AND coalesce(current_setting('outbound.merging', true), '') <> 'on')\n                    OR NEW.to_company_id IS DISTINCT FROM OLD.to_company_id\n                    OR NEW.audience_id IS DISTINCT FROM OLD.audience_id\n                    OR NEW.only_new_matches <> OLD.only_new_matches\n                    OR NEW.topic_id IS DISTINCT FROM OLD.topic_id THEN\n                    RAISE EXCEPTION 'This message has been live. How it sends can no longer be changed.'\n                        USING ERRCODE = 'check_violation';\n                END IF;\n                IF NEW.went_live_at IS DISTINCT FROM OLD.went_live_at THEN\n                    RAISE EXCEPTION 'When a message went live cannot be changed.' USING ERRCODE = 'check_violation';\n                END IF;\n                RETURN NEW;\n                ",
                    hash="badd01f332558e86ad2507684dc8c16cd75a51c8",
                    operation="UPDATE",
                    pgid="pgtrigger_locked_once_live_1e847",
                    table="messaging_message",
                    when="BEFORE",
                ),
            ),
        ),
    ]
