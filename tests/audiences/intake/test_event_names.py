"""Event names: a trigger lists each name once an event has it."""

import pytest

from audiences.models import EventName, EventSummary
from tests.factories import AT, CustomerFactory, EventSummaryFactory

pytestmark = pytest.mark.django_db


def names() -> list[str]:
    return list(EventName.objects.offered().order_by("name").values_list("name", flat=True))


def test_each_name_is_listed_once_with_the_time_of_its_first_event():
    for name in ("paid", "ordered", "paid", "signed-in"):
        EventSummaryFactory(name=name)

    assert names() == ["ordered", "paid", "signed-in"]
    assert EventName.objects.get(name="paid").created_at == AT


def test_names_from_bulk_inserts_are_listed():
    one, other = CustomerFactory(), CustomerFactory()
    EventSummary.objects.bulk_create(
        EventSummary(customer=customer, name=name, count=1, first_at=AT, last_at=AT)
        for customer in (one, other)
        for name in ("b", "a")
    )

    assert names() == ["a", "b"]


def test_no_events_no_names():
    assert names() == []
