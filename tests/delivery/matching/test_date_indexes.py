"""Indexes on dates of rules: created when a live message needs one, used by rounds, dropped when none needs it."""

from datetime import timedelta

import pytest
from django.db import connection

from audiences.models import Company, CustomAttribute, Customer, EventSummary, Membership
from audiences.models.catalogue import Scope
from delivery.matching import date_indexes, lifecycle
from delivery.matching.dependencies import Boundary, probes
from tests.factories import AT, CompanyFactory, CustomerFactory, EventSummaryFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db(transaction=True)

ODD = "it's 100% c.odd {x}"


def index_names() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'matching_date_%'")
        return {name for (name,) in cursor.fetchall()}


@pytest.fixture
def dated_message(at):
    for scope, name in ((Scope.CUSTOMER, "trial ends"), (Scope.COMPANY, ODD)):
        CustomAttribute.objects.create(scope=scope, name=name, kind="date", created_at=AT)
    CustomerFactory(attributes={"trial ends": int(at.timestamp()), ODD: "text"})
    yield MessageFactory(
        live=True,
        at=at,
        rules=[
            rule("custom_attributes.trial ends", "more_than_days_ago", 3),
            rule(f"company.custom_attributes.{ODD}", "less_than_days_ago", 3),
            rule("signed_up_at", "exactly_days_ago", 3),
            rule("last_seen_at", "less_than_days_ago", 3),
            rule("event_last.ordered", "less_than_days_ago", 3),
            rule("company.created_at", "before", "2026-05-03"),
        ],
    )
    with connection.cursor() as cursor:
        for name in index_names():
            cursor.execute(f"DROP INDEX {name}")


def test_each_date_that_crosses_boundaries_gets_one_index_until_no_message_uses_it(dated_message):
    date_indexes.update_indexes()

    assert len(index_names()) == 4
    assert set(date_indexes.wanted_indexes(date_indexes.dates_in_use())) == index_names()
    lifecycle.pause(dated_message)
    date_indexes.update_indexes()
    assert len(index_names()) == 4
    lifecycle.stop(dated_message)
    date_indexes.update_indexes()
    assert index_names() == set()


def test_round_finds_crossed_boundaries_by_these_indexes(dated_message, at):
    date_indexes.update_indexes()
    members = Customer.objects.bulk_create(CustomerFactory.build() for _ in range(300))
    companies = Company.objects.bulk_create(CompanyFactory.build() for _ in members)
    Membership.objects.bulk_create(
        Membership(customer=member, company=company, created_at=AT)
        for member, company in zip(members, companies, strict=True)
    )
    EventSummary.objects.bulk_create(EventSummaryFactory.build(customer=member, name="ordered") for member in members)
    dates = date_indexes.dates_in_use()
    selects, params = probes((Boundary(date, 3) for date in dates), since=at, until=at + timedelta(hours=1))
    plans = []
    with connection.cursor() as cursor:
        # In an empty table every index costs the same, and statistics of earlier rows decide in which order it is read.
        cursor.execute("ANALYZE audiences_customer, audiences_company, audiences_membership, audiences_eventsummary")
        cursor.execute("SET enable_seqscan = off")
        try:
            for select in selects:
                cursor.execute(f"EXPLAIN {select}", params)
                plans.append("\n".join(line for (line,) in cursor.fetchall()))
        finally:
            cursor.execute("SET enable_seqscan = on")

    assert {name for name in index_names() if any(name in plan for plan in plans)} == index_names()
    assert any("customer_seen_last" in plan for plan in plans)


def test_indexes_are_left_to_a_worker_that_creates_them(dated_message):
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [date_indexes.Lock.DATE_INDEXES])
        date_indexes.update_indexes()
        assert index_names() == set()
    finally:
        other.close()
