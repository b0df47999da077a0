"""Only transactions that the database cancelled are retried, and they are retried as a whole."""

import threading

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from audiences import transactions
from audiences.models import Customer
from audiences.transactions import is_outage, retried
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(transactions, "MAX_BACKOFF", 0)


def fail(code: str) -> None:
    """Make the database cancel the transaction with this error."""
    with connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'cancelled' USING ERRCODE = '{code}'; END $$")


@pytest.mark.parametrize(
    ("code", "is_so"),
    [
        *((code, True) for code in ("08006", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "58030")),
        # Full disks, limits of temporary files and of memory, cancelled and wrong statements.
        *((code, False) for code in ("53100", "53200", "53400", "55000", "57014", "22012", "42601")),
    ],
)
def test_outage_is_what_the_same_statements_may_survive(code, is_so):
    with pytest.raises(DatabaseError) as wrong:
        fail(code)

    assert is_outage(wrong.value) is is_so
    assert is_outage(wrong.value.__cause__) is is_so


def test_lost_connection_is_an_outage_and_an_error_of_the_program_is_not():
    with connection.cursor() as cursor:
        cursor.close()
        with pytest.raises(InterfaceError) as closed:
            cursor.execute("SELECT 1")
    assert not is_outage(closed.value)
    assert not is_outage(ValueError())

    for statement in ("SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1"):
        with pytest.raises(OperationalError) as lost, connection.cursor() as cursor:
            cursor.execute(statement)
        assert is_outage(lost.value)
    connection.close()


@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_cancelled_transaction_is_retried_as_a_whole(code):
    done, tries = [], []

    @retried
    def work() -> str:
        tries.append(1)
        CustomerFactory(user_id="ann")
        transaction.on_commit(lambda: done.append(1))
        if len(tries) < 3:
            fail(code)
        return "made"

    assert work() == "made"
    assert (len(tries), len(done), Customer.objects.count()) == (3, 1, 1)


def test_gives_up_after_max_attempts():
    tries = []

    @retried
    def work() -> None:
        tries.append(1)
        fail("40P01")

    with pytest.raises(OperationalError):
        work()
    assert len(tries) == transactions.MAX_ATTEMPTS


@pytest.mark.parametrize("code", ["55P03", "57014"])
def test_other_database_errors_are_not_retried(code):
    tries = []

    @retried
    def work() -> None:
        tries.append(1)
        fail(code)

    with pytest.raises(OperationalError):
        work()
    assert len(tries) == 1


def test_only_the_outermost_transaction_is_retried():
    outer, inner = [], []

    @retried
    def inside() -> None:
        inner.append(1)
        if len(inner) == 1:
            fail("40P01")

    @retried
    def outside() -> None:
        outer.append(1)
        CustomerFactory()
        inside()

    outside()

    assert (len(outer), len(inner), Customer.objects.count()) == (2, 2, 1)


def test_two_transactions_that_deadlock_both_succeed():
    first, second = CustomerFactory(), CustomerFactory()
    barrier = threading.Barrier(2)
    begun: list[int] = []

    @retried
    def rename(one: Customer, other: Customer) -> None:
        for customer in (one, other):
            Customer.objects.filter(pk=customer.pk).update(name=f"{one.pk} was here")
            if len(begun) < 2:
                begun.append(one.pk)
                barrier.wait(20)

    def run(one: Customer, other: Customer) -> None:
        rename(one, other)
        connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    names = set(Customer.objects.values_list("name", flat=True))
    assert len(names) == 1
    assert names < {f"{first.pk} was here", f"{second.pk} was here"}
