"""Frequency cap: a customer gets so many messages within so many days, and then waits for more."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection

from audiences.models import Customer, Workspace
from delivery.channels import CHANNELS
from delivery.matching import direct, ongoing, recheck
from delivery.models import DeliveryRecord, Reason, Status
from delivery.sending import batch as sending_batch
from delivery.sending import claim, dispatcher, outcome, settle
from delivery.visits import visit
from messaging.models import Channel, Message
from tests.factories import CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


class Taking:
    """A channel that accepts everything."""

    def send(self, _envelope) -> str:
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def channel(monkeypatch) -> None:
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Taking)
    monkeypatch.setitem(CHANNELS, Channel.PUSH, Taking)


@pytest.fixture(autouse=True)
def cap(db):
    def cap(most: int | None, days: int = 7) -> None:
        Workspace.current()
        Workspace.objects.update(cap_messages=most, cap_days=days)

    cap(1)
    return cap


def sends(at, *, of: str = "ongoing", **facts) -> Message:
    message = MessageFactory(live=True, at=at, send_type=of, **facts)
    ongoing.match(message, at=at)
    hand_over(at)
    return message


def hand_over(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def state(message: Message) -> tuple[str, str]:
    record = message.records.get()
    return record.status, record.reason


def test_capped_customer_waits_until_the_cap_frees(at):
    CustomerFactory(email="ann@x.example")
    sends(at)
    second = sends(at + DAY)

    assert state(second) == (Status.WAITING, Reason.CAP)
    assert second.records.get().due_at == at + 7 * DAY
    hand_over(at + 7 * DAY - timedelta(seconds=1))
    assert state(second) == (Status.WAITING, Reason.CAP)
    hand_over(at + 7 * DAY)
    assert state(second) == (Status.SENT, "")


def test_ongoing_record_is_rechecked_when_the_cap_frees(at):
    customer = CustomerFactory(email="ann@x.example", name="Pro")
    sends(at)
    second = sends(at + DAY, rules=[rule("name", "is", "Pro")])
    customer.name = "Free"
    customer.save()

    hand_over(at + 7 * DAY)

    assert state(second) == (Status.WITHDRAWN, Reason.NO_LONGER_MATCHES)


def test_copy_being_sent_counts_until_it_fails(at, monkeypatch):
    CustomerFactory(email="ann@x.example")
    first, second = (MessageFactory(live=True, at=at) for _ in range(2))
    ongoing.match(first, at=at)
    ongoing.match(second, at=at)
    batch = sending_batch.claim(first, at=at, token=uuid4())
    hand_over(at)
    assert second.records.get().due_at == at + claim.SOON

    failed = (batch.records[0].pk, Reason.REJECTED, "550 no")
    settle.settle_batch(batch, outcome.Outcome(failed=[failed]), at=at)
    hand_over(at + claim.SOON)

    assert (state(first), state(second)) == ((Status.FAILED, Reason.REJECTED), (Status.SENT, ""))


@pytest.mark.parametrize("most", [None, 2])
def test_lifted_cap_holds_no_record(at, cap, most):
    CustomerFactory(email="ann@x.example")
    sends(at)
    second = sends(at + DAY)
    assert state(second) == (Status.WAITING, Reason.CAP)

    cap(most)
    assert recheck.make_waiting_records_due(Reason.CAP, at=at + DAY) == 1
    hand_over(at + DAY)

    assert state(second) == (Status.SENT, "")


def test_one_off_gives_up_after_a_week(at, cap):
    cap(1, 30)
    CustomerFactory(email="ann@x.example")
    sends(at)
    one_off = sends(at + DAY, of="one_off")
    assert state(one_off) == (Status.WAITING, Reason.CAP)

    hand_over(at + 8 * DAY)

    assert state(one_off) == (Status.SKIPPED, Reason.CAP)


def test_other_channels_count(at):
    customer = CustomerFactory(email="ann@x.example")
    customer.devices.create(token="t", created_at=at)
    sends(at, channel="push")

    assert state(sends(at)) == (Status.WAITING, Reason.CAP)


def test_two_are_two(at, cap):
    cap(2)
    CustomerFactory(email="ann@x.example")

    assert [state(sends(at + n * DAY))[0] for n in range(3)] == [Status.SENT, Status.SENT, Status.WAITING]
    assert DeliveryRecord.objects.get(status=Status.WAITING).due_at == at + 7 * DAY


def test_copies_for_several_companies_count_each(at):
    customer = CustomerFactory(email="ann@x.example")
    for _ in range(3):
        MembershipFactory(customer=customer, company=CompanyFactory())

    message = sends(at, body="<p>{{ company.name }}</p>")

    assert message.records.counts() | {"sent": 1, "waiting": 2} == message.records.counts()


def test_uncertain_ones_count(at, monkeypatch):
    CustomerFactory(email="ann@x.example")

    def is_lost(_self, _envelope) -> str:
        raise TimeoutError("no answer")

    with monkeypatch.context() as lossy:
        lossy.setattr(Taking, "send", is_lost)
        first = sends(at)
    assert state(first)[0] == Status.UNCERTAIN

    assert state(sends(at + DAY)) == (Status.WAITING, Reason.CAP)


def test_message_to_one_person_neither_counts_nor_waits(at):
    customer = CustomerFactory(email="ann@x.example")
    for number in range(2):
        alone = MessageFactory(to_customer=customer, live=True, at=at)
        direct.insert_direct_record(customer, alone, at=at + number * DAY)
        hand_over(at + number * DAY)
        assert state(alone)[0] == Status.SENT

    assert state(sends(at + 2 * DAY))[0] == Status.SENT


def test_without_a_cap_no_record_waits(at, cap):
    cap(None)
    CustomerFactory(email="ann@x.example")

    assert [state(sends(at))[0] for _ in range(4)] == [Status.SENT] * 4


def shown_count(customer: Customer, at) -> int:
    return visit.visit(customer, at=at).matched


def test_in_app_messages_count_and_wait_for_a_visit_when_there_is_room(at):
    customer = CustomerFactory(email="ann@x.example")
    for _ in range(2):
        MessageFactory(in_app=True, live=True, at=at)

    assert shown_count(customer, at) == 1
    assert shown_count(customer, at + DAY) == 0
    assert shown_count(customer, at + 7 * DAY) == 1
    assert state(sends(at + 8 * DAY)) == (Status.WAITING, Reason.CAP)


def test_in_app_one_off_waits_for_room_and_gives_up_after_a_week(at, cap):
    customer = CustomerFactory(email="ann@x.example")
    sends(at)
    first, second = (MessageFactory(in_app=True, one_off=True, live=True, at=at) for _ in range(2))
    alone = MessageFactory(in_app=True, to_customer=customer, live=True, at=at)
    direct.insert_direct_record(customer, alone, at=at)

    assert shown_count(customer, at + DAY) == 1
    assert state(alone)[0] == Status.SENT
    assert (state(first), state(second)) == ((Status.WAITING, Reason.VISIT),) * 2
    assert shown_count(customer, at + 7 * DAY) == 1
    assert (state(first)[0], state(second)) == (Status.SENT, (Status.WAITING, Reason.VISIT))
    shown_count(customer, at + 8 * DAY)
    assert state(second) == (Status.SKIPPED, Reason.CAP)


def test_capped_records_do_not_hold_up_others(at, cap):
    cap(2)
    customer = CustomerFactory(email="ann@x.example")
    for _ in range(3):
        MembershipFactory(customer=customer, company=CompanyFactory())
    large = MessageFactory(in_app=True, one_off=True, live=True, at=at, body="<p>{{ company.name }}</p>")
    small = MessageFactory(in_app=True, one_off=True, live=True, at=at)

    assert shown_count(customer, at) == 1

    assert state(small)[0] == Status.SENT
    assert {record.status for record in large.records.all()} == {Status.WAITING}


def test_room_that_one_leaves_for_having_too_many_copies_is_the_next_ones(at, cap):
    cap(3)
    customer = CustomerFactory()
    for _ in range(2):
        MembershipFactory(customer=customer, company=CompanyFactory())
    two = {"body": "<p>{{ company.name }}</p>"}
    first, second, third = (
        MessageFactory(in_app=True, one_off=True, live=True, at=at, **how) for how in (two, two, {})
    )

    assert shown_count(customer, at) == 3

    assert {record.status for record in first.records.all()} == {Status.SENT}
    assert {record.status for record in second.records.all()} == {Status.WAITING}
    assert state(third)[0] == Status.SENT


@pytest.mark.django_db(transaction=True)
def test_visits_at_once_show_no_more_than_there_is_room_for(at, cap):
    cap(2)
    customer = CustomerFactory(email="ann@x.example")
    for _ in range(3):
        MessageFactory(in_app=True, live=True, at=at)
        MessageFactory(in_app=True, one_off=True, live=True, at=at)

    def look(_: int) -> int:
        try:
            return shown_count(Customer.objects.get(pk=customer.pk), at)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(look, range(4))) == 2

    assert DeliveryRecord.objects.filter(status=Status.SENT).count() == 2


@pytest.mark.django_db(transaction=True)
def test_four_workers_with_four_messages_give_each_customer_one(at, cap):
    Customer.objects.bulk_create(CustomerFactory.build(email=f"{n}@x.example") for n in range(30))
    messages = [MessageFactory(live=True, at=at) for _ in range(4)]
    for message in messages:
        ongoing.match(message, at=at)

    def work(_: int) -> int:
        try:
            return hand_over(at)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    hand_over(at + DAY)

    sent = DeliveryRecord.objects.filter(status=Status.SENT)
    assert sent.count() == sent.values("customer").distinct().count() == 30
    assert DeliveryRecord.objects.filter(status=Status.WAITING, reason=Reason.CAP).count() == 90
