"""The names of the periodic tasks that staff see."""

from importlib import import_module

import pytest
from django.apps import apps
from django_celery_beat.models import PeriodicTask

from delivery import schedule

names = import_module("outbound.migrations.0004_schedule_names")

pytestmark = pytest.mark.django_db


def test_upgrade_renames_the_tasks_and_keeps_the_settings_of_staff():
    schedule.install()
    names.restore_names(apps, None)
    PeriodicTask.objects.filter(name="Hand over what is due").update(enabled=False)

    names.rename_tasks(apps, None)
    schedule.install()

    assert set(schedule.TASKS) == set(PeriodicTask.objects.values_list("name", flat=True))
    assert not PeriodicTask.objects.get(name="Send due messages").enabled
