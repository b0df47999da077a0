"""The names of events, as the rule builder offers them."""

import pytest

from audiences.models import EventSummary
from tests.factories import EventSummaryFactory

pytestmark = pytest.mark.django_db


def test_each_name_once_in_order_and_no_more_than_asked_for():
    for name in ("paid", "ordered", "paid", "signed-in"):
        EventSummaryFactory(name=name)

    assert EventSummary.objects.all().names(most=10) == ["ordered", "paid", "signed-in"]
    assert EventSummary.objects.all().names(most=2) == ["ordered", "paid"]


def test_none_where_nothing_happened():
    assert EventSummary.objects.all().names(most=10) == []
