"""The flush after a test with real transactions."""

import pytest
from django.contrib.auth.models import Group, Permission
from django_celery_beat.models import PeriodicTask

from audiences.models import Customer
from tests.factories import CustomerFactory
from tests.support import flush


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("max_bytes", [flush.MAX_BYTES, 0], ids=["delete", "truncate"])
def test_flush_deletes_all_rows_and_those_of_the_migrations_can_be_restored(monkeypatch, max_bytes):
    monkeypatch.setattr(flush, "MAX_BYTES", max_bytes)
    permissions = Permission.objects.count()
    CustomerFactory()

    flush.delete_rows()

    assert not Customer.objects.exists()
    assert not Group.objects.exists()

    flush.restore_rows()

    assert Permission.objects.count() == permissions
    assert Group.objects.get(name="Author").permissions.exists()
    assert PeriodicTask.objects.exists()
    assert not Customer.objects.exists()
