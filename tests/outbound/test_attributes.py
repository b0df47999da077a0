"""A kind is changed after a dry run: nothing is lost that was not shown, and nothing breaks."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from audiences import compiler
from audiences.intake import converting
from audiences.models import Company, CustomAttribute, Customer
from audiences.rules import Kind
from tests.factories import (
    CompanyFactory,
    CustomAttributeFactory,
    CustomerFactory,
    MessageFactory,
    SegmentFactory,
    rule,
)

pytestmark = pytest.mark.django_db


def attribute(kind: str, *values: object, name: str = "seats") -> CustomAttribute:
    for number, value in enumerate(values):
        CustomerFactory(user_id=f"u{number}", attributes={name: value, "other": 1})
    return CustomAttributeFactory(name=name, kind=kind, scope="customer")


def page(one: CustomAttribute) -> str:
    return reverse("admin:audiences_customattribute_change", args=[one.pk])


def stored(name: str = "seats") -> list[object]:
    return [customer.attributes.get(name) for customer in Customer.objects.order_by("user_id")]


def test_a_dry_run_counts_what_is_kept_names_what_is_lost_and_changes_nothing(console):
    seats = attribute("text", "5", "7.5", "many", "many", "007")

    said = console.get(page(seats), {"kind": "number"}).content.decode()

    assert "2 values would be kept as a number, 3 would become unknown" in said
    assert "<td>many</td>" in said
    assert "<td>007</td>" in said
    assert stored() == ["5", "7.5", "many", "many", "007"]


def test_whoever_may_only_look_changes_no_kind(log_in_with):
    seats = attribute("text", "5")
    viewer = log_in_with("audiences.view_customattribute")

    assert viewer.get(page(seats)).status_code == 200
    answer = viewer.post(page(seats), {"kind": "number", "lost": "0"})

    seats.refresh_from_db()
    assert (answer.status_code, seats.kind, stored()) == (403, "text", ["5"])


def test_the_change_keeps_what_converts_and_tells_the_log(console):
    seats = attribute("text", "5", "7.5", "many")

    console.post(page(seats), {"kind": "number", "lost": "1"})

    seats.refresh_from_db()
    assert seats.kind == "number"
    assert stored() == [5, 7.5, None]
    assert [customer.attributes["other"] for customer in Customer.objects.all()] == [1, 1, 1]
    assert LogEntry.objects.get().change_message == ("Kind: from a text to a number. 2 values kept, 1 became unknown")
    audience = {"match": "all", "rules": [rule("custom_attributes.seats", "greater_than", 6)]}
    assert compiler.customers(audience, at=Customer.objects.first().created_at).count() == 1


@pytest.mark.parametrize(
    ("was", "value", "to", "becomes"),
    [
        ("number", 5, "text", "5"),
        ("number", 1, "boolean", True),
        ("number", 2, "boolean", None),
        ("boolean", True, "text", "true"),
        ("boolean", True, "number", None),
        ("boolean", False, "date", None),
        ("text", "true", "boolean", True),
        ("text", "2026-05-04T10:00:00Z", "date", 1777888800),
        ("text", "soon", "date", None),
        ("date", 1777888800, "text", "2026-05-04T10:00:00Z"),
        ("date", 1777888800, "number", 1777888800),
        ("number", 1777888800, "date", 1777888800),
        ("number", 12.5, "date", None),
    ],
)
def test_each_kind_becomes_each_other_where_nothing_is_lost(was, value, to, becomes):
    seats = attribute(was, value)
    forecast = converting.dry_run(seats, to=Kind(to))

    done = converting.convert(seats, to=Kind(to), lose_at_most=1)

    assert stored() == [becomes]
    assert (done.kept, done.lost) == (forecast.kept, forecast.lost) == (int(becomes is not None), int(becomes is None))


def test_more_lost_than_the_page_said_is_refused_with_both_numbers(console):
    seats = attribute("text", "5", "many", "few")

    answer = console.post(page(seats), {"kind": "number", "lost": "1"})

    said = answer.content.decode()
    assert "2 values would become unknown by now, and the page said 1" in said
    assert stored() == ["5", "many", "few"]
    assert CustomAttribute.objects.get(name="seats").kind == "text"


def test_a_live_message_that_would_break_is_named_and_stops_the_change(console):
    seats = attribute("text", "5")
    starts = {"match": "all", "rules": [rule("custom_attributes.seats", "starts_with", "5")]}
    MessageFactory(title="Seat offer", rules=starts, live=True)

    assert "The live message “Seat offer”" in console.get(page(seats), {"kind": "number"}).content.decode()
    console.post(page(seats), {"kind": "number", "lost": "0"})

    assert CustomAttribute.objects.get(name="seats").kind == "text"
    assert stored() == ["5"]


def test_a_draft_that_would_break_is_only_warned_about(console):
    seats = attribute("text", "5")
    MessageFactory(rules={"match": "all", "rules": [rule("custom_attributes.seats", "starts_with", "5")]})

    assert "edited before they can go live" in console.get(page(seats), {"kind": "number"}).content.decode()
    console.post(page(seats), {"kind": "number", "lost": "0"})

    assert CustomAttribute.objects.get(name="seats").kind == "number"


def test_a_segment_that_would_break_stops_the_change_and_one_that_still_fits_does_not(console):
    seats = attribute("text", "5")
    segment = SegmentFactory(name="Five", rules={"match": "all", "rules": [rule("custom_attributes.seats", "is", "5")]})

    console.post(page(seats), {"kind": "boolean", "lost": "1"})
    assert CustomAttribute.objects.get(name="seats").kind == "text"
    console.post(page(seats), {"kind": "number", "lost": "0"})
    assert CustomAttribute.objects.get(name="seats").kind == "number"
    assert compiler.customers(segment.rules, at=Customer.objects.first().created_at).count() == 1


def test_an_attribute_of_companies_changes_theirs_alone(console):
    CompanyFactory(attributes={"seats": "5"})
    CustomerFactory(user_id="u", attributes={"seats": "6"})
    CustomAttributeFactory(name="seats", kind="text", scope="customer")
    seats = CustomAttributeFactory(name="seats", kind="text", scope="company")

    console.post(page(seats), {"kind": "number", "lost": "0"})

    assert Company.objects.get().attributes == {"seats": 5}
    assert stored() == ["6"]


def test_it_goes_in_slices(monkeypatch):
    monkeypatch.setattr(converting, "SLICE", 2)
    seats = attribute("text", "1", "2", "3", "4", "x")

    done = converting.convert(seats, to=Kind.NUMBER, lose_at_most=1)

    assert stored() == [1, 2, 3, 4, None]
    assert (done.kept, done.lost) == (4, 1)


def test_what_an_intake_of_the_old_kind_wrote_meanwhile_is_caught_up_with():
    seats = attribute("text", "1")
    converting.convert(seats, to=Kind.NUMBER, lose_at_most=0)
    Customer.objects.update(attributes={"seats": "2"})

    converting.catch_up(seats, was=Kind.TEXT)

    assert stored() == [2]
