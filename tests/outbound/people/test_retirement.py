"""Retirement of attributes and event names, and acceptance of refused names."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from audiences.intake.source import MAX_ATTRIBUTES
from audiences.models import CustomAttribute, EventName, RefusedName
from delivery.maintenance.retirement import Uses
from messaging.models import Message, State
from outbound.composer import options
from tests.factories import (
    AT,
    CustomAttributeFactory,
    CustomerFactory,
    EventSummaryFactory,
    MessageFactory,
    SegmentFactory,
    rule,
)

pytestmark = pytest.mark.django_db

ATTRIBUTE, EVENT = "customattribute", "eventname"


def press(client, model: str, verb: str, row):
    return client.post(reverse(f"admin:{model}_{verb}", args=[row.pk]), follow=True)


def event(name: str = "ordered") -> EventName:
    EventSummaryFactory(name=name)
    return EventName.objects.get(name=name)


def offered() -> set[str]:
    return {entry["name"] for group in options.rule_builder()["groups"] for entry in group["attributes"]}


def refused(name: str, of: str = "customer", kind: str = "text") -> RefusedName:
    return RefusedName.objects.create(name=name, of=of, kind=kind, first_at=AT, last_at=AT)


def accept(client, row: RefusedName, **sent: str):
    return client.post(reverse("admin:customattribute_accept", args=[row.pk]), sent, follow=True)


def test_retired_attribute_is_not_offered_and_its_data_stays(console):
    plan = CustomAttributeFactory(name="plan")
    customer = CustomerFactory(attributes={"plan": "pro"})

    press(console, ATTRIBUTE, "retire", plan)

    assert "custom_attributes.plan" not in offered()
    variables = options.variables(CustomAttribute.objects.offered().catalogue())
    assert ["custom_attributes.plan", "plan"] not in variables[1]["names"]
    customer.refresh_from_db()
    assert customer.attributes == {"plan": "pro"}
    assert LogEntry.objects.get().change_message == "Retired"


def test_retired_event_is_not_offered_until_it_is_brought_back(console):
    ordered = event()
    press(console, EVENT, "retire", ordered)
    assert "event.ordered" not in offered()

    press(console, EVENT, "bring_back", ordered)

    assert "event.ordered" in offered()
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == ["Retired", "Brought back into use"]


def test_existing_rules_still_show_a_retired_attribute():
    CustomAttributeFactory(name="plan", retired_at=AT)
    CustomAttributeFactory(name="seats", retired_at=AT, scope="company")
    rules = {"match": "all", "rules": [rule("custom_attributes.plan", "is", "pro")]}

    groups = options.rule_builder(rules)["groups"]

    named = {entry["name"] for group in groups for entry in group["attributes"]}
    assert "custom_attributes.plan" in named
    assert "company.custom_attributes.seats" not in named


@pytest.mark.parametrize("state", [State.LIVE, State.PAUSED])
@pytest.mark.parametrize("how", ["rule", "text", "event"])
def test_attribute_used_by_a_message_cannot_be_retired(console, state, how):
    plan, ordered = CustomAttributeFactory(name="plan"), event()
    more = {
        "rule": {"rules": [rule("custom_attributes.plan", "is", "pro")]},
        "text": {"body": "<p>{{ custom_attributes.plan }}</p>"},
        "event": {"rules": [rule("event_count.Ordered", "greater_than", 2)]},
    }[how]
    message = MessageFactory(title="Welcome", live=True, **more)
    type(message).objects.filter(pk=message.pk).update(state=state)

    row, model = (ordered, EVENT) if how == "event" else (plan, ATTRIBUTE)
    said = press(console, model, "retire", row).content.decode()

    row.refresh_from_db()
    assert row.retired_at is None
    assert "was not retired" in said
    assert "“Welcome”" in said


@pytest.mark.parametrize("state", State)
def test_states_that_block_retirement_are_those_that_use_rules(state):
    over_or_not_begun = (State.DRAFT, State.STOPPED, State.SENT)
    uses = Uses(messages=[Message(state=state)], segments=[])

    assert bool(uses.blocking) == (state not in over_or_not_begun)


def test_name_used_by_a_segment_cannot_be_retired(console):
    plan, ordered = CustomAttributeFactory(name="plan"), event()
    SegmentFactory(name="Pros", rules={"match": "all", "rules": [rule("custom_attributes.plan", "is", "pro")]})
    SegmentFactory(name="Buyers", rules={"match": "all", "rules": [rule("event.Ordered", "has_happened")]})

    assert "“Pros”" in press(console, ATTRIBUTE, "retire", plan).content.decode()
    assert "“Buyers”" in press(console, EVENT, "retire", ordered).content.decode()
    assert not CustomAttribute.objects.exclude(retired_at=None).exists()
    assert not EventName.objects.exclude(retired_at=None).exists()


def test_name_used_only_by_drafts_and_ended_messages_can_be_retired(console):
    plan = CustomAttributeFactory(name="plan")
    rules = [rule("custom_attributes.plan", "is", "pro")]
    MessageFactory(title="A draft", rules=rules)
    ended = MessageFactory(title="Ended", rules=rules, live=True)
    type(ended).objects.filter(pk=ended.pk).update(state=State.STOPPED)

    said = press(console, ATTRIBUTE, "retire", plan).content.decode()

    plan.refresh_from_db()
    assert plan.retired_at is not None
    assert "“A draft”" in said


def test_company_attribute_of_the_same_name_is_independent(console):
    CustomAttributeFactory(name="plan", scope="customer")
    of_company = CustomAttributeFactory(name="plan", scope="company")
    MessageFactory(live=True, rules=[rule("custom_attributes.plan", "is", "pro")])

    press(console, ATTRIBUTE, "retire", of_company)

    of_company.refresh_from_db()
    assert of_company.retired_at is not None


def test_name_cannot_be_brought_back_into_a_full_catalogue(console):
    CustomAttribute.objects.bulk_create(
        CustomAttribute(scope="customer", name=f"a{n}", kind="text", created_at=AT) for n in range(MAX_ATTRIBUTES)
    )
    plan = CustomAttributeFactory(name="plan", retired_at=AT)

    assert "Retire another attribute first." in press(console, ATTRIBUTE, "bring_back", plan).content.decode()
    plan.refresh_from_db()
    assert plan.retired_at is not None


def test_refused_attribute_is_accepted_with_the_kind_that_was_sent(console):
    said = accept(console, refused("seats", kind="number")).content.decode()

    seats = CustomAttribute.objects.get()
    assert (seats.scope, seats.name, seats.kind) == ("customer", "seats", "number")
    assert "No name was refused" in said
    entry = LogEntry.objects.get()
    assert entry.object_id == str(seats.pk)
    assert entry.change_message == "Accepted from the refused names, as a number"


def test_refused_attribute_is_accepted_with_the_chosen_kind(console):
    accept(console, refused("seats", of="company", kind="number"), kind="text")

    assert CustomAttribute.objects.get().kind == "text"


def test_unknown_kind_is_refused(console):
    accept(console, refused("seats"), kind="colour")

    assert not CustomAttribute.objects.exists()
    assert RefusedName.objects.exists()


def test_refused_event_is_accepted(console):
    accept(console, refused("ordered", of="event", kind=""))

    assert EventName.objects.get().name == "ordered"
    assert not RefusedName.objects.exists()


def test_name_stays_refused_if_the_catalogue_is_full(console):
    CustomAttribute.objects.bulk_create(
        CustomAttribute(scope="customer", name=f"a{n}", kind="text", created_at=AT) for n in range(MAX_ATTRIBUTES)
    )

    assert "full" in accept(console, refused("seats")).content.decode()
    assert RefusedName.objects.exists()


def test_accepted_name_is_not_found(console):
    row = refused("seats")
    accept(console, row)

    assert accept(console, row).status_code == 404


def test_viewer_cannot_accept_or_retire(log_in_with):
    viewer = log_in_with("audiences.view_customattribute", "audiences.view_eventname")
    plan, row = CustomAttributeFactory(name="plan"), refused("<b>seats</b>")

    page = viewer.get(reverse("admin:customattribute_refused"))

    assert "&lt;b&gt;seats&lt;/b&gt;" in page.content.decode()
    assert ">Accept<" not in page.content.decode()
    assert accept(viewer, row).status_code == 403
    assert press(viewer, ATTRIBUTE, "retire", plan).status_code == 403
    assert press(viewer, EVENT, "retire", event()).status_code == 403


@pytest.mark.parametrize("verb", ["retire", "bring_back"])
def test_get_request_to_an_action_changes_nothing(console, verb):
    plan = CustomAttributeFactory(name="plan")

    answer = console.get(reverse(f"admin:customattribute_{verb}", args=[plan.pk]))

    plan.refresh_from_db()
    assert (answer.status_code, plan.retired_at) == (303, None)


def test_lists_show_retired_names(console):
    CustomAttributeFactory(name="plan", retired_at=AT)
    CustomAttributeFactory(name="seats")

    page = console.get(reverse("admin:audiences_customattribute_changelist"), {"state": "retired"}).content.decode()

    assert ">plan<" in page
    assert ">seats<" not in page
