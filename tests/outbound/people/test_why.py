"""The “Why?” page: why one customer does or does not receive one message."""

import re
from datetime import datetime, time, timedelta

import pytest
from django.urls import reverse

from audiences.attributes import BY_NAME, EVENT_ATTRIBUTES, find_attribute
from audiences.models import Company, CustomAttribute, Customer, Workspace
from audiences.rules import (
    CALENDAR_DAY_OPERATORS,
    MAX_RULES,
    OPERATORS,
    OPERATORS_WITHOUT_VALUE,
    RELATIVE_DAY_OPERATORS,
    Kind,
)
from delivery.eligibility.explain import Verdict, explain
from delivery.matching import ongoing
from delivery.models import Status
from delivery.sending import dispatcher
from messaging.models import Message
from outbound.people.why import VERDICTS, as_cards, other_conditions
from tests.factories import (
    AT,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    TagFactory,
    rule,
)

pytestmark = pytest.mark.django_db


def why(console, customer, message=None) -> str:
    answer = console.get(reverse("admin:customer_why", args=[customer.pk]), {"message": message.pk} if message else {})
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def test_every_verdict_has_a_sentence():
    assert set(VERDICTS) == set(Verdict)


def test_each_rule_is_met_or_not_met_with_the_current_value(console):
    customer = CustomerFactory(name="Ada", email="ada@acme.example", country="France")
    tag = CustomerTagFactory(tag__name="VIP").tag
    message = MessageFactory(
        live=True, rules=[rule("name", "is", "Ada"), rule("country", "is", "Ireland"), rule("tag", "is", tag.pk)]
    )

    page = why(console, customer, message)

    assert "Met: Name is Ada now: “Ada”" in page
    assert "Not met: and Country is Ireland now: “France”" in page
    assert "Not met: and Tag is VIP now: does not have the tag" in page
    assert "This customer does not match the filters now: 2 of 3 rules are not met." in page


def test_every_operator_shows_the_current_value(console, boss):
    for name, kind in {"seats": "number", "ok": "boolean", "renews": "date", "job": "text"}.items():
        CustomAttributeFactory(name=name, kind=kind)
    nobody, ada = CustomerFactory(), MembershipFactory(customer__name="Ada").customer
    facts = {"seats": 1.5, "ok": False, "renews": 1764000000, "job": "Smith"}
    Customer.objects.filter(pk=ada.pk).update(attributes=facts, owner=boss, country="France", session_count=3)
    EventSummaryFactory(customer=ada, name="paid")
    named = {Kind.TAG: TagFactory().pk, Kind.TEAMMATE: boss.pk}
    named |= {Kind.MESSAGE: MessageFactory(live=True).pk, Kind.NUMBER: 3, Kind.ROLE: "user", Kind.TEXT: "France"}
    names = [
        *BY_NAME,
        *(f"custom_attributes.{name}" for name in facts),
        *(f"{prefix}paid" for prefix in EVENT_ATTRIBUTES),
    ]
    catalogue = CustomAttribute.objects.catalogue()
    asked = [
        rule(name, operator, None if operator in OPERATORS_WITHOUT_VALUE else value_for(operator, named.get(kind)))
        for name in names
        for kind in [find_attribute(name, catalogue=catalogue).kind]
        if kind is not Kind.SEGMENT  # A segment becomes a group of rules when the message goes live.
        for operator in OPERATORS[kind]
    ]
    for begin in range(0, len(asked), MAX_RULES):
        some = asked[begin : begin + MAX_RULES]
        message = MessageFactory(live=True, rules={"match": "any", "rules": some})

        for customer in (ada, nobody):
            page = why(console, customer, message)

            lines = re.findall(r"(?:Met|Not met): (?!Is a user).*? now: ", page)
            assert len(lines) == len(some)
            assert " now: None" not in page


def test_values_of_the_match_are_shown_beside_those_of_today(console):
    ada = CustomerFactory(name="Ada", email="ada@acme.example", country="France", signed_up_at=AT - timedelta(days=9))
    rules = [
        rule("country", "is", "France"),
        rule("signed_up_at", "more_than_days_ago", 5),
        rule("phone", "is_unknown"),
    ]
    message = MessageFactory(live=True, rules=rules, at=AT)
    ongoing.match(message, at=AT)
    Customer.objects.filter(pk=ada.pk).update(country="Spain")

    page = why(console, ada, message)

    assert "This customer matched on 4 May 2026 at 10:00. “Then” is a value of that time." in page
    assert "Country is France then: “France”, now: “Spain”" in page
    assert "then: 25 Apr 2026, 10:00 (1 week ago), now: 25 Apr 2026, 10:00 (" in page
    assert "Phone is unknown then and now: unknown" in page
    message.records.update(judged_values=None)
    page = why(console, ada, message)
    assert "The values of that time were not kept." in page
    assert "then:" not in page
    message.records.update(forgotten_at=AT)
    assert "were deleted, as the workspace’s retention settings ask." in why(console, ada, message)


def value_for(operator: str, named: object) -> object:
    """Return a value of the type that the operator takes."""
    return "2026-05-01" if operator in CALENDAR_DAY_OPERATORS else 3 if operator in RELATIVE_DAY_OPERATORS else named


def test_date_of_receipt_is_shown(console):
    customer = CustomerFactory(name="Ada", email="ada@acme.example")
    message = MessageFactory(live=True)
    ongoing.match(message, at=AT)
    message.records.update(status=Status.SENDING, claim="0" * 32, leased_until=AT)
    message.records.update(status=Status.SENT, sent_at=AT, reason="")

    assert "This customer received it on 4 May 2026 at 10:00." in why(console, customer, message)


def test_reasons_for_being_unreachable_and_delivery_times_are_shown(console):
    customer = CustomerFactory(email="ada@acme.example", unsubscribed_from_emails=True, has_hard_bounced=True)
    message = MessageFactory(live=True, window=[{"weekday": 0, "from": "09:00", "to": "09:30"}])

    page = why(console, customer, message)

    assert "This customer matches but cannot be reached: unsubscribed from emails, their email bounced." in page
    assert "Monday 09:00 to 09:30, UTC time." in page
    assert "Every hour" in page


def test_until_when_quiet_hours_hold_a_copy_is_explained(console):
    night, morning = AT.replace(hour=23), AT.replace(day=5, hour=8)
    Workspace.objects.update_or_create(pk=1, defaults={"quiet_from": time(22), "quiet_to": time(8)})
    ann = CustomerFactory(email="ann@x.example")
    held, unmatched, urgent = (
        MessageFactory(live=True, at=night, during_quiet_hours=is_urgent) for is_urgent in (False, False, True)
    )
    ongoing.match(held, at=night)

    def says(message: Message, *, at: datetime) -> tuple[str, dict[str, tuple[str, bool]]]:
        explained = explain(message, ann, at=at)
        rows = {row["label"]: (row["text"], row["holds"]) for row in other_conditions(explained)}
        return as_cards(explained)[0]["says"], rows

    sentence, rows = says(held, at=night)
    assert "It waits until 08:00, UTC time: quiet hours." in sentence
    assert rows["Quiet hours"] == ("22:00 to 08:00, UTC time. It waits until 08:00.", False)
    assert rows["Delivery times"] == ("At any time", True)
    assert held.records.get().why == "Waits for quiet hours to end"
    assert "It is then delivered when quiet hours end: Tuesday 5 May at 08:00" in says(unmatched, at=night)[0]
    assert says(held, at=morning)[1]["Quiet hours"] == ("22:00 to 08:00, UTC time. Not now.", True)
    assert "Quiet hours" not in says(urgent, at=night)[1]


def test_message_sent_per_company_is_explained_for_each_company(console):
    customer = CustomerFactory(email="ada@acme.example")
    for name, plan in (("Acme", "pro"), ("Beta", "free")):
        MembershipFactory(customer=customer, company__name=name, company__plan=plan)
    message = MessageFactory(live=True, body="<p>{{ company.name }}</p>", rules=[rule("company.plan", "is", "pro")])

    page = why(console, customer, message)

    assert "About Acme" in page
    assert "About Beta" in page
    assert "Company plan is pro now: “free”" in page


@pytest.mark.parametrize(
    ("send_type", "before", "after"),
    [
        (
            "one_off",
            "so the message about this company will be skipped when it is due.",
            "The message was not sent to this customer. Reason: No longer in",
        ),
        (
            "ongoing",
            "It will be sent if they rejoin the company and they match.",
            "This customer is no longer in Acme, so the message",
        ),
    ],
)
def test_customer_who_left_the_company_is_explained(console, send_type, before, after):
    customer = MembershipFactory(customer__email="ada@acme.example", company__name="Acme").customer
    message = MessageFactory(live=True, send_type=send_type, body="<p>{{ company.name }}</p>")
    ongoing.match(message, at=AT)
    customer.memberships.all().delete()

    page = why(console, customer, message)
    assert "This customer is no longer in Acme" in page
    assert before in page

    dispatcher.dispatch(clock=lambda: AT, until=AT + timedelta(seconds=1))
    assert after in why(console, customer, message)


def test_archived_company_is_explained(console):
    member = MembershipFactory(customer__email="ada@acme.example", company__name="Acme")
    message = MessageFactory(live=True, body="<p>{{ company.name }}</p>")
    ongoing.match(message, at=AT)
    Company.objects.update(archived_at=AT)

    page = why(console, member.customer, message)

    assert "Acme is archived, so the message about this company is not sent." in page
    assert "It will be sent if the company is brought back and they match." in page


def test_customer_values_are_escaped(console):
    evil = "<script>alert(1)</script>"
    customer = CustomerFactory(name=evil, country=evil)
    message = MessageFactory(live=True, title=evil, rules=[rule("country", "is", evil)])

    answer = console.get(reverse("admin:customer_why", args=[customer.pk]), {"message": message.pk})

    assert evil not in answer.content.decode()


def test_unknown_message_is_not_found(console):
    address = reverse("admin:customer_why", args=[CustomerFactory().pk])

    assert console.get(address, {"message": "999999"}).status_code == 404
    assert console.get(address, {"message": "x" * 30}).status_code == 404
    assert "There are no messages yet." in console.get(address).content.decode()


def test_page_opens_for_a_message_in_every_state(console):
    customer = CustomerFactory(email="ada@acme.example")
    messages = [
        MessageFactory(),
        MessageFactory(live=True),
        MessageFactory(in_app=True, live=True),
        MessageFactory(one_off=True, live=True),
        MessageFactory(to_customer=customer, in_app=True, live=True),
        MessageFactory(to_customer=CustomerFactory(), in_app=True),
    ]
    for message in messages:
        assert why(console, customer, message)


def test_page_requires_permission_to_view_messages(log_in_with):
    console = log_in_with("audiences.view_customer")

    assert console.get(reverse("admin:customer_why", args=[CustomerFactory().pk])).status_code == 403
