"""Match states: up to where the change log was read for each message; and pairs that rounds missed."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('delivery', '0022_change_log'),
        ('messaging', '0009_plain_column_names'),
    ]

    operations = [
        migrations.CreateModel(
            name='MatchState',
            fields=[
                ('message', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='match_state', serialize=False, to='messaging.message')),
                ('horizon', models.BigIntegerField()),
                ('at', models.DateTimeField()),
                ('fingerprint', models.CharField(max_length=32)),
                ('verifying_since', models.DateTimeField(null=True)),
                ('verify_from', models.BigIntegerField(null=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='MissedMatch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('customer_id', models.BigIntegerField()),
                ('company_id', models.BigIntegerField(null=True)),
                ('found_at', models.DateTimeField()),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='messaging.message')),
            ],
            options={
                'verbose_name_plural': 'missed matches',
                'default_permissions': (),
                'indexes': [models.Index(fields=['found_at'], name='missed_match_found')],
            },
        ),
    ]
