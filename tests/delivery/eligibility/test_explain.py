"""Why a customer gets a message or does not: each rule with the value it saw."""

from datetime import timedelta

import pytest

from audiences.models import Workspace
from delivery.eligibility import explain as eligibility_explain
from delivery.eligibility.explain import Verdict, explain
from delivery.matching import direct, ongoing
from delivery.models import Reason, Status
from tests.factories import (
    AT,
    CompanyFactory,
    CompanyTagFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    TagFactory,
    rule,
)

pytestmark = pytest.mark.django_db


def verdict(message, customer, at=AT) -> Verdict:
    (case,) = explain(message, customer, at=at).cases
    return case.verdict


def seen(message, customer) -> list[tuple[str, bool, object]]:
    (case,) = explain(message, customer, at=AT).cases
    return [(judged.node.attribute, judged.holds, judged.value) for judged in case.pairs[0].tree.leaves()]


def test_each_rule_has_the_value_it_saw():
    CustomAttributeFactory(name="seats", kind="number")
    CustomAttributeFactory(name="paid", kind="boolean")
    customer = CustomerFactory(name="Ada Byron", last_seen_at=AT - timedelta(days=3), attributes={"seats": 12})
    tag = CustomerTagFactory(customer=customer).tag
    EventSummaryFactory(customer=customer, name="ordered", count=4)
    message = MessageFactory(
        live=True,
        rules=[
            rule("first_name", "is", "Ada"),
            rule("country", "is", "Ireland"),
            rule("last_seen_at", "less_than_days_ago", 7),
            rule("custom_attributes.seats", "greater_than", 20),
            rule("custom_attributes.paid", "is_true"),
            rule("tag", "is", tag.pk),
            rule("tag", "is_not", TagFactory().pk),
            rule("event.ordered", "has_happened"),
            rule("event_count.shipped", "greater_than", 1),
        ],
    )

    assert seen(message, customer) == [
        ("first_name", True, "Ada"),
        ("country", False, ""),
        ("last_seen_at", True, AT - timedelta(days=3)),
        ("custom_attributes.seats", False, 12),
        ("custom_attributes.paid", False, None),
        ("tag", True, True),
        ("tag", True, False),
        ("event.ordered", True, 4),
        ("event_count.shipped", False, None),
    ]
    assert verdict(message, customer) is Verdict.NO_MATCH


def test_groups_are_judged_as_groups():
    either = {"match": "any", "rules": [rule("name", "is", "Ada"), rule("name", "is", "Eve")]}
    message = MessageFactory(live=True, rules=[either, rule("country", "is", "Ireland")])

    (case,) = explain(message, CustomerFactory(name="Eve", country="France"), at=AT).cases

    group, leaf = case.pairs[0].tree.inner
    assert (group.holds, [inner.holds for inner in group.inner], leaf.holds) == (True, [False, True], False)
    assert not case.matches


def test_a_segment_copied_in_is_judged_rule_by_rule():
    segment = SegmentFactory(rules={"match": "all", "rules": [rule("name", "is", "Ada")]})
    message = MessageFactory(live=True, rules=[rule("segment", "is_not", segment.pk)])
    assert seen(message, CustomerFactory(name="Ada")) == [("name", True, "Ada")]

    (case,) = explain(message, CustomerFactory(name="Ada"), at=AT).cases

    assert [group.holds for group in case.pairs[0].tree.inner] == [False]


def test_agrees_with_the_matcher_about_everybody():
    rules = [
        {"match": "any", "rules": [rule("company.plan", "is", "pro"), rule("country", "is_unknown")]},
        rule("company.name", "is_not", "Acme"),
        rule("email", "has_any_value"),
    ]
    customers = [
        CustomerFactory(email=f"{n}@acme.example", country=["", "Ireland"][n % 2], lead=n == 7) for n in range(8)
    ]
    for n, customer in enumerate(customers[:6]):
        company = CompanyFactory(plan=["pro", "free"][n // 2 % 2], name=["Acme", "Beta", "Gamma"][n % 3])
        MembershipFactory(customer=customer, company=company)
        MembershipFactory(customer=customers[5 - n], company=company)
    CompanyTagFactory()
    message = MessageFactory(live=True, rules=rules)
    ongoing.match(message, at=AT)
    got = set(message.records.values_list("customer_id", flat=True))

    explained = {customer.pk for customer in customers if explain(message, customer, at=AT).cases[0].matches}

    assert explained == got
    assert 0 < len(got) < len(customers)


def test_message_per_company_has_a_case_for_each_company():
    customer = CustomerFactory(email="ada@acme.example")
    pro = MembershipFactory(customer=customer, company__plan="pro", company__name="Pro Inc").company
    free = MembershipFactory(customer=customer, company__plan="free", company__name="Free Inc").company
    MembershipFactory(customer=customer, company__archived=True)
    message = MessageFactory(live=True, body="<p>{{ company.name }}</p>", rules=[rule("company.plan", "is", "pro")])

    explained = explain(message, customer, at=AT)

    assert {case.company: case.verdict for case in explained.cases} == {
        pro: Verdict.NEXT_CHECK,
        free: Verdict.NO_MATCH,
    }


def test_customer_without_a_company_gets_no_message_per_company():
    message = MessageFactory(live=True, body="<p>{{ company.name }}</p>")

    assert verdict(message, CustomerFactory(email="ada@acme.example")) is Verdict.NO_COMPANY


def test_verdict_follows_the_status_of_the_record():
    customer = CustomerFactory(email="ada@acme.example")
    message = MessageFactory(live=True)
    assert verdict(message, customer) is Verdict.NEXT_CHECK
    ongoing.match(message, at=AT)
    assert verdict(message, customer) is Verdict.WAITING
    message.records.update(status=Status.SENDING, claim="0" * 32, leased_until=AT)
    message.records.update(status=Status.SENT, sent_at=AT, reason="")
    assert verdict(message, customer) is Verdict.GOT_IT


def test_a_withdrawn_record_is_not_final_unless_the_message_was_stopped():
    customer = CustomerFactory(email="ada@acme.example")
    message = MessageFactory(live=True)
    ongoing.match(message, at=AT)
    message.records.update(status=Status.WITHDRAWN, reason=Reason.NO_LONGER_MATCHES)
    assert verdict(message, customer) is Verdict.NEXT_CHECK
    message.records.update(reason=Reason.STOPPED)
    assert verdict(message, customer) is Verdict.STOPPED


@pytest.mark.parametrize(
    ("facts", "reasons"),
    [
        ({}, [Reason.NO_EMAIL]),
        ({"email": "a@b.example", "unsubscribed_from_emails": True}, [Reason.UNSUBSCRIBED]),
        (
            {"email": "a@b.example", "has_hard_bounced": True, "marked_email_as_spam": True},
            [Reason.BOUNCED, Reason.COMPLAINED],
        ),
    ],
)
def test_all_reasons_why_a_customer_is_unreachable_are_listed(facts, reasons):
    message, customer = MessageFactory(live=True), CustomerFactory(**facts)

    assert list(explain(message, customer, at=AT).unreachable) == reasons
    assert verdict(message, customer) is Verdict.UNREACHABLE


def test_draft_reaches_no_customer_and_one_off_no_later_one():
    assert verdict(MessageFactory(), CustomerFactory(email="a@b.example")) is Verdict.NOT_LIVE
    CustomerFactory(email="first@b.example")
    one_off = MessageFactory(one_off=True, live=True)
    assert verdict(one_off, CustomerFactory(email="c@b.example")) is Verdict.NOT_AMONG_THEM


def test_a_lead_is_not_matched_unless_a_rule_names_the_role():
    lead = CustomerFactory(lead=True, email="a@b.example")
    everyone = explain(MessageFactory(live=True), lead, at=AT)
    assert (everyone.cases[0].verdict, everyone.is_user, everyone.includes_leads) == (Verdict.NO_MATCH, False, False)

    asks = explain(MessageFactory(live=True, rules=[rule("role", "is", "lead")]), lead, at=AT)
    assert (asks.cases[0].verdict, asks.includes_leads) == (Verdict.NEXT_CHECK, True)


def test_window_uses_the_clock_of_its_setting():
    window = [{"weekday": 0, "from": "09:00", "to": "10:00"}]
    customer = CustomerFactory(timezone="America/New_York")
    message = MessageFactory(window=window, window_zone="customer")

    explained = explain(message, customer, at=AT)  # Monday 10:00 UTC, 06:00 in New York.

    assert explained.zone.key == "America/New_York"
    assert explained.opening == AT + timedelta(hours=3)
    workspace = explain(MessageFactory(window=window), customer, at=AT)
    assert workspace.opening == AT + timedelta(days=6, hours=23)


def test_an_in_app_message_waits_for_a_visit_and_no_round_asks_for_it():
    message = MessageFactory(in_app=True, live=True)

    assert verdict(message, CustomerFactory()) is Verdict.NEXT_VISIT
    assert eligibility_explain.next_round(message, at=AT) is None


def test_cap_shows_when_it_ends():
    customer = CustomerFactory(email="ada@acme.example")
    Workspace.current()
    Workspace.objects.update(cap_messages=1, cap_days=7)
    had = MessageFactory(live=True)
    ongoing.match(had, at=AT)
    had.records.update(status=Status.SENDING, claim="0" * 32, leased_until=AT)
    had.records.update(status=Status.SENT, sent_at=AT, reason="")

    explained = explain(MessageFactory(live=True), customer, at=AT)

    assert explained.cases[0].verdict is Verdict.CAPPED
    assert explained.capped_until == AT + timedelta(days=7)


def test_invalid_rules_are_reported():
    attribute = CustomAttributeFactory(name="seats", kind="number")
    message = MessageFactory(live=True, rules=[rule("custom_attributes.seats", "greater_than", 2)])
    attribute.delete()

    explained = explain(message, CustomerFactory(email="a@b.example"), at=AT)

    assert explained.cases[0].verdict is Verdict.BROKEN
    assert "seats" in explained.trouble


def test_direct_message_is_for_its_customer_only():
    ada, eve = CustomerFactory(), CustomerFactory()
    message = MessageFactory(to_customer=ada, in_app=True, live=True)
    direct.insert_direct_record(ada, message, at=AT)

    assert verdict(message, ada) is Verdict.WAITING
    assert verdict(message, eve) is Verdict.SOMEBODY_ELSE
