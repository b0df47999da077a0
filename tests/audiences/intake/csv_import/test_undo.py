"""Undo of imports."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audiences.intake import Refused, csv_import
from audiences.intake.csv_import import slices, undo
from audiences.models import Customer, CustomerTag, Import, ImportLine, ImportState, Membership
from audiences.models.customers import Role
from delivery.customers import erase
from tests.factories import AT, CompanyFactory, CustomAttributeFactory, CustomerFactory, EventFactory, TagFactory
from tests.support.imports import import_file, run_import

pytestmark = pytest.mark.django_db
LATER, MUCH_LATER = AT + timedelta(hours=1), AT + timedelta(days=1)


def undone(job: Import) -> Import:
    csv_import.start_undo(job, at=MUCH_LATER)
    job = run_import(job, at=MUCH_LATER)
    assert job.state == ImportState.UNDONE
    return job


def kept(job: Import) -> dict[int, str]:
    return {it.line: it.kept_because for it in csv_import.effects_of(job, after=0, limit=10_000) if it.undo != "undone"}


def test_customers_to_whom_nothing_has_happened_are_archived():
    job = import_file("user_id,name,tags,company\n1,Ada,VIP,Acme\n2,Bob,,\n1,Ida,,\n", at=AT)

    job = undone(job)

    assert set(Customer.objects.values_list("archived_at", flat=True)) == {MUCH_LATER}
    assert (job.undone, job.kept, kept(job)) == (3, 0, {})


def test_customers_to_whom_something_has_happened_stay_with_the_reason():
    names = ("quiet", "changed", "noted", "seen", "tagged", "member", "archived", "erased", "gone", "active")
    lines = "".join(f"{name},\n" for name in names)
    job = import_file(f"user_id,phone\n{lines}changed,7\nnoted,7\n", at=AT)
    by_name = {customer.user_id: customer for customer in Customer.objects.all()}
    Customer.objects.filter(user_id="changed").update(city="Dublin", updated_at=LATER)
    by_name["noted"].notes.create(body="x", created_at=LATER)
    Customer.objects.filter(user_id="seen").update(session_count=1)
    CustomerTag.objects.create(customer=by_name["tagged"], tag=TagFactory(), created_at=LATER)
    Membership.objects.create(customer=by_name["member"], company=CompanyFactory(), created_at=LATER)
    Customer.objects.filter(user_id="archived").update(archived_at=LATER, updated_at=LATER)
    erase.erase(by_name["erased"], at=LATER)
    EventFactory(customer=by_name["active"])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audiences_customer WHERE user_id = 'gone'")

    job = undone(job)

    line = {name: number for number, name in enumerate(names, 2)}
    changed, noted = "The customer has changed since the import.", "The customer has notes since the import."
    assert kept(job) == {
        line["changed"]: changed,
        12: changed,
        line["noted"]: noted,
        13: noted,
        **{line[name]: changed for name in ("seen", "tagged", "member")},
        line["archived"]: "The customer was archived since the import.",
        line["erased"]: "The customer was erased.",
        line["gone"]: "The customer no longer exists.",
        line["active"]: "The customer has events since the import.",
    }
    assert (job.undone, job.kept) == (1, 11)
    assert dict(Customer.objects.filter(archived_at=MUCH_LATER).values_list("user_id", "phone")) == {"quiet": ""}
    assert Customer.objects.get(user_id="noted").phone == "7"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_values_that_nobody_changed_since_become_the_old_ones(monkeypatch, size):
    monkeypatch.setattr(undo, "UNDO_SLICE_SIZE", size)
    CustomAttributeFactory(name="seats", kind="number")
    CustomAttributeFactory(name="plan")
    vip, old = TagFactory(name="VIP"), TagFactory(name="Old")
    acme, other = CompanyFactory(company_id="k1"), CompanyFactory(company_id="k2")
    ada = CustomerFactory(
        user_id="1", name="Ada", phone="5", signed_up_at=AT, attributes={"seats": 2}, updated_at=AT - timedelta(days=1)
    )
    CustomerTag.objects.create(customer=ada, tag=old, created_at=AT - timedelta(days=1))
    Membership.objects.create(customer=ada, company=other, created_at=AT - timedelta(days=1))
    bob = CustomerFactory(user_id=None, email="bob@acme.example", lead=True)
    cyd = CustomerFactory(user_id="3", archived=True)
    dan = CustomerFactory(user_id="4", email="dan@acme.example", name="Dan", city="Bonn")
    facts = ("name", "phone", "signed_up_at", "last_seen_at", "role", "user_id", "email", "archived_at", "attributes")
    before = list(Customer.objects.order_by("pk").values(*facts))

    job = import_file(
        "user_id,email,name,phone,Signed up,Last seen,seats,plan,tags,company_id\n"
        "1,,Eda,,2026-01-01,2026-02-02,3,pro,VIP;Old,k1\n9,bob@acme.example,Bob,,,,,,,\n3,,,,,,,,,\n"
        "4,new@acme.example,,,,,,,,\n1,,Ida,,,,4,,,\n1,,Oda,,,,,,,\n",
        at=LATER,
    )
    assert ada.tags.count() == ada.memberships.count() == 2
    job = undone(job)

    assert list(Customer.objects.order_by("pk").values(*facts)) == before
    assert (job.undone, job.kept, kept(job)) == (6, 0, {})
    assert list(ada.tags.all()) == [old]
    assert ada.memberships.get().company_id == other.pk
    assert Customer.objects.get(pk=bob.pk).role == Role.LEAD
    assert Customer.objects.get(pk=cyd.pk).archived_at is not None
    assert (vip.customers.count(), acme.memberships.count()) == (0, 0)
    assert Customer.objects.get(pk=dan.pk).city == "Bonn"


def test_values_that_changed_since_stay_and_are_named():
    CustomAttributeFactory(name="seats", kind="number")
    ada = CustomerFactory(user_id="1", name="Ada", phone="5", attributes={"seats": 2})
    bob = CustomerFactory(user_id="2", email="bob@acme.example")
    cyd = CustomerFactory(user_id="3", name="Cyd")
    dan = CustomerFactory(user_id="4", name="Dan")
    eve = CustomerFactory(user_id=None, email="eve@acme.example", lead=True)
    job = import_file(
        "user_id,email,name,phone,seats,unsubscribed\n1,,Eda,6,3,\n2,rob@acme.example,,,,\n3,,Cid,,,\n4,,Din,,,yes\n"
        "5,eve@acme.example,,,,\n",
        at=AT,
    )
    Customer.objects.filter(pk=ada.pk).update(name="Ana", attributes={"seats": 4, "other": "x"}, updated_at=LATER)
    CustomerFactory(user_id=None, email="eve@acme.example")
    erase.erase(Customer.objects.get(pk=cyd.pk), at=LATER)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audiences_customer WHERE id = %s", [bob.pk])
    Customer.objects.filter(pk=dan.pk).update(unsubscribed_by_customer_at=LATER)

    job = undone(job)

    assert kept(job) == {
        2: "Changed since the import, so not undone: Name, seats.",
        3: "The customer no longer exists.",
        4: "The customer was erased.",
        5: "Changed since the import, so not undone: Unsubscribed from emails.",
        6: "Another customer has this email or user ID now.",
    }
    assert (job.undone, job.kept) == (0, 5)
    ada, dan = Customer.objects.get(pk=ada.pk), Customer.objects.get(pk=dan.pk)
    assert (ada.name, ada.phone, ada.attributes) == ("Ana", "5", {"seats": 4, "other": "x"})
    assert (dan.name, dan.unsubscribed_from_emails) == ("Dan", True)
    assert Customer.objects.get(pk=eve.pk).user_id == "5"


def test_thousands_of_lines_are_undone_with_a_few_statements_per_slice(monkeypatch):
    """The number of statements per slice is bounded, and each slice is done once."""
    many = 1_500
    Customer.objects.bulk_create(
        Customer(user_id=f"old{n}", name="Old", created_at=AT, updated_at=AT) for n in range(many)
    )
    lines = "".join(f"old{n},Changed\nnew{n},New\n" for n in range(many))
    repeats = "old0,Again\nold0,Changed\n" * 20
    monkeypatch.setattr(slices, "SLICE_SIZE", 500)
    monkeypatch.setattr(undo, "UNDO_SLICE_SIZE", 500)
    job = import_file(f"user_id,name\n{lines}{repeats}", at=AT)
    assert (job.made, job.changed) == (many, many + 40)
    csv_import.start_undo(job, at=LATER)

    sizes = []
    while True:
        with CaptureQueriesContext(connection) as asked:
            go_on = slices.process_slice(job.pk, at=LATER)
        if not go_on:
            break
        sizes.append(len(asked))

    job.refresh_from_db()
    assert (job.state, job.undone, job.kept) == (ImportState.UNDONE, 2 * many + 40, 0)
    assert Customer.objects.filter(user_id__startswith="old", name="Old", archived_at=None).count() == many
    assert Customer.objects.filter(user_id__startswith="new", archived_at=LATER).count() == many
    assert len(sizes) == 2 * many // 500 + -(-(many + 40) // 500)
    # One slice repeats a customer 40 times, with a few statements each time.
    assert max(sorted(sizes)[:-1]) < 45
    assert max(sizes) < 45 + 41 * 8


def test_interrupted_undo_continues(monkeypatch):
    monkeypatch.setattr(undo, "UNDO_SLICE_SIZE", 1)
    for n in range(3):
        CustomerFactory(user_id=f"{n}", name="Old")
    job = import_file("user_id,name\n0,New\n1,New\n2,New\n", at=AT)
    csv_import.start_undo(job, at=LATER)

    assert slices.process_slice(job.pk, at=LATER)
    job.refresh_from_db()
    assert (job.undone, job.percent, csv_import.active_imports()) == (1, 33, [job.pk])
    with pytest.raises(Refused, match="already ended"):
        csv_import.cancel_import(job, at=LATER)
    run_import(job, at=LATER)

    assert set(Customer.objects.values_list("name", flat=True)) == {"Old"}


def test_import_is_undone_once_and_only_while_its_lines_are_kept():
    CustomerFactory(user_id="1", name="Old")
    old, job = import_file("user_id\n2\n", at=AT), import_file("user_id,name\n1,New\n", at=AT)
    nothing = import_file("user_id,name\n1,New\n", at=AT)
    undone(job)
    csv_import.delete_old_files(at=AT + timedelta(days=31))

    for ended in (job, old, nothing):
        assert not csv_import.can_undo(ended)
        with pytest.raises(Refused, match="cannot be undone"):
            csv_import.start_undo(ended, at=MUCH_LATER)
    assert not ImportLine.objects.filter(of=old).exists()


def test_half_written_import_that_was_cancelled_can_be_undone(monkeypatch):
    monkeypatch.setattr(slices, "SLICE_SIZE", 1)
    job = import_file("user_id\n1\n2\n", at=AT)
    Import.objects.filter(pk=job.pk).update(state=ImportState.CANCELLED)

    assert undone(job).undone == 2


def test_dates_are_restored_exactly():
    moment = datetime(2026, 5, 1, 10, 11, 12, 131415, tzinfo=UTC)
    CustomerFactory(user_id="1", signed_up_at=moment)

    undone(import_file("user_id,signed_up_at\n1,2026-06-01T00:00:00.000001+05:30\n", at=AT))

    assert Customer.objects.get().signed_up_at == moment
