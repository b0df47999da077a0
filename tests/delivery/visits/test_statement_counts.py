"""The number of statements of a visit: at most three, besides BEGIN and COMMIT (behaviour 4.6)."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import DjangoDbBlocker
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.models import Company, CustomAttribute, Customer, Workspace
from delivery.messenger import sessions
from delivery.models import Conversation, DeliveryRecord
from tests.factories import (
    CompanyFactory,
    CustomAttributeFactory,
    CustomerFactory,
    MembershipFactory,
    MessageFactory,
    rule,
)

pytestmark = pytest.mark.django_db
# The plans are discarded every five seconds.
AROUND = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "DISCARD PLANS")


@pytest.fixture(scope="module")
def fifty_live_messages(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Created once, in a transaction around those of the tests."""
    with django_db_blocker.unblock(), transaction.atomic():
        for number in range(50):
            asked = {"match": "all", "rules": [rule("session_count", "greater_than", 100 + number)]}
            MessageFactory(in_app=number % 2 == 0, rules=asked, live=True)
        yield
        transaction.set_rollback(True)


@pytest.fixture
def ann(fifty_live_messages, db) -> Customer:
    now = timezone.now()
    ann = CustomerFactory(
        user_id="ann", email="ann@x.example", last_seen_at=now, session_started_at=now, first_seen_at=now
    )
    ping(user_id="ann")  # The first visit to a process compiles the live messages.
    return ann


def ping(user_id: str = "", email: str = "", **sent: object) -> dict:
    named = {name: value for name, value in (("user_id", user_id), ("email", email)) if value}
    visitor = {"visitor": sent.pop("visitor")} if "visitor" in sent else {}
    if named:
        named["user_hash"] = identity_verification.user_hash(Workspace.current().identity_secret, user_id or email)
    answered = APIClient().post("/messenger/ping", {"user": {**named, **sent}, **visitor}, format="json")
    assert answered.status_code == 200, answered.content
    return answered.json()


@pytest.fixture
def statements(monkeypatch):
    """Every statement the database is asked, by whichever cursor."""
    asked: list[str] = []

    def count(**who: object) -> tuple[int, dict]:
        import psycopg

        def watched(execute):
            def run(self, query, *args, **kwargs):
                text = query if isinstance(query, str) else getattr(query, "decode", lambda: str(query))()
                if not text.lstrip().upper().startswith(AROUND):
                    asked.append(text)
                return execute(self, query, *args, **kwargs)

            return run

        secret = Workspace.current().identity_secret
        with monkeypatch.context() as patch:
            patch.setattr(psycopg.Cursor, "execute", watched(psycopg.Cursor.execute))
            patch.setattr(Workspace, "current", classmethod(lambda cls: Workspace(identity_secret=secret)))
            asked.clear()
            answer = ping(**who)
        return len(asked), answer

    count.asked = asked
    return count


def test_plain_visit_of_a_user(ann, statements):
    count, answer = statements(user_id="ann")

    assert count <= 2, statements.asked
    assert answer["user"]["id"] == str(ann.pk)


def test_visit_by_email_only(ann, statements):
    Customer.objects.update(user_id=None)

    count, answer = statements(email="ann@x.example")

    assert count <= 2, statements.asked
    assert answer["user"]["id"] == str(ann.pk)


def test_visit_that_begins_a_session(ann, statements):
    Customer.objects.update(last_seen_at=timezone.now() - timedelta(days=1))

    count, _ = statements(user_id="ann")

    assert count <= 3, statements.asked
    ann.refresh_from_db()
    assert ann.session_count == 1
    assert timezone.now() - ann.last_seen_at < timedelta(minutes=1)


def test_new_values_of_attributes_in_the_catalogue(ann, statements):
    CustomAttributeFactory(name="plan", kind="text", scope="customer")
    ping(user_id="ann", plan="free")

    count, _ = statements(user_id="ann", plan="pro", name="Ann Lee")

    assert count <= 3, statements.asked
    ann.refresh_from_db()
    assert (ann.attributes, ann.name) == ({"plan": "pro"}, "Ann Lee")


def test_user_with_the_key_of_a_visitor_who_never_wrote(ann, statements):
    token = sessions.visitor_token(sessions.new_key())

    count, answer = statements(user_id="ann", visitor=token)

    assert count <= 2, statements.asked
    assert answer["visitor"] is None


def test_lead_by_the_key_of_their_browser(ann, statements):
    key = sessions.new_key()
    lead = sessions.lead_for(key, at=timezone.now())
    ping(visitor=sessions.visitor_token(key))

    count, answer = statements(visitor=sessions.visitor_token(key))

    assert count <= 3, statements.asked
    assert answer["user"]["id"] == str(lead.pk)


def test_unknown_visitor(ann, statements):
    count, answer = statements(visitor=sessions.visitor_token(sessions.new_key()))

    assert count <= 2, statements.asked
    assert answer["user"] is None


def test_visitor_adds_no_attribute_and_a_lead_fills_an_existing_one(ann):
    key = sessions.new_key()
    sent = {"visitor": sessions.visitor_token(key), "favourite_colour": "blue"}

    APIClient().post("/messenger/ping", sent, format="json")
    assert not CustomAttribute.objects.exists()

    lead = sessions.lead_for(key, at=timezone.now())
    APIClient().post("/messenger/ping", sent, format="json")
    lead.refresh_from_db()
    assert (lead.attributes, CustomAttribute.objects.exists()) == ({}, False)

    CustomAttributeFactory(name="favourite_colour", kind="text", scope="customer")
    APIClient().post("/messenger/ping", sent, format="json")
    lead.refresh_from_db()
    assert lead.attributes == {"favourite_colour": "blue"}


def test_visit_that_names_a_company(ann, statements):
    company = CompanyFactory(company_id="acme", name="Acme")
    MembershipFactory(customer=ann, company=company)

    count, _ = statements(user_id="ann", company={"id": "acme", "name": "Acme"})

    assert count <= 2, statements.asked
    company.refresh_from_db()
    assert timezone.now() - company.last_seen_at < timedelta(minutes=1)


def test_matching_messages_take_no_more_statements(ann, statements):
    MessageFactory(in_app=True, body="<p>Hello {{ first_name }}</p>", rules={"match": "all", "rules": []}, live=True)
    MessageFactory(in_app=True, one_off=True, body="<p>Dear {{ name }}</p>", live=True)
    Customer.objects.update(name="Ann Lee")
    ping(email="another@x.example")

    count, answer = statements(user_id="ann")

    assert sorted(message["body"] for message in answer["messages"]) == ["<p>Dear Ann Lee</p>", "<p>Hello Ann</p>"]
    # Once for each version a process has not shown yet.
    assert count <= 3 + 2, statements.asked
    assert Conversation.objects.filter(customer=ann).count() == 2
    ann.refresh_from_db()
    assert ann.last_contacted_at is not None
    filled = {record.message_id: record.variables for record in DeliveryRecord.objects.filter(customer=ann)}
    assert sorted(map(str, filled.values())) == ["{'first_name': 'Ann'}", "{'name': 'Ann Lee'}"]
    assert statements(user_id="ann")[0] <= 2


def test_first_showing_for_each_of_many_companies_takes_two_more_statements(ann, statements):
    for number in range(4):
        MembershipFactory(customer=ann, company=CompanyFactory(name=f"No. {number}"))
    MembershipFactory(customer=CustomerFactory(user_id="bea"), company=CompanyFactory(name="Other"))
    MessageFactory(in_app=True, body="<p>{{ company.name }}</p>", rules={"match": "all", "rules": []}, live=True)
    ping(user_id="bea")

    count, answer = statements(user_id="ann")

    assert sorted(message["body"] for message in answer["messages"]) == [f"<p>No. {n}</p>" for n in range(4)]
    assert count <= 2 + 2, statements.asked
    assert statements(user_id="ann")[0] <= 2


def test_frequency_cap_takes_no_more_statements(ann, statements):
    Workspace.objects.update(cap_messages=1, cap_days=7)
    for _ in range(3):
        MessageFactory(in_app=True, one_off=True, body="<p>Hello</p>", live=True)
    MessageFactory(in_app=True, body="<p>Hello</p>", rules={"match": "all", "rules": []}, live=True)
    # A process compiles the live messages and reads each text once.
    ping(email="another@x.example")
    Customer.objects.update(last_seen_at=timezone.now() - timedelta(days=1))

    count, answer = statements(user_id="ann")

    assert len(answer["messages"]) == 1
    assert count <= 3 + 1, statements.asked
    assert DeliveryRecord.objects.filter(customer=ann).exclude(capped_since=None).count() == 2
    Customer.objects.update(last_seen_at=timezone.now() - timedelta(days=1))
    assert statements(user_id="ann")[0] <= 3, statements.asked


def test_message_set_live_later_is_shown_despite_the_process_cache(ann):
    MessageFactory(in_app=True, body="<p>New</p>", live=True)

    assert len(ping(user_id="ann")["messages"]) == 1


def test_new_customer_is_created_and_shown_matching_messages(ann):
    MessageFactory(in_app=True, body="<p>New</p>", live=True)

    assert len(ping(user_id="bea")["messages"]) == 1
    assert Customer.objects.get(user_id="bea").session_count == 1


def test_new_company_is_created_and_joined(ann):
    ping(user_id="ann", company={"id": "new", "name": "New"})

    assert Company.objects.get(company_id="new").memberships.get().customer == ann


def test_hash_with_the_new_identity_secret_is_accepted_at_once(ann):
    Workspace.objects.update(identity_secret="another")

    assert ping(user_id="ann")["user"]["id"] == str(ann.pk)


def test_hash_with_the_old_identity_secret_is_refused(ann):
    old = identity_verification.user_hash(Workspace.current().identity_secret, "ann")
    Workspace.objects.update(identity_secret="another")

    sent = {"user": {"user_id": "ann", "user_hash": old}}

    assert APIClient().post("/messenger/ping", sent, format="json").status_code == 403
