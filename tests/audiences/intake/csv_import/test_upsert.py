"""Upsert of a slice beside other transactions, which change customers while it waits for their locks."""

import pytest
from django.db import connection, transaction

from audiences.intake.csv_import import upsert
from audiences.models import Customer
from delivery.customers import erase
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db


def import_user(user_id: str, *, at) -> upsert.SliceResult:
    row = dict.fromkeys(upsert.COLUMNS) | {"line": 1, "user_id": user_id, "attributes": '{"plan": "pro"}'}
    with transaction.atomic(), connection.cursor() as cursor:
        return upsert.upsert_slice(cursor, [[row[name] for name in upsert.COLUMNS]], tag=None, at=at)


def test_import_does_not_fill_a_customer_again_who_is_erased_while_it_waits(at):
    """Found by the simulation, seed 22."""
    found = CustomerFactory(user_id="u2", name="Ada")

    def erase_first(execute, sql, *rest):
        if sql == upsert.LOCK_CUSTOMERS and not found.is_erased:
            erase.erase(found, at=at)
        return execute(sql, *rest)

    with connection.execute_wrapper(erase_first):
        done = import_user("u2", at=at)

    found.refresh_from_db()
    assert found.is_erased
    assert found.attributes == {}
    assert (done.made, done.changed) == (1, 0)
    assert Customer.objects.get(user_id="u2").attributes == {"plan": "pro"}
