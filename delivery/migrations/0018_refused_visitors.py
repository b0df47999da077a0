"""Counts of refused visitors for each day, and the alarm about them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('delivery', '0017_no_longer_in_company'),
    ]

    operations = [
        migrations.CreateModel(
            name='RefusedVisitors',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('reason', models.CharField(choices=[('not_signed', 'The user_hash was missing or another one'), ('address_form', 'The address was not in lower case'), ('user_id_form', 'The user_id was not written as it is read')], max_length=12)),
                ('count', models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='alarm',
            name='alarm_kind_is_known',
        ),
        migrations.AlterField(
            model_name='alarm',
            name='kind',
            field=models.CharField(choices=[('beat', 'Beat is silent'), ('sweep', 'The sweep is silent'), ('channel', 'A channel rests'), ('due', 'Copies are not handed over'), ('trouble', 'A message cannot go on'), ('uncertain', 'Copies are uncertain'), ('answers', 'Answers are not mailed'), ('webhooks', 'Webhooks are not delivered'), ('refused', 'Visitors are refused')], max_length=12),
        ),
        migrations.AddConstraint(
            model_name='alarm',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['beat', 'sweep', 'channel', 'due', 'trouble', 'uncertain', 'answers', 'webhooks', 'refused'])), name='alarm_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='refusedvisitors',
            constraint=models.UniqueConstraint(fields=('day', 'reason'), name='refused_visitors_are_counted_once'),
        ),
        migrations.AddConstraint(
            model_name='refusedvisitors',
            constraint=models.CheckConstraint(condition=models.Q(('reason__in', ['not_signed', 'address_form', 'user_id_form'])), name='refusal_reason_is_known'),
        ),
    ]
