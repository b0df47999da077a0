"""Property: the fast path and the full path of a visit leave the same rows and give the same answer."""

from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from django.db import connection, models, transaction
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from audiences import identity_verification
from audiences.models import Company, Customer, Membership, Workspace
from delivery.api.messenger import ping
from delivery.api.messenger.access import Proof
from delivery.eligibility import live_messages
from delivery.messenger import sessions
from delivery.models import Conversation, DeliveryRecord
from delivery.visits import fast_path
from tests.factories import (
    CompanyFactory,
    CustomAttributeFactory,
    CustomerFactory,
    MembershipFactory,
    MessageFactory,
    rule,
)
from tests.support.examples import examples

pytestmark = pytest.mark.django_db

IDENTITIES = ({"user_id": "ann"}, {"email": "kim@x.example"}, {"user_id": "new"}, {})
FACTS = {
    "name": st.sampled_from(["Ann Lee", "Zoë", ""]),
    "plan": st.sampled_from(["pro", "free", 7, None]),
    "unknown_attribute": st.just("blue"),
    "unsubscribed_from_emails": st.booleans(),
    "last_seen_user_agent": st.just("Firefox"),
    "created_at": st.sampled_from([1_500_000_000, "yesterday"]),
    "company": st.sampled_from([{"company_id": "acme"}, {"company_id": "acme", "name": "Renamed"}, {"id": "fresh"}]),
}


@pytest.fixture
def visitor(at) -> UUID:
    """The key of a lead's browser, beside customers, companies and messages of every kind that a visit reads."""
    CustomAttributeFactory(name="plan", kind="text", scope="customer")
    seen = {"last_seen_at": at - timedelta(minutes=20), "session_started_at": at - timedelta(minutes=40)}
    ann = CustomerFactory(user_id="ann", email="ann@x.example", attributes={"plan": "pro"}, **seen)
    CustomerFactory(user_id=None, email="kim@x.example", **seen)
    MembershipFactory(customer=ann, company=CompanyFactory(company_id="acme", name="Acme"))
    key = sessions.new_key()
    sessions.lead_for(key, at=at - timedelta(days=2))
    on_pro = {"match": "all", "rules": [rule("custom_attributes.plan", "is", "pro")]}
    MessageFactory(in_app=True, body="<p>Hello {{ first_name }}</p>", live=True, at=at)
    MessageFactory(in_app=True, rules=on_pro, live=True, at=at)
    MessageFactory(in_app=True, per_company=True, body="<p>{{ company.name }}</p>", live=True, at=at)
    MessageFactory(rules=on_pro, live=True, at=at)
    MessageFactory(in_app=True, one_off=True, live=True, at=at)
    compile_live_messages()
    return key


def compile_live_messages() -> None:
    database = connection.settings_dict["NAME"]
    live_messages.live_messages(generation=Workspace.current().generation, database=database)


def restart_sequences() -> None:
    """Give new customers and companies the same keys on both paths; the rollback undoes it."""
    with connection.cursor() as cursor:
        for model in (Customer, Company, Membership):
            cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [model._meta.db_table])
            cursor.execute(f"ALTER SEQUENCE {cursor.fetchone()[0]} RESTART WITH 1000000")


def rows(model: type[models.Model]) -> list[dict[str, Any]]:
    """Return all rows of a table, without the keys of new records and conversations."""
    found = model.objects.all().values()
    stable = [{name: value for name, value in row.items() if name not in ("id", "record_id")} for row in found]
    return sorted(stable, key=repr)


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    messages = [{name: value for name, value in message.items() if name != "id"} for message in answer["messages"]]
    return {**answer, "messages": sorted(messages, key=repr)}


def visit(user: dict[str, Any], *, key: UUID | None, at: datetime, is_fast: bool) -> tuple[Any, Any, bool]:
    """Visit in a transaction that is rolled back; return the answer, the rows, and whether the fast path did it."""
    request = Request(APIRequestFactory().post("/messenger/ping", {}, format="json"), parsers=[JSONParser()])
    given = {name: user.get(name) for name in ping.IDENTITY_FIELDS}
    claim, done = fast_path.read_claimed_identity, []

    def update(*args: Any, **kwargs: Any) -> fast_path.Arrival:
        arrival = original(*args, **kwargs)
        done.append(True)
        return arrival

    original = fast_path.update_known_customer
    with (
        transaction.atomic(),
        patch.object(fast_path, "read_claimed_identity", claim if is_fast else lambda *_args, **_more: None),
        patch.object(fast_path, "update_known_customer", update),
    ):
        restart_sequences()
        if any(given.values()):
            answer = ping.visit_of_user(request, user, key=key, proof=Proof({}, user, given), at=at)
        else:
            answer = ping.visit_of_visitor(request, user, key=key, at=at)
        after = [rows(model) for model in (Customer, Company, Membership, DeliveryRecord, Conversation)]
        transaction.set_rollback(True)
    return without_ids(answer), after, bool(done)


def signed(user: dict[str, Any]) -> dict[str, Any]:
    name = str(user.get("user_id") or user.get("email") or "")
    secret = Workspace.current().identity_secret
    return {**user, "user_hash": identity_verification.user_hash(secret, name)} if name else user


@examples(25)
@given(
    identity=st.sampled_from(IDENTITIES),
    facts=st.fixed_dictionaries({}, optional=FACTS),
    has_key=st.booleans(),
    away=st.sampled_from([timedelta(0), timedelta(minutes=15), timedelta(hours=25)]),
    cap=st.sampled_from([None, 1]),
)
def test_fast_path_and_full_path_agree(visitor, at, identity, facts, has_key, away, cap):
    Workspace.objects.update(cap_messages=cap, cap_days=1)
    compile_live_messages()
    user, key = signed({**identity, **facts}), visitor if has_key or not identity else None

    fast = visit(user, key=key, at=at + away, is_fast=True)
    full = visit(user, key=key, at=at + away, is_fast=False)

    assert fast[:2] == full[:2]


@pytest.mark.parametrize(("identity", "is_fast"), list(zip(IDENTITIES, (True, True, False, True), strict=True)))
def test_known_customers_take_the_fast_path(visitor, at, identity, is_fast):
    key = None if identity else visitor

    assert visit(signed(identity), key=key, at=at, is_fast=True)[2] is is_fast
