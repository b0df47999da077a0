"""A kind is changed after a dry run: nothing is lost that was not shown, and nothing breaks."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from audiences import compiler
from audiences.intake.attributes import kind_conversion
from audiences.models import Company, CustomAttribute, Customer, KindChange
from audiences.rules import Kind
from delivery import tasks
from delivery.maintenance import attribute_kinds
from tests.factories import (
    AT,
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
    forecast = kind_conversion.dry_run(seats, to=Kind(to))

    done = kind_conversion.convert(seats, to=Kind(to), lose_at_most=1)

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
    monkeypatch.setattr(kind_conversion, "SLICE", 2)
    seats = attribute("text", "1", "2", "3", "4", "x")

    done = kind_conversion.convert(seats, to=Kind.NUMBER, lose_at_most=1)

    assert stored() == [1, 2, 3, 4, None]
    assert (done.kept, done.lost) == (4, 1)


def test_what_an_intake_of_the_old_kind_wrote_meanwhile_is_caught_up_with():
    seats = attribute("text", "1")
    kind_conversion.convert(seats, to=Kind.NUMBER, lose_at_most=0)
    Customer.objects.update(attributes={"seats": "2"})

    kind_conversion.catch_up(seats, was=Kind.TEXT)

    assert stored() == [2]


# Where very many have a value, a worker changes it.


@pytest.fixture
def many(monkeypatch) -> None:
    """Two values are more than a request changes."""
    monkeypatch.setattr(attribute_kinds, "MOST_AT_ONCE", 1)


def ask(console, one: CustomAttribute, *, to: str = "number", lost: int = 0) -> KindChange:
    console.post(page(one), {"kind": to, "lost": lost, "values": 3})
    return KindChange.objects.get(attribute=one, ended_at=None)


def test_few_values_are_changed_by_the_request_itself(console, monkeypatch):
    monkeypatch.setattr(attribute_kinds, "MOST_AT_ONCE", 2)
    seats = attribute("text", "5", "7")

    console.post(page(seats), {"kind": "number", "lost": 0})

    assert (stored(), KindChange.objects.count()) == ([5, 7], 0)


@pytest.mark.usefixtures("many")
def test_many_values_are_left_to_a_worker_and_the_page_says_so(
    console, monkeypatch, django_capture_on_commit_callbacks
):
    asked = []
    monkeypatch.setattr(tasks, "enqueue_kind_change", asked.append)
    seats = attribute("text", "5", "7", "many")

    with django_capture_on_commit_callbacks(execute=True):
        change = ask(console, seats, lost=1)

    assert asked == [change.pk]
    assert stored() == ["5", "7", "many"]
    shown = console.get(page(seats)).content.decode()
    assert "Becoming a number" in shown
    assert "3 values are being converted" in shown
    assert "Dry run" not in shown
    assert LogEntry.objects.get().change_message == "Kind: from a text to a number, by a worker"

    assert attribute_kinds.carry_out(change.pk, at=AT) is True

    seats.refresh_from_db()
    change.refresh_from_db()
    assert (seats.kind, stored()) == ("number", [5, 7, None])
    assert (change.kept, change.lost, change.ended_at, change.trouble) == (2, 1, AT, "")
    assert "2 values kept, 1 became unknown" in console.get(page(seats)).content.decode()


@pytest.mark.usefixtures("many")
def test_a_change_is_carried_out_once_however_often_a_worker_is_told(console):
    seats = attribute("text", "5", "7")
    change = ask(console, seats)
    attribute_kinds.carry_out(change.pk, at=AT)
    Customer.objects.filter(user_id="u0").update(attributes={"seats": 9})

    assert attribute_kinds.carry_out(change.pk, at=AT) is False
    assert attribute_kinds.under_way() == []
    assert stored() == [9, 7]


@pytest.mark.usefixtures("many")
def test_a_worker_that_dies_leaves_all_as_it_was_and_the_sweep_tells_another(console, monkeypatch):
    seats = attribute("text", "5", "7")
    change = ask(console, seats)

    def dies(*_args, **_kwargs):
        raise ConnectionError("the server went away")

    with monkeypatch.context() as patched:
        patched.setattr(kind_conversion, "write", dies)
        with pytest.raises(ConnectionError):
            attribute_kinds.carry_out(change.pk, at=AT)
    assert stored() == ["5", "7"]

    told = []
    monkeypatch.setattr(tasks, "enqueue_task", lambda task, *args: told.append((task.__name__, *args)))
    tasks.sweep()
    assert ("change_kind", change.pk) in told
    tasks.change_kind(change.pk)
    assert stored() == [5, 7]


@pytest.mark.usefixtures("many")
def test_a_second_change_is_refused_while_one_is_under_way(console):
    seats = attribute("text", "5", "7")
    ask(console, seats)

    with pytest.raises(attribute_kinds.UnderWay):
        attribute_kinds.ask_for(seats, to=Kind.DATE, values=2, lose_at_most=0, at=AT)
    console.post(page(seats), {"kind": "date", "lost": 0})

    assert KindChange.objects.get().to == "number"


@pytest.mark.usefixtures("many")
def test_a_worker_loses_no_more_than_the_page_said(console):
    seats = attribute("text", "5", "many")
    change = ask(console, seats, lost=0)

    attribute_kinds.carry_out(change.pk, at=AT)

    seats.refresh_from_db()
    assert (seats.kind, stored()) == ("text", ["5", "many"])
    shown = console.get(page(seats)).content.decode()
    assert "It was not made a number" in shown
    assert "1 values would have become unknown by then" in shown


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.usefixtures("many")
def test_what_went_live_meanwhile_is_not_broken_and_a_draft_is_no_reason(console, is_live):
    seats = attribute("text", "5", "7")
    change = ask(console, seats)
    rules = {"match": "all", "rules": [rule("custom_attributes.seats", "contains", "5")]}
    MessageFactory(live=is_live, rules=rules)

    attribute_kinds.carry_out(change.pk, at=AT)

    change.refresh_from_db()
    assert (stored() == ["5", "7"]) is is_live
    assert bool(change.trouble) is is_live


@pytest.mark.usefixtures("many")
def test_a_segment_that_would_break_is_said_before_a_worker_is_told(console):
    seats = attribute("text", "5", "7")
    SegmentFactory(rules={"match": "all", "rules": [rule("custom_attributes.seats", "contains", "5")]})

    answer = console.post(page(seats), {"kind": "number", "lost": 0, "values": 2}, follow=True)

    assert "would break" in answer.content.decode()
    assert not KindChange.objects.exists()
