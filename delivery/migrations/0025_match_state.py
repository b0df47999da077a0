"""Match states: up to where the change log was read for each message; pairs that rounds missed, and their alarm."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('delivery', '0024_change_log'),
        ('messaging', '0010_checking'),
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
            ],
            options={
                'verbose_name_plural': 'missed matches',
                'default_permissions': (),
            },
        ),
        migrations.RemoveConstraint(
            model_name='alarm',
            name='alarm_kind_is_known',
        ),
        migrations.AlterField(
            model_name='alarm',
            name='kind',
            field=models.CharField(choices=[('beat', 'Scheduler (beat) not running'), ('sweep', 'Minute sweep not running'), ('channel', 'Channel unavailable'), ('due', 'Messages are stuck'), ('trouble', 'A message cannot be sent'), ('uncertain', 'Deliveries are uncertain'), ('answers', 'Answer emails are not sent'), ('webhooks', 'Webhooks are not delivered'), ('refused', 'Visitors are refused'), ('missed', 'Matching missed a customer')], max_length=12),
        ),
        migrations.AddConstraint(
            model_name='alarm',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['beat', 'sweep', 'channel', 'due', 'trouble', 'uncertain', 'answers', 'webhooks', 'refused', 'missed'])), name='alarm_kind_is_known'),
        ),
        migrations.AddField(
            model_name='missedmatch',
            name='message',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='messaging.message'),
        ),
        migrations.AddIndex(
            model_name='missedmatch',
            index=models.Index(fields=['found_at'], name='missed_match_found'),
        ),
    ]
