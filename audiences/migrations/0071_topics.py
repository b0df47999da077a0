"""Topics of messages and opt-outs of them, which the change log records."""

import django.db.models.deletion
import django.db.models.functions.text
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0071_sessions_of_imported_customers"),
    ]

    operations = [
        migrations.CreateModel(
            name='MessageTopic',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='For example: Product news. Customers see it.', max_length=100)),
                ('description', models.CharField(blank=True, default='', help_text='Customers see it below the name, where they choose topics.', max_length=300)),
                ('is_archived', models.BooleanField(default=False, help_text='New messages cannot have it, and customers do not see it. Opt-outs still hold.', verbose_name='archived')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name': 'topic',
            },
        ),
        migrations.CreateModel(
            name='TopicOptOut',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(choices=[('customer', 'The customer’s own request'), ('api', 'The API'), ('staff', 'A teammate')], max_length=16)),
                ('created_at', models.DateTimeField(verbose_name='since')),
                ('customer', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='topic_opt_outs', to='audiences.customer')),
                ('topic', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='opt_outs', to='audiences.messagetopic')),
            ],
            options={
                'default_permissions': (),
            },
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='customer',
            name='new_is_logged',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='customer',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT id, 4611686018427387903 FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='bc9ff8cc54aae311692e42d267aa54700329a657', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_2e29e', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_customer', when='AFTER')),
        ),
        migrations.AddConstraint(
            model_name='messagetopic',
            constraint=models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='topic_name_once', violation_error_message='A topic with this name already exists.'),
        ),
        migrations.AddConstraint(
            model_name='messagetopic',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='topic_has_a_name'),
        ),
        migrations.AddConstraint(
            model_name='topicoptout',
            constraint=models.UniqueConstraint(fields=('customer', 'topic'), name='opted_out_of_topic_once'),
        ),
        migrations.AddConstraint(
            model_name='topicoptout',
            constraint=models.CheckConstraint(condition=models.Q(('source__in', ['customer', 'api', 'staff'])), name='opt_out_source_is_known'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='topicoptout',
            trigger=pgtrigger.compiler.Trigger(name='new_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, 2305843009213693952 FROM new_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='377151961fbf327b7f838c9cc36e91bc76a9db7f', level='STATEMENT', operation='INSERT', pgid='pgtrigger_new_is_logged_24969', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_topicoptout', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='topicoptout',
            trigger=pgtrigger.compiler.Trigger(name='change_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM new_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT changes.* FROM old_rows o FULL JOIN new_rows n ON n.id = o.id CROSS JOIN LATERAL (SELECT o.customer_id, 2305843009213693952 UNION ALL SELECT n.customer_id, 2305843009213693952) AS changes WHERE (o.customer_id, o.topic_id) IS DISTINCT FROM (n.customer_id, n.topic_id);\n        END IF;\n        RETURN NULL;\n        ', hash='6d8c435020299d8f77acbc6ce6088147746d583e', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_change_is_logged_8286e', referencing='REFERENCING OLD TABLE AS old_rows  NEW TABLE AS new_rows ', table='audiences_topicoptout', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='topicoptout',
            trigger=pgtrigger.compiler.Trigger(name='deletion_is_logged', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n        IF EXISTS (SELECT FROM old_rows) THEN\n            INSERT INTO audiences_change (customer_id, bits) SELECT DISTINCT customer_id, 2305843009213693952 FROM old_rows;\n        END IF;\n        RETURN NULL;\n        ', hash='de16840119260a1f197e05be32467d6702d326c5', level='STATEMENT', operation='DELETE', pgid='pgtrigger_deletion_is_logged_83576', referencing='REFERENCING OLD TABLE AS old_rows ', table='audiences_topicoptout', when='AFTER')),
        ),
    ]
