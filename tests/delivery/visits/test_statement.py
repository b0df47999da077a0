"""What the statement of a visit reads."""

from collections.abc import Iterator

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from audiences import identity_verification, transactions
from audiences.models import Customer, Workspace
from delivery.api.messenger import conversations
from delivery.models import DeliveryRecord
from delivery.visits.visit import visit
from tests.factories import CustomerFactory, MembershipFactory, MessageFactory
from tests.support.launches import blocks_read, launching

pytestmark = pytest.mark.django_db(transaction=True)
OTHERS = 100_000
# A visit with three new records reads about 200 blocks, and an index of the others has 270. While a launch is not
# committed, the planner reads up to 100 blocks of the table for the end of an index.
MOST_BLOCKS, MOST_WHILE_PLANNED = 300, 600


@pytest.fixture
def launch() -> Iterator[None]:
    """A launch that has inserted its records and not committed them; the statistics know of none that wait."""
    with launching(MessageFactory(one_off=True), after=CustomerFactory().pk + 1) as launch:
        launch.insert(OTHERS, status="skipped")
        launch.analyze()
        launch.begin()
        launch.insert(OTHERS)
        launch.analyze()
        yield


@pytest.mark.parametrize("cap", [None, 1])
@pytest.mark.usefixtures("launch")
def test_visit_during_a_launch_reads_no_records_of_others(cap):
    ann, now = CustomerFactory(), timezone.now()
    Workspace.current()
    Workspace.objects.update(cap_messages=cap)
    shown = MessageFactory(one_off=True, in_app=True, live=True)
    before = blocks_read()

    assert not conversations.is_expected(ann)
    assert [one.message for one in visit(ann, at=now).shown] == [shown.pk]

    assert DeliveryRecord.objects.filter(customer=ann, status="sent").count() == 1
    assert blocks_read() - before < MOST_WHILE_PLANNED


def arrive(customer: Customer) -> list[int]:
    """Visit by the path of a new customer. Return the messages that are shown."""
    return [one.message for one in visit(customer, at=timezone.now()).shown]


def ping(customer: Customer) -> list[int]:
    """Visit by the messenger, which knows the customer."""
    user_hash = identity_verification.user_hash(Workspace.current().identity_secret, customer.user_id)
    user = {"user_id": customer.user_id, "user_hash": user_hash}
    answer = APIClient().post("/messenger/ping", {"app_id": "outbound", "user": user}, format="json")
    assert answer.status_code == 200, answer.content
    return [int(one["id"]) for one in answer.json()["messages"]]


@pytest.mark.parametrize("known", [0, 20], ids=["an empty table", "a small table"])
@pytest.mark.parametrize("cap", [None, 3])
@pytest.mark.parametrize("come", [arrive, ping])
def test_visit_reads_no_records_of_others_once_its_plans_are_discarded(monkeypatch, come, cap, known):
    """PostgreSQL plans the statements anew only once the statistics change, and a launch inserts a million records."""
    Workspace.current()
    Workspace.objects.update(cap_messages=cap)
    people = [CustomerFactory(user_id=f"p{number}") for number in range(8)]
    MembershipFactory(customer=people[0])
    launched = MessageFactory(one_off=True, live=True)
    with launching(launched, after=people[-1].pk) as launch:
        launch.describe(known)
        MessageFactory(one_off=True, in_app=True, live=True)
        for body in ("<p>Hello</p>", "<p>{{ company.name }}</p>"):
            MessageFactory(in_app=True, body=body, live=True)
        for person in people[1:]:
            assert len(come(person)) == 2
        launch.insert(OTHERS)
        monkeypatch.setattr(transactions, "PLANS_LAST", 0)
        before = blocks_read()

        assert len(come(people[0])) == 3

        assert blocks_read() - before < MOST_BLOCKS
