"""Why?: a page that says for one customer and one message what decides, in words."""

import re

import pytest
from django.urls import reverse

from delivery import matching
from delivery.explaining import Verdict
from delivery.models import Status
from outbound.why import VERDICTS
from tests.factories import AT, CustomerFactory, CustomerTagFactory, MembershipFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


def why(console, customer, message=None) -> str:
    answer = console.get(reverse("admin:customer_why", args=[customer.pk]), {"message": message.pk} if message else {})
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def test_every_verdict_has_words():
    assert set(VERDICTS) == set(Verdict)


def test_each_rule_is_green_or_red_with_the_value_it_saw(console):
    customer = CustomerFactory(name="Ada", email="ada@acme.example", country="France")
    tag = CustomerTagFactory(tag__name="VIP").tag
    message = MessageFactory(
        live=True, rules=[rule("name", "is", "Ada"), rule("country", "is", "Ireland"), rule("tag", "is", tag.pk)]
    )

    page = why(console, customer, message)

    assert "Holds: Name is Ada saw “Ada”" in page
    assert "Does not hold: and Country is Ireland saw “France”" in page
    assert "Does not hold: and Tag is VIP saw does not have the tag" in page
    assert "They do not match the filters now: 2 of 3 rules do not hold." in page


def test_says_when_they_got_it(console):
    customer = CustomerFactory(name="Ada", email="ada@acme.example")
    message = MessageFactory(live=True)
    matching.match(message, at=AT)
    message.records.update(status=Status.SENDING, claim="0" * 32, leased_until=AT)
    message.records.update(status=Status.SENT, sent_at=AT, reason="")

    assert "They got it on 4 May 2026 at 10:00." in why(console, customer, message)


def test_says_what_keeps_them_from_being_reached_and_when_it_opens(console):
    customer = CustomerFactory(email="ada@acme.example", unsubscribed_from_emails=True, has_hard_bounced=True)
    message = MessageFactory(live=True, window=[{"weekday": 0, "from": "09:00", "to": "09:30"}])

    page = why(console, customer, message)

    assert "They match, and cannot be reached: unsubscribed from emails, their email bounced." in page
    assert "Monday 09:00 to 09:30, UTC time." in page
    assert "Every hour" in page


def test_says_for_each_company_where_it_goes_per_company(console):
    customer = CustomerFactory(email="ada@acme.example")
    for name, plan in (("Acme", "pro"), ("Beta", "free")):
        MembershipFactory(customer=customer, company__name=name, company__plan=plan)
    message = MessageFactory(live=True, body="<p>{{ company.name }}</p>", rules=[rule("company.plan", "is", "pro")])

    page = why(console, customer, message)

    assert "About Acme" in page
    assert "About Beta" in page
    assert "Company plan is pro saw “free”" in page


def test_what_a_customer_says_of_themselves_does_not_run(console):
    evil = "<script>alert(1)</script>"
    customer = CustomerFactory(name=evil, country=evil)
    message = MessageFactory(live=True, title=evil, rules=[rule("country", "is", evil)])

    answer = console.get(reverse("admin:customer_why", args=[customer.pk]), {"message": message.pk})

    assert evil not in answer.content.decode()


def test_a_message_that_is_not_there_is_not_found(console):
    address = reverse("admin:customer_why", args=[CustomerFactory().pk])

    assert console.get(address, {"message": "999999"}).status_code == 404
    assert console.get(address, {"message": "x" * 30}).status_code == 404
    assert "There is no message yet." in console.get(address).content.decode()


def test_a_page_for_a_message_in_every_state(console):
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


def test_who_may_not_see_messages_is_refused(log_in_with):
    console = log_in_with("audiences.view_customer")

    assert console.get(reverse("admin:customer_why", args=[CustomerFactory().pk])).status_code == 403
