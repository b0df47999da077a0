"""Attributes and event names can be retired; names that browsers may not add are listed for staff."""

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audiences', '0014_user_id_is_no_key'),
    ]

    operations = [
        migrations.CreateModel(
            name='EventName',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.TextField(unique=True)),
                ('created_at', models.DateTimeField()),
                ('retired_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
            },
        ),
        migrations.CreateModel(
            name='RefusedName',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('of', models.CharField(choices=[('customer', 'Customer attribute'), ('company', 'Company attribute'), ('event', 'Event')], max_length=8)),
                ('name', models.TextField()),
                ('kind', models.CharField(blank=True, choices=[('text', 'text'), ('number', 'number'), ('boolean', 'boolean'), ('date', 'date')], default='', max_length=8)),
                ('times', models.PositiveBigIntegerField(default=1)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name='customattribute',
            name='retired_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='eventsummary',
            trigger=pgtrigger.compiler.Trigger(name='event_name_is_listed', sql=pgtrigger.compiler.UpsertTriggerSql(func='\n                INSERT INTO audiences_eventname (name, created_at)\n                SELECT name, min(first_at) FROM added\n                WHERE NOT EXISTS (SELECT FROM audiences_eventname n WHERE n.name = added.name)\n                GROUP BY name ORDER BY name ON CONFLICT DO NOTHING;\n                RETURN NULL;\n                ', hash='c9533e81e7f181c1c2b3852e20e7ca17ed3670bb', level='STATEMENT', operation='INSERT', pgid='pgtrigger_event_name_is_listed_e2b6a', referencing='REFERENCING NEW TABLE AS added ', table='audiences_eventsummary', when='AFTER')),
        ),
        # After the trigger, which shuts the table to writers until both are there.
        migrations.RunSQL(
            "INSERT INTO audiences_eventname (name, created_at)"
            " SELECT name, min(first_at) FROM audiences_eventsummary GROUP BY name ON CONFLICT DO NOTHING",
            migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name='refusedname',
            constraint=models.UniqueConstraint(fields=('of', 'name'), name='refused_name_listed_once'),
        ),
    ]
