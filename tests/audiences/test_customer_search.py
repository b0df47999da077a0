"""Search for customers by the start of a word in the name, the start of the address, or the exact ID."""

import pytest
from django.db import connection
from django.utils import timezone

from audiences import customer_search
from audiences.models import Customer
from delivery.customers.erase import erase
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db


def found(typed: str, *, limit: int = 6) -> list[str]:
    return [customer.user_id for customer in Customer.objects.find(typed, limit=limit)]


def test_search_finds_words_of_names_starts_of_addresses_and_exact_ids():
    for user_id, name, email in (
        ("king", "Ada King Byron", "ada.k@acme.example"),
        ("marie", "Anne-Marie O’Brien", "am_1@acme.example"),
        ("garcia", "María de los Ángeles García López", "mg@acme.example"),
        ("brackets", "Dr. Bob [100%] O\\Hara", "x%y@acme.example"),
        ("long", "Zoe " + "x" * 5000, "zoe@acme.example"),
        ("lead", "", "adam@acme.example"),
        ("4711", "Cyd", None),
    ):
        CustomerFactory(user_id=user_id, name=name, email=email)
    expected = {
        # The words of a name, in any order, each by its start; upper case does not matter.
        "ada": ["king", "lead"], "ADA KI": ["king"], "byr": ["king"], "byron ada": ["king"], "ada by": ["king"],
        "ki by": ["king"], "ada zoe": [], "da": [],
        "marie": ["marie"], "O’BRI": ["marie"], "anne-m": ["marie"], "anne marie": ["marie"],
        "áNG": ["garcia"], "lóp": ["garcia"], "los": ["garcia"], "gar": [], "maría gar": ["garcia"],
        "dr. bob": ["brackets"], "dr bob": ["brackets"], "bob": ["brackets"], "zoe": ["long"],
        # The start of the address.
        "ada.k@": ["king"], "Adam@acme.example": ["lead"], "acme": [],
        # No character is special.
        "%": [], "_": [], "am_": ["marie"], "x%y": ["brackets"], "x_y": [], "[100%]": ["brackets"],
        "o\\h": ["brackets"], "\\": [], "a%a": [],
        # An ID is found if it is exact.
        "4711": ["4711"], "471": [], "kin": ["king"], "long": ["long"],
        str(Customer.objects.get(user_id="lead").pk): ["lead"], "9" * 30: [], "": [], " ": [], "\0": [], "'": [],
    }  # fmt: skip

    assert {typed: found(typed) for typed in expected} == expected


def test_exact_id_is_first_and_the_limit_holds():
    for number in range(9):
        CustomerFactory(user_id=f"u{number}", name=f"Ada {number}")
    CustomerFactory(user_id="ada", name="Zoe")

    assert found("ada", limit=3) == ["ada", "u0", "u1"]


def test_changed_and_erased_customers_are_found_only_by_what_is_kept():
    customer = CustomerFactory(user_id="u1", name="Ada Byron", email="ada@acme.example")
    Customer.objects.filter(pk=customer.pk).update(name="Bob Byron")
    assert (found("ada"), found("bob")) == (["u1"], ["u1"])  # By the address, and by the new name.

    erase(customer, at=timezone.now())

    assert [Customer.objects.find(typed, limit=6) for typed in ("ada", "bob", "byron", "u1")] == [[], [], [], []]
    assert Customer.objects.find(str(customer.pk), limit=6) == [customer]


def test_each_part_of_a_search_reads_an_index(monkeypatch):
    Customer.objects.bulk_create(
        Customer(
            user_id=f"u{n}", name=f"Ada{n % 40} King{n % 77} Von Der Byron{n}", email=f"a{n}@acme.example",
            created_at=timezone.now(), updated_at=timezone.now(),
        )
        for n in range(3000)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audiences_customer")
        plans: list[str] = []
        run = customer_search.run

        def explain(parts, **given):
            found = run(parts, **given)
            with monkeypatch.context() as patch:
                patch.setattr(customer_search, "run", run)
                for part in parts:
                    typed = {"typed": given.get("typed", ""), "limit": given["limit"]}
                    cursor.execute("EXPLAIN " + part, {**given, **typed})
                    plans.append("\n".join(line for (line,) in cursor.fetchall()))
            return found

        monkeypatch.setattr(customer_search, "run", explain)
        customer_search.find_keys("ada3 von", limit=6)
        customer_search.find_keys("17", limit=6)

    assert len(plans) == 1 + 5 + 1 + 5 + 2 + 5 + 1
    assert [plan for plan in plans if "Index" not in plan or "Seq Scan" in plan] == []
    # Only words in another order are sorted; the other parts stop at the limit.
    assert [plan for plan in plans if "Sort" in plan and "~~ '% " not in plan] == []
