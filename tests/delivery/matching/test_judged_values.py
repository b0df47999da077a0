"""The values that the rules named, kept with the record of a match."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from audiences.attributes import BY_NAME, EVENT_ATTRIBUTES, find_attribute
from audiences.models import CustomAttribute, Customer
from audiences.rules import MAX_RULES, OPERATORS, OPERATORS_WITHOUT_VALUE, Kind
from delivery.customers import erase
from delivery.matching import ongoing
from delivery.models import Reason, Status
from delivery.visits import visit as customer_visit
from tests.factories import (
    CompanyFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    TagFactory,
    rule,
)
from tests.outbound.people.test_why import value_for

pytestmark = pytest.mark.django_db


def any_of(*rules) -> dict[str, object]:
    return {"match": "any", "rules": list(rules)}


def test_launch_keeps_the_values_as_each_rule_saw_them(at):
    CustomAttributeFactory(name="seats", kind="number")
    tag, other = TagFactory(name="VIP"), TagFactory(name="Old")
    ada = CustomerFactory(country="France", attributes={"seats": 12.5}, signed_up_at=at - timedelta(days=9))
    CustomerTagFactory(customer=ada, tag=tag)
    EventSummaryFactory(customer=ada, name="paid", count=3)
    message = MessageFactory(
        one_off=True,
        live=True,
        at=at,
        rules=[
            *(rule("country", "is", "France"), rule("signed_up_at", "more_than_days_ago", 5)),
            *(rule("custom_attributes.seats", "greater_than", 5), rule("phone", "is_unknown")),
            *(rule("tag", "is", tag.pk), rule("event.paid", "has_happened")),
            any_of(rule("tag", "is", other.pk), rule("city", "is_not", "x" * 300)),
        ],
    )

    kept = message.records.get().judged_values

    assert kept.pop("signed_up_at").startswith("2026-04-25 10:00:00")
    assert kept == {
        "country": "France",
        "custom_attributes.seats": "12.5",
        "phone": "",
        f"tag={tag.pk}": "true",
        "event.paid": "3",
        f"tag={other.pk}": "false",
        "city": "",
    }


def test_every_kind_of_attribute_is_kept_by_launches_rounds_and_visits(at):
    boss = User.objects.create_superuser("boss")
    for name, kind in {"seats": "number", "ok": "boolean", "renews": "date", "job": "text"}.items():
        CustomAttributeFactory(name=name, kind=kind)
    member = MembershipFactory(customer__name="Ada", customer__email="ada@x.example", customer__country="France")
    named = {Kind.TAG: TagFactory().pk, Kind.TEAMMATE: boss.pk}
    named |= {Kind.MESSAGE: MessageFactory(live=True, at=at).pk, Kind.NUMBER: 3, Kind.ROLE: "user", Kind.TEXT: "France"}
    names = [
        *(*BY_NAME, *(f"custom_attributes.{name}" for name in ("seats", "ok", "renews", "job"))),
        *(f"{prefix}paid" for prefix in EVENT_ATTRIBUTES),
    ]
    catalogue = CustomAttribute.objects.catalogue()
    asked = [
        rule(name, operator, None if operator in OPERATORS_WITHOUT_VALUE else value_for(operator, named.get(kind)))
        for name in names
        for kind in [find_attribute(name, catalogue=catalogue).kind]
        if kind is not Kind.SEGMENT
        for operator in OPERATORS[kind][:1]
    ]
    begins = range(0, len(asked), MAX_RULES - 1)
    parts = [any_of(rule("country", "is", "France"), *asked[begin : begin + MAX_RULES - 1]) for begin in begins]
    found = []
    for traits in ({"one_off": True}, {}, {"in_app": True}):
        body = "<p>{{ company.name }}</p>"
        messages = [MessageFactory(live=True, rules=part, body=body, at=at, **traits) for part in parts]
        for message in messages:
            ongoing.match(message, at=at)
        customer_visit.visit(member.customer, at=at)
        found.append({name for message in messages for name in message.records.get().judged_values})

    kept = {name if "=" not in name else name.partition("=")[0] for name in found[0]}
    assert kept == {*names} - {name for name in names if "segment" in name}
    assert found[0] == found[1] == found[2]


def test_visit_keeps_the_values_from_before_it(at):
    ada = CustomerFactory(
        email="ada@x.example", last_seen_at=at - timedelta(days=4), last_contacted_at=at - timedelta(days=8)
    )
    rules = [rule("last_seen_at", "more_than_days_ago", 3), rule("last_contacted_at", "more_than_days_ago", 7)]
    messages = [
        MessageFactory(live=True, rules=rules, at=at),
        MessageFactory(live=True, in_app=True, rules=rules, at=at),
    ]

    customer_visit.visit(ada, at=at)

    for message in messages:
        kept = message.records.get().judged_values
        assert kept["last_seen_at"].startswith("2026-04-30 10:00:00")
        assert kept["last_contacted_at"].startswith("2026-04-26 10:00:00")


def test_values_of_a_company_are_kept_with_the_copy_about_it(at):
    ada = CustomerFactory(email="ada@x.example", country="France")
    small, large = CompanyFactory(size=5), CompanyFactory(size=500)
    for company in (small, large):
        MembershipFactory(customer=ada, company=company)
    rules = [rule("company.size", "greater_than", 1), rule("country", "is", "France")]
    about = MessageFactory(live=True, rules=rules, body="<p>{{ company.name }}</p>", at=at)
    once = MessageFactory(live=True, rules=rules, at=at)

    for message in (about, once):
        ongoing.match(message, at=at)

    assert {record.company: record.judged_values for record in about.records.all()} == {
        small: {"company.size": "5", "country": "France"},
        large: {"company.size": "500", "country": "France"},
    }
    # Any of the companies may have matched.
    assert once.records.get().judged_values == {"country": "France"}


@pytest.mark.parametrize("by", ["round", "visit"])
def test_withdrawn_record_that_waits_again_keeps_the_newer_values(at, by):
    ada = CustomerFactory(email="ada@x.example", country="France")
    message = MessageFactory(live=True, rules=[rule("country", "has_any_value")], at=at)
    ongoing.match(message, at=at)
    message.records.all().withdraw(reason=Reason.NO_LONGER_MATCHES)
    Customer.objects.filter(pk=ada.pk).update(country="Spain")

    if by == "round":
        ongoing.match(message, at=at + timedelta(hours=1))
    else:
        ada.refresh_from_db()
        customer_visit.visit(ada, at=at + timedelta(hours=1))

    record = message.records.get()
    assert (record.status, record.judged_values) == (Status.WAITING, {"country": "Spain"})


def test_message_without_filters_keeps_that_no_value_was_named(at):
    CustomerFactory()

    assert MessageFactory(one_off=True, live=True, at=at).records.get().judged_values == {}


def test_erasing_a_person_deletes_the_values(at):
    ada = CustomerFactory(email="ada@x.example", country="France")
    message = MessageFactory(one_off=True, live=True, rules=[rule("country", "is", "France")], at=at)

    erase.erase(ada, at=at)

    assert message.records.get().judged_values is None
