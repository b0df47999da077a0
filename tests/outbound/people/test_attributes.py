"""Change of an attribute's kind after a dry run."""

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


def test_display_name_is_shown_instead_of_the_key(console):
    plan = CustomAttributeFactory(name="plan_v2")
    company = CustomAttributeFactory(name="plan_v2", scope="company")
    page = reverse("admin:audiences_customattribute_change", args=[plan.pk])
    asked = {"match": "all", "rules": [rule("custom_attributes.plan_v2", "is", "pro")]}
    message = MessageFactory(rules=asked, live=True)
    customer = CustomerFactory(attributes={"plan_v2": "pro"})

    console.post(page, {"label": " Plan "})
    console.post(reverse("admin:audiences_customattribute_change", args=[company.pk]), {"label": "Plan of the firm"})

    plan.refresh_from_db()
    assert (plan.name, plan.label) == ("plan_v2", "Plan")
    groups = console.get(reverse("admin:messaging_message_add")).context["offer"]["groups"]
    labels = {one["name"]: (one["label"], one["key"]) for group in groups for one in group["attributes"]}
    assert labels["custom_attributes.plan_v2"] == ("Plan", "plan_v2")
    assert labels["company.custom_attributes.plan_v2"] == ("Plan of the firm", "plan_v2")
    report = console.get(reverse("admin:messaging_message_change", args=[message.pk])).content.decode()
    assert "Plan is pro" in report
    profile = console.get(reverse("admin:audiences_customer_change", args=[customer.pk])).content.decode()
    assert "Plan" in profile
    assert "plan_v2" not in profile
    assert "Display name" in LogEntry.objects.latest("pk").change_message

    refused = console.post(page, {"label": "x" * 101}, follow=True).content.decode()
    assert "at most 100 characters" in refused
    console.post(page, {"label": ""})
    assert "plan_v2" in console.get(reverse("admin:audiences_customer_change", args=[customer.pk])).content.decode()


def test_dry_run_counts_kept_and_lost_values_and_changes_nothing(console):
    seats = attribute("text", "5", "7.5", "many", "many", "007")

    said = console.get(page(seats), {"kind": "number"}).content.decode()

    assert "2 values would be kept as a number, 3 would become unknown" in said
    assert "<td>many</td>" in said
    assert "<td>007</td>" in said
    assert stored() == ["5", "7.5", "many", "many", "007"]


def test_viewer_cannot_change_a_kind(log_in_with):
    seats = attribute("text", "5")
    viewer = log_in_with("audiences.view_customattribute")

    assert viewer.get(page(seats)).status_code == 200
    answer = viewer.post(page(seats), {"kind": "number", "lost": "0"})

    seats.refresh_from_db()
    assert (answer.status_code, seats.kind, stored()) == (403, "text", ["5"])


def test_change_converts_values_and_is_logged(console):
    seats = attribute("text", "5", "7.5", "many")

    console.post(page(seats), {"kind": "number", "lost": "1"})

    seats.refresh_from_db()
    assert seats.kind == "number"
    assert stored() == [5, 7.5, None]
    assert [customer.attributes["other"] for customer in Customer.objects.all()] == [1, 1, 1]
    assert LogEntry.objects.get().change_message == ("Kind: from text to a number. 2 values kept, 1 became unknown")
    audience = {"match": "all", "rules": [rule("custom_attributes.seats", "greater_than", 6)]}
    assert compiler.matching_customers(audience, at=Customer.objects.first().created_at).count() == 1


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
def test_each_kind_converts_to_each_other_kind(was, value, to, becomes):
    seats = attribute(was, value)
    forecast = kind_conversion.dry_run(seats, to=Kind(to))

    done = kind_conversion.convert_attribute(seats, to=Kind(to), lose_at_most=1)

    assert stored() == [becomes]
    assert (done.kept, done.lost) == (forecast.kept, forecast.lost) == (int(becomes is not None), int(becomes is None))


def test_change_that_loses_more_than_shown_is_refused(console):
    seats = attribute("text", "5", "many", "few")

    answer = console.post(page(seats), {"kind": "number", "lost": "1"})

    said = answer.content.decode()
    assert "2 values would now become unknown, but the page showed 1" in said
    assert stored() == ["5", "many", "few"]
    assert CustomAttribute.objects.get(name="seats").kind == "text"


def test_live_message_that_would_break_blocks_the_change(console):
    seats = attribute("text", "5")
    starts = {"match": "all", "rules": [rule("custom_attributes.seats", "starts_with", "5")]}
    MessageFactory(title="Seat offer", rules=starts, live=True)

    assert "The live message “Seat offer”" in console.get(page(seats), {"kind": "number"}).content.decode()
    console.post(page(seats), {"kind": "number", "lost": "0"})

    assert CustomAttribute.objects.get(name="seats").kind == "text"
    assert stored() == ["5"]


def test_draft_that_would_break_only_causes_a_warning(console):
    seats = attribute("text", "5")
    MessageFactory(rules={"match": "all", "rules": [rule("custom_attributes.seats", "starts_with", "5")]})

    assert "edited before they can go live" in console.get(page(seats), {"kind": "number"}).content.decode()
    console.post(page(seats), {"kind": "number", "lost": "0"})

    assert CustomAttribute.objects.get(name="seats").kind == "number"


def test_only_a_segment_that_would_break_blocks_the_change(console):
    seats = attribute("text", "5")
    segment = SegmentFactory(name="Five", rules={"match": "all", "rules": [rule("custom_attributes.seats", "is", "5")]})

    console.post(page(seats), {"kind": "boolean", "lost": "1"})
    assert CustomAttribute.objects.get(name="seats").kind == "text"
    console.post(page(seats), {"kind": "number", "lost": "0"})
    assert CustomAttribute.objects.get(name="seats").kind == "number"
    assert compiler.matching_customers(segment.rules, at=Customer.objects.first().created_at).count() == 1


def test_company_attribute_changes_companies_only(console):
    CompanyFactory(attributes={"seats": "5"})
    CustomerFactory(user_id="u", attributes={"seats": "6"})
    CustomAttributeFactory(name="seats", kind="text", scope="customer")
    seats = CustomAttributeFactory(name="seats", kind="text", scope="company")

    console.post(page(seats), {"kind": "number", "lost": "0"})

    assert Company.objects.get().attributes == {"seats": 5}
    assert stored() == ["6"]


def test_values_are_converted_in_slices(monkeypatch):
    monkeypatch.setattr(kind_conversion, "SLICE_SIZE", 2)
    seats = attribute("text", "1", "2", "3", "4", "x")

    done = kind_conversion.convert_attribute(seats, to=Kind.NUMBER, lose_at_most=1)

    assert stored() == [1, 2, 3, 4, None]
    assert (done.kept, done.lost) == (4, 1)


def test_values_written_during_the_change_are_converted():
    seats = attribute("text", "1")
    kind_conversion.convert_attribute(seats, to=Kind.NUMBER, lose_at_most=0)
    Customer.objects.update(attributes={"seats": "2"})

    kind_conversion.convert_late_writes(seats, was=Kind.TEXT)

    assert stored() == [2]


# A worker converts attributes with very many values.


@pytest.fixture
def many(monkeypatch) -> None:
    """Limit the values that one request converts, so that two are too many."""
    monkeypatch.setattr(attribute_kinds, "MAX_VALUES_PER_REQUEST", 1)


def ask(console, one: CustomAttribute, *, to: str = "number", lost: int = 0) -> KindChange:
    console.post(page(one), {"kind": to, "lost": lost, "values": 3})
    return KindChange.objects.get(attribute=one, ended_at=None)


def test_few_values_are_converted_in_the_request(console, monkeypatch):
    monkeypatch.setattr(attribute_kinds, "MAX_VALUES_PER_REQUEST", 2)
    seats = attribute("text", "5", "7")

    console.post(page(seats), {"kind": "number", "lost": 0})

    assert (stored(), KindChange.objects.count()) == ([5, 7], 0)


@pytest.mark.usefixtures("many")
def test_many_values_are_converted_by_a_worker(console, monkeypatch, django_capture_on_commit_callbacks):
    asked = []
    monkeypatch.setattr(tasks, "enqueue_kind_change", asked.append)
    seats = attribute("text", "5", "7", "many")

    with django_capture_on_commit_callbacks(execute=True):
        change = ask(console, seats, lost=1)

    assert asked == [change.pk]
    assert stored() == ["5", "7", "many"]
    shown = console.get(page(seats)).content.decode()
    assert "Changing to a number" in shown
    assert "3 values are being converted" in shown
    assert "Dry run" not in shown
    assert LogEntry.objects.get().change_message == "Kind: from text to a number, by a worker"

    assert attribute_kinds.apply_change(change.pk, at=AT) is True

    seats.refresh_from_db()
    change.refresh_from_db()
    assert (seats.kind, stored()) == ("number", [5, 7, None])
    assert (change.kept, change.lost, change.ended_at, change.problem) == (2, 1, AT, "")
    assert "2 values kept, 1 became unknown" in console.get(page(seats)).content.decode()


@pytest.mark.usefixtures("many")
def test_repeated_task_converts_once(console):
    seats = attribute("text", "5", "7")
    change = ask(console, seats)
    attribute_kinds.apply_change(change.pk, at=AT)
    Customer.objects.filter(user_id="u0").update(attributes={"seats": 9})

    assert attribute_kinds.apply_change(change.pk, at=AT) is False
    assert attribute_kinds.pending_changes() == []
    assert stored() == [9, 7]


@pytest.mark.usefixtures("many")
def test_killed_worker_changes_nothing_and_the_sweep_starts_another(console, monkeypatch):
    seats = attribute("text", "5", "7")
    change = ask(console, seats)

    def dies(*_args, **_kwargs):
        raise ConnectionError("the server went away")

    with monkeypatch.context() as patched:
        patched.setattr(kind_conversion, "write_slice", dies)
        with pytest.raises(ConnectionError):
            attribute_kinds.apply_change(change.pk, at=AT)
    assert stored() == ["5", "7"]

    told = []
    monkeypatch.setattr(tasks, "enqueue_task", lambda task, *args: told.append((task.__name__, *args)))
    tasks.sweep()
    assert ("change_kind", change.pk) in told
    tasks.change_kind(change.pk)
    assert stored() == [5, 7]


@pytest.mark.usefixtures("many")
def test_second_change_is_refused_during_the_first(console):
    seats = attribute("text", "5", "7")
    ask(console, seats)

    with pytest.raises(attribute_kinds.ChangeInProgress):
        attribute_kinds.request_change(seats, to=Kind.DATE, values=2, lose_at_most=0, at=AT)
    console.post(page(seats), {"kind": "date", "lost": 0})

    assert KindChange.objects.get().to == "number"


@pytest.mark.usefixtures("many")
def test_worker_refuses_to_lose_more_than_shown(console):
    seats = attribute("text", "5", "many")
    change = ask(console, seats, lost=0)

    attribute_kinds.apply_change(change.pk, at=AT)

    seats.refresh_from_db()
    assert (seats.kind, stored()) == ("text", ["5", "many"])
    shown = console.get(page(seats)).content.decode()
    assert "The change to a number failed" in shown
    assert "Values that would be lost: 1, more than the 0 that were confirmed." in shown


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.usefixtures("many")
def test_message_that_went_live_meanwhile_blocks_and_a_draft_does_not(console, is_live):
    seats = attribute("text", "5", "7")
    change = ask(console, seats)
    rules = {"match": "all", "rules": [rule("custom_attributes.seats", "contains", "5")]}
    MessageFactory(live=is_live, rules=rules)

    attribute_kinds.apply_change(change.pk, at=AT)

    change.refresh_from_db()
    assert (stored() == ["5", "7"]) is is_live
    assert bool(change.problem) is is_live


@pytest.mark.usefixtures("many")
def test_segment_that_would_break_is_shown_before_a_worker_starts(console):
    seats = attribute("text", "5", "7")
    SegmentFactory(rules={"match": "all", "rules": [rule("custom_attributes.seats", "contains", "5")]})

    answer = console.post(page(seats), {"kind": "number", "lost": 0, "values": 2}, follow=True)

    assert "would break" in answer.content.decode()
    assert not KindChange.objects.exists()
