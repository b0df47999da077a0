"""Roles that need a second factor."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("outbound", "0010_saved_replies"),
    ]

    operations = [
        migrations.CreateModel(
            name='SecondFactorRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('Viewer', 'Viewer'), ('Author', 'Author'), ('Sender', 'Sender'), ('Admin', 'Admin')], max_length=20, unique=True)),
                ('required_since', models.DateTimeField()),
                ('grace_days', models.PositiveSmallIntegerField(validators=[django.core.validators.MaxValueValidator(90)])),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('role__in', ['Viewer', 'Author', 'Sender', 'Admin'])), name='second_factor_of_known_role'), models.CheckConstraint(condition=models.Q(('grace_days__lte', 90)), name='grace_of_at_most_90_days')],
            },
        ),
    ]
