"""Each customer who matches is counted once: they have the message, wait for it, or are left out for one reason."""

from collections import Counter
from datetime import timedelta
from random import Random
from uuid import uuid4

import pytest
from django.db import connection

from audiences import customer_counts
from audiences.models import Company, Customer, Device, Membership, Workspace
from delivery.eligibility.explain import Case, Explanation, Verdict, explain
from delivery.eligibility.left_out import RECEIVED, UNCERTAIN, WAITS, Outcomes, count_outcomes, count_outcomes_within
from delivery.matching import forecast, launch, ongoing
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import Message
from tests.factories import (
    AT,
    CompanyFactory,
    CustomAttributeFactory,
    CustomerFactory,
    MessageFactory,
    TopicFactory,
    TopicOptOutFactory,
    rule,
)
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
ABOUT_THE_COMPANY = "<p>{{ company.name }}</p>"
ON_PRO = [rule("custom_attributes.plan", "is", "pro")]
MESSAGES = {
    "email": {"rules": ON_PRO},
    "push": {"rules": ON_PRO, "channel": "push"},
    "in_app": {"rules": ON_PRO, "in_app": True},
    "per company": {"rules": [rule("company.plan", "is_not", "free")], "body": ABOUT_THE_COMPANY},
    "companies together": {"rules": [rule("company.plan", "is", "pro")]},
    "new matches": {"rules": ON_PRO, "only_new_matches": True},
    "leads": {"rules": [*ON_PRO, rule("role", "is", "lead")]},
}
OUTCOMES = {
    Verdict.GOT_IT: RECEIVED,
    Verdict.NO_COMPANY: Reason.NO_COMPANY,
    Verdict.NEXT_CHECK: WAITS,
    Verdict.NEXT_VISIT: WAITS,
    Verdict.ON_ITS_WAY: WAITS,
    Verdict.UNCERTAIN: UNCERTAIN,
}


def draw_customers(draw: Random) -> None:
    """Create forty customers with random facts. Leads must confirm their address."""
    Workspace.current()
    Workspace.objects.update(double_opt_in=True)
    companies = [CompanyFactory(plan=plan, archived=archived) for plan in ("pro", "free") for archived in (False, True)]
    companies.append(CompanyFactory(plan="pro"))
    CustomAttributeFactory(name="plan")
    for n in range(40):
        lead = draw.random() < 0.4
        customer = CustomerFactory(
            email=draw.choice([None, f"{n}@x.example", f"{n}@x.example", f"{n // 4}@shared.example"]),
            unsubscribed_from_emails=draw.random() < 0.2,
            has_hard_bounced=draw.random() < 0.1,
            marked_email_as_spam=draw.random() < 0.1,
            archived=draw.random() < 0.1,
            lead=lead,
            # Visitors may state the same address.
            email_is_said=lead or n % 7 == 0,
            opted_in_at=AT if draw.random() < 0.4 else None,
            attributes={"plan": draw.choice(["pro", "pro", "free"])},
        )
        if draw.random() < 0.4:
            Device.objects.create(customer=customer, token=f"t{n}", platform="android", created_at=AT)
        for company in draw.sample(companies, draw.choice([0, 1, 1, 2, 3])):
            Membership.objects.create(customer=customer, company=company, created_at=AT)


def change_customers(draw: Random) -> None:
    """Change plans, flags, memberships, companies, addresses and confirmations."""
    for customer in Customer.objects.order_by("pk"):
        if draw.random() < 0.3:
            customer.attributes = {"plan": draw.choice(["pro", "free"])}
            customer.unsubscribed_from_emails = customer.unsubscribed_from_emails or draw.random() < 0.2
            customer.opted_in_at = draw.choice([AT, None])
            customer.save()
        elif customer.email and draw.random() < 0.2:
            Customer.objects.filter(pk=customer.pk).update(email=f"new-{customer.pk}@x.example")
    for membership in Membership.objects.order_by("pk"):
        if draw.random() < 0.2:
            membership.delete()
    Company.objects.filter(pk=draw.choice(list(Company.objects.values_list("pk", flat=True)))).update(archived_at=AT)


def settle_records(draw: Random, message: Message) -> None:
    """Give the waiting records random outcomes."""
    for record in message.records.filter(status=Status.WAITING).order_by("pk"):
        found = DeliveryRecord.objects.filter(pk=record.pk)
        outcome = draw.choice(["sent", "uncertain", "skipped", "withdrawn", "cap", "window", ""])
        if outcome == "sent":
            mark_records_sent(found, at=AT)
        elif outcome == "uncertain":
            found.mark_sending(claim=uuid4(), until=AT)
            found.update(status=Status.UNCERTAIN, claim=None, leased_until=None)
        elif outcome == "skipped":
            found.skip(reason=draw.choice([Reason.SAME_INBOX, Reason.CONTENT]))
        elif outcome == "withdrawn":
            found.withdraw(reason=Reason.NO_LONGER_MATCHES)
        elif outcome:
            found.update(reason=outcome)


def outcome_of(explained: Explanation, case: Case) -> str:
    """Return the outcome of a matching copy, from the explanation that staff read."""
    if case.verdict in OUTCOMES:
        return OUTCOMES[case.verdict]
    if case.verdict is Verdict.UNREACHABLE:
        return explained.unreachable[0]
    assert case.record, case.verdict
    if case.verdict is Verdict.WAITING:
        if explained.unreachable:
            return explained.unreachable[0]
        return Reason.CAP if case.record.reason == Reason.CAP else WAITS
    assert case.verdict in (Verdict.SKIPPED, Verdict.FAILED)
    return case.record.reason


def explained_outcomes(message: Message) -> Counter[str]:
    """Count the outcomes of the customers who match, from the explanation of each."""
    counted: Counter[str] = Counter()
    for customer in Customer.objects.order_by("pk"):
        explained = explain(message, customer, at=AT)
        found = {outcome_of(explained, case) for case in explained.cases if case.matches}
        if found:
            first = [outcome for outcome in (RECEIVED, WAITS, UNCERTAIN) if outcome in found]
            counted[(first or sorted(found))[0]] += 1
    return counted


def counted_outcomes(found: Outcomes) -> Counter[str]:
    return Counter({RECEIVED: found.received, UNCERTAIN: found.uncertain, WAITS: found.waiting, **found.left_out})


@pytest.mark.parametrize("seed", range(2))
def test_every_matching_customer_is_counted_once_with_the_outcome_that_why_explains(seed):
    draw = Random(seed)  # noqa: S311
    draw_customers(draw)
    messages = [MessageFactory(title=name, live=True, **facts) for name, facts in MESSAGES.items()]
    messages.append(MessageFactory(title="topic", live=True, in_app=True, topic=TopicFactory(), rules=ON_PRO))
    for customer in Customer.objects.order_by("pk")[::4]:
        TopicOptOutFactory(customer=customer, topic=messages[-1].topic)
    for message in messages:
        ongoing.match(message, at=AT)
        settle_records(draw, message)
    change_customers(draw)

    reasons: set[str] = set()
    for message in messages:
        message.refresh_from_db()
        found = count_outcomes(message, at=AT)
        reasons |= set(found.left_out)
        assert counted_outcomes(found) == explained_outcomes(message), message.title
        assert found.people == forecast.forecast(message, at=AT).people, message.title
    assert reasons >= {
        Reason.NOT_CONFIRMED,
        Reason.OPTED_OUT,
        Reason.UNSUBSCRIBED,
        Reason.NO_DEVICE,
        Reason.NO_COMPANY,
        Reason.MATCHED_AT_LAUNCH,
        Reason.CAP,
    }


@pytest.mark.parametrize("name", ["email", "push", "in_app", "per company", "companies together", "leads"])
def test_review_of_a_one_off_counts_the_people_and_reasons_that_its_records_have(name):
    draw_customers(Random(name))  # noqa: S311
    message = MessageFactory(one_off=True, same_inbox_once=False, **MESSAGES[name])

    before = forecast.forecast(message, at=AT)
    launch.launch(message, at=AT)

    records = list(message.records.order_by("pk"))
    reached = {one.customer_id for one in records if one.status == Status.WAITING}
    left_out = {one.customer_id: one.reason for one in records if one.customer_id not in reached}
    assert before.people == len(reached) + len(left_out)
    assert before.receiving == len(reached)
    assert before.copies == sum(one.status == Status.WAITING for one in records)
    assert before.left_out == Counter(left_out.values())


def test_slow_count_is_estimated_and_a_slower_one_is_given_up(monkeypatch):
    CustomerFactory.create_batch(20)
    message = MessageFactory(live=True, in_app=True)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audiences_customer")
    monkeypatch.setattr(customer_counts, "SAMPLE_SIZE", 5)

    exact = count_outcomes_within(message, at=AT, within=timedelta(seconds=30))
    sampled = count_outcomes(message, at=AT, customers=20)
    monkeypatch.setattr(customer_counts, "SAMPLE_SIZE", 20)
    monkeypatch.setattr("delivery.eligibility.left_out.outcome_sql", lambda _message: "pg_sleep(1)::text")

    assert exact == Outcomes(received=0, uncertain=0, waiting=20, left_out={})
    assert not sampled.exact
    assert count_outcomes_within(message, at=AT, within=timedelta(milliseconds=20)) is None
