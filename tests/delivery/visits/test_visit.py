"""Visits: matching with the last-seen value from before the visit, and the in-app messages to show."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection

from audiences.models import Workspace
from delivery.matching import lifecycle, ongoing, recheck
from delivery.models import Conversation, DeliveryRecord, Status
from delivery.visits import visit as customer_visit
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from tests.factories import (
    CompanyFactory,
    CustomerFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    rule,
)

pytestmark = pytest.mark.django_db

EVERY_NIGHT = [{"weekday": day, "from": "20:00", "to": "24:00"} for day in range(7)]


def bodies(visit: customer_visit.Visit) -> list[str]:
    return [message.body for message in visit.shown]


def test_in_app_ongoing_message_is_shown_when_the_customer_visits(at):
    customer = CustomerFactory(name="Ann Lee")
    MessageFactory(in_app=True, body="<p>Hi {{ first_name }}</p>", live=True, at=at)

    visit = customer_visit.visit(customer, at=at)

    assert bodies(visit) == ["<p>Hi Ann</p>"]
    assert Conversation.objects.get().customer == customer


def test_per_company_and_other_messages_match_in_one_visit(at):
    customer = CustomerFactory(name="Ann")
    for size in (5, 50, 500):
        MembershipFactory(customer=customer, company__name=f"Of {size}", company__size=size)
    EventSummaryFactory(customer=customer, name="paid", count=3)
    asked = {
        "<p>{{ company.name }}</p>": rule("company.size", "greater_than", 10),
        "<p>any</p>": rule("company.size", "greater_than", 10),
        "<p>none</p>": rule("company.size", "greater_than", 1000),
        "<p>paid</p>": rule("event_count.paid", "is", 3),
        "<p>seldom</p>": rule("event_count.paid", "is", 2),
    }
    for body, asks in asked.items():
        MessageFactory(in_app=True, body=body, rules=[asks], live=True, at=at)

    shown = customer_visit.visit(customer, at=at)

    assert set(bodies(shown)) == {"<p>Of 50</p>", "<p>Of 500</p>", "<p>any</p>", "<p>paid</p>"}
    assert DeliveryRecord.objects.count() == shown.matched == 4


def test_customer_who_does_not_match_sees_nothing(at):
    MessageFactory(in_app=True, rules=[rule("name", "is", "Pro")], live=True, at=at)

    assert customer_visit.visit(CustomerFactory(name="Free"), at=at).shown == []


def test_message_is_shown_again_until_it_is_opened_and_recorded_once(at):
    customer = CustomerFactory()
    MessageFactory(in_app=True, live=True, at=at)
    customer_visit.visit(customer, at=at)

    again = customer_visit.visit(customer, at=at + timedelta(minutes=5))
    assert len(again.shown) == 1
    assert again.shown[0].sent_at == at
    DeliveryRecord.objects.update(opened_at=at)
    assert customer_visit.visit(customer, at=at + timedelta(minutes=10)).shown == []
    assert DeliveryRecord.objects.count() == 1


def test_shown_message_keeps_its_text_when_the_customer_changes(at):
    customer = CustomerFactory(name="Ann")
    MessageFactory(in_app=True, body="<p>Hi {{ first_name }}</p>", live=True, at=at)
    customer_visit.visit(customer, at=at)
    customer.name = "Bea"
    customer.save()

    assert bodies(customer_visit.visit(customer, at=at + timedelta(minutes=5))) == ["<p>Hi Ann</p>"]


def test_last_seen_rule_is_about_the_time_before_this_visit(at):
    customer = CustomerFactory(last_seen_at=at - timedelta(days=40))
    MessageFactory(in_app=True, rules=[rule("last_seen_at", "more_than_days_ago", 30)], live=True, at=at)

    assert len(customer_visit.visit(customer, at=at).shown) == 1
    customer.refresh_from_db()
    assert customer.last_seen_at == at


def test_company_last_seen_rule_uses_the_time_before_the_visit(at):
    customer = CustomerFactory()
    company = CompanyFactory(last_seen_at=at - timedelta(days=40))
    MembershipFactory(customer=customer, company=company)
    MessageFactory(in_app=True, rules=[rule("company.last_seen_at", "more_than_days_ago", 30)], live=True, at=at)

    assert len(customer_visit.visit(customer, at=at, company=company).shown) == 1
    company.refresh_from_db()
    assert company.last_seen_at == at
    assert DeliveryRecord.objects.get().judged_company_last_seen_at == at - timedelta(days=40)


def test_in_app_message_is_not_shown_outside_its_window(at):
    customer = CustomerFactory()
    MessageFactory(in_app=True, window=EVERY_NIGHT, live=True, at=at)

    assert customer_visit.visit(customer, at=at).shown == []
    assert not DeliveryRecord.objects.exists()
    assert len(customer_visit.visit(customer, at=at.replace(hour=20)).shown) == 1


def test_in_app_one_off_waits_for_the_next_visit_inside_the_window(at):
    customer = CustomerFactory()
    MessageFactory(in_app=True, one_off=True, window=EVERY_NIGHT, live=True, at=at)
    later = CustomerFactory()

    assert DeliveryRecord.objects.get().reason == "visit"
    assert customer_visit.visit(customer, at=at).shown == []
    assert len(customer_visit.visit(customer, at=at.replace(hour=21)).shown) == 1
    assert customer_visit.visit(later, at=at.replace(hour=21)).shown == []


def test_in_app_one_off_is_sent_once_all_customers_have_visited(at):
    first, second = CustomerFactory(), CustomerFactory()
    message = MessageFactory(in_app=True, one_off=True, live=True, at=at)
    customer_visit.visit(first, at=at)
    lifecycle.finish_one_offs()
    message.refresh_from_db()
    assert message.state == "live"
    customer_visit.visit(second, at=at)
    lifecycle.finish_one_offs()

    message.refresh_from_db()
    assert message.state == "sent"


def test_visit_matches_emails_too(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    message = MessageFactory(rules=[rule("last_seen_at", "more_than_days_ago", 7)], live=True, at=at)

    customer_visit.visit(customer, at=at)

    assert message.records.get().status == Status.WAITING
    assert message.records.get().judged_last_seen_at == at - timedelta(days=9)


def test_visit_does_not_withdraw_the_email_it_matched(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    tomorrow = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(rules=[rule("last_seen_at", "more_than_days_ago", 7)], window=tomorrow, live=True, at=at)
    customer_visit.visit(customer, at=at)

    assert recheck.recheck_due(message, at=at.replace(day=5, hour=9)) == 0
    assert message.records.get().status == Status.WAITING


def test_later_visit_withdraws_the_email(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    tomorrow = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(rules=[rule("last_seen_at", "more_than_days_ago", 7)], window=tomorrow, live=True, at=at)
    customer_visit.visit(customer, at=at)
    customer_visit.visit(customer, at=at + timedelta(hours=2))

    assert recheck.recheck_due(message, at=at.replace(day=5, hour=9)) == 1


def test_paused_message_is_shown_only_to_customers_who_have_it(at):
    seen, new = CustomerFactory(), CustomerFactory()
    message = MessageFactory(in_app=True, live=True, at=at)
    customer_visit.visit(seen, at=at)
    lifecycle.pause(message)

    assert customer_visit.visit(new, at=at).shown == []
    assert len(customer_visit.visit(seen, at=at + timedelta(minutes=5)).shown) == 1


def test_message_set_live_after_others_were_compiled_matches(at):
    customer = CustomerFactory()
    MessageFactory(in_app=True, live=True, at=at)
    customer_visit.visit(customer, at=at)
    MessageFactory(in_app=True, live=True, at=at)

    assert len(customer_visit.visit(customer, at=at).shown) == 2


def test_company_variable_shows_one_copy_for_each_company(at):
    customer = CustomerFactory()
    for name in ("A", "B"):
        MembershipFactory(customer=customer, company=CompanyFactory(name=name))
    MessageFactory(in_app=True, body="<p>{{ company.name }}</p>", live=True, at=at)

    assert sorted(bodies(customer_visit.visit(customer, at=at))) == ["<p>A</p>", "<p>B</p>"]


def test_next_customer_reads_the_edited_text_of_a_live_message(at):
    message = MessageFactory(in_app=True, body="<p>old</p>", live=True, at=at)
    first = CustomerFactory()
    customer_visit.visit(first, at=at)
    authoring.revise(message, subject="", body="<p>new</p>", by=None, at=at)

    assert bodies(customer_visit.visit(CustomerFactory(), at=at)) == ["<p>new</p>"]
    assert bodies(customer_visit.visit(first, at=at + timedelta(minutes=5))) == ["<p>old</p>"]


def test_session_counts_after_half_an_hour_away(at):
    customer = CustomerFactory()
    for minutes in (0, 10, 39, 70):
        customer_visit.visit(customer, at=at + timedelta(minutes=minutes))
    customer.refresh_from_db()

    assert (customer.session_count, customer.first_seen_at) == (2, at)


def test_check_matches_emails_at_most_once_in_fifteen_minutes(at):
    customer = CustomerFactory(email="a@x.example")
    assert customer_visit.check(customer, at=at) is None
    message = MessageFactory(live=True, at=at)

    assert customer_visit.check(customer, at=at + timedelta(minutes=14)) == at + timedelta(minutes=15)
    assert not message.records.exists()
    assert customer_visit.check(customer, at=at + timedelta(minutes=15)) is None
    assert message.records.get().status == Status.WAITING


def test_check_finds_new_messages_for_a_customer_who_had_all_others(at):
    customer = CustomerFactory(email="a@x.example")
    MessageFactory(live=True, at=at)
    assert customer_visit.check(customer, at=at) is None
    later = at + timedelta(minutes=15)

    assert customer_visit.check(customer, at=later) is None
    assert customer_visit.check(customer, at=later) == later + timedelta(minutes=15)
    MessageFactory(live=True, at=later)
    assert customer_visit.check(customer, at=later + timedelta(minutes=15)) is None
    assert DeliveryRecord.objects.count() == 2


def test_check_leaves_in_app_messages_to_visits(at):
    customer = CustomerFactory()
    MessageFactory(in_app=True, live=True, at=at)

    customer_visit.check(customer, at=at)

    assert not DeliveryRecord.objects.exists()


def test_visits_do_not_count_towards_the_fifteen_minutes(at):
    customer = CustomerFactory(email="a@x.example")
    customer_visit.visit(customer, at=at)

    assert customer_visit.check(customer, at=at + timedelta(minutes=1)) is None


@pytest.mark.django_db(transaction=True)
def test_only_one_of_twenty_concurrent_checks_matches(at):
    customer = CustomerFactory(email="a@x.example")
    Workspace.current()
    MessageFactory(live=True, at=at)

    def ask(_: int) -> bool:
        try:
            return customer_visit.check(customer, at=at) is None
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        ran = list(pool.map(ask, range(20)))

    assert sum(ran) == 1
    assert DeliveryRecord.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_failed_check_does_not_count(at, monkeypatch):
    customer = CustomerFactory(email="a@x.example")
    MessageFactory(live=True, at=at)
    with monkeypatch.context() as broken:
        broken.setattr(customer_visit, "match_live_messages", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            customer_visit.check(customer, at=at)

    assert customer_visit.check(customer, at=at) is None


# One session is one visit (behaviour 4.16)


LAST_SEEN = rule("last_seen_at", "more_than_days_ago", 7)
TOMORROW = [{"weekday": 1, "from": "09:00", "to": "17:00"}]


def later(at, minutes: int):
    return at + timedelta(minutes=minutes)


def test_every_visit_of_a_session_is_judged_with_the_last_seen_from_before_it(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    company = CompanyFactory(last_seen_at=at - timedelta(days=9))
    MembershipFactory(customer=customer, company=company)
    customer_visit.visit(customer, at=at, company=company)
    email = MessageFactory(rules=[LAST_SEEN], live=True, at=at)
    in_app = MessageFactory(
        in_app=True, rules=[rule("company.last_seen_at", "more_than_days_ago", 7)], live=True, at=at
    )

    company.refresh_from_db()
    assert len(customer_visit.visit(customer, at=later(at, 25), company=company).shown) == 1
    company.refresh_from_db()
    customer_visit.visit(customer, at=later(at, 50), company=company)

    assert email.records.get().judged_last_seen_at == at - timedelta(days=9)
    assert in_app.records.get().judged_company_last_seen_at == at - timedelta(days=9)


def test_visit_of_the_next_session_is_judged_with_the_last_seen_of_the_one_before(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    customer_visit.visit(customer, at=at)
    MessageFactory(in_app=True, rules=[LAST_SEEN], live=True, at=at)

    assert customer_visit.visit(customer, at=later(at, 31)).shown == []


def test_second_page_view_withdraws_nothing(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    message = MessageFactory(rules=[LAST_SEEN], window=TOMORROW, live=True, at=at)
    for minutes in (0, 20, 45):
        customer_visit.visit(customer, at=later(at, minutes))

    assert recheck.recheck_due(message, at=at.replace(day=5, hour=9)) == 0


def test_pause_and_resume_within_the_session_withdraw_nothing(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    message = MessageFactory(rules=[LAST_SEEN], window=TOMORROW, live=True, at=at)
    customer_visit.visit(customer, at=at)
    lifecycle.pause(message)
    message_lifecycle.resume(message, at=later(at, 10))

    assert recheck.recheck_held(message, at=later(at, 10)) == 0
    assert recheck.recheck_due(message, at=at.replace(day=5, hour=9)) == 0
    customer_visit.visit(customer, at=at.replace(day=5, hour=8))
    message.records.update(reason="window", due_at=at.replace(day=5, hour=9))
    assert recheck.recheck_due(message, at=at.replace(day=5, hour=9)) == 1


def test_record_matched_by_a_round_is_withdrawn_by_a_later_session(at):
    customer = CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=9))
    message = MessageFactory(rules=[LAST_SEEN], window=TOMORROW, live=True, at=at)
    ongoing.match(message, at=at)
    for minutes in (40, 45):
        customer_visit.visit(customer, at=later(at, minutes))

    assert recheck.recheck_due(message, at=at.replace(day=5, hour=9)) == 1
