"""One copy per address: customers who share an address receive one copy, or one per company."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from delivery.channels import CHANNELS, Envelope, Rejected, Unavailable
from delivery.matching import direct, launch, ongoing
from delivery.matching import forecast as matching_forecast
from delivery.models import DeliveryRecord, Reason, Status
from delivery.sending import batch, claim, dispatcher
from messaging.models import Channel, Message
from tests.factories import CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory
from tests.support.sending import send_one_batch

pytestmark = pytest.mark.django_db
COMPANY = "<p>{{ company.name }}</p>"


class Keeping:
    """A channel that collects its envelopes and refuses chosen addresses."""

    given: list[Envelope] = []
    refusal: Exception | None = None

    def send(self, envelope: Envelope) -> str:
        self.given.append(envelope)
        if self.refusal:
            raise self.refusal
        return ""

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def channel(monkeypatch) -> Keeping:
    channel = Keeping()
    channel.given = []
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


def twins(number: int = 2, *, email: str = "us@x.example") -> list:
    return [CustomerFactory(email=email, name=f"Twin {n}") for n in range(number)]


def create_live_message(at, **facts) -> Message:
    message = MessageFactory(live=True, at=at, **facts)
    ongoing.match(message, at=at)
    return message


def hand_over(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def test_one_copy_per_address_applies_as_soon_as_it_is_set(at, channel):
    """The sending worker may have loaded the message before the setting changed."""
    twins()
    message = create_live_message(at, same_inbox_once=False)
    (read_before,) = batch.messages_due(at=at)
    message.same_inbox_once = True
    message.save()

    send_one_batch(read_before, clock=lambda: at)
    hand_over(at)

    assert len(channel.given) == 1
    assert sorted(message.records.values_list("status", flat=True)) == [Status.SENT, Status.SKIPPED]


@pytest.mark.parametrize("send_type", ["ongoing", "one_off"])
def test_duplicate_address_is_skipped_with_the_name_of_the_recipient(at, channel, send_type):
    twins()
    message = create_live_message(at, send_type=send_type)

    hand_over(at)

    first, second = message.records.order_by("pk")
    assert (first.status, first.address) == (Status.SENT, "us@x.example")
    assert (second.status, second.reason, second.detail) == (Status.SKIPPED, Reason.SAME_INBOX, "Twin 0")
    assert len(channel.given) == 1


def test_next_round_keeps_the_duplicate_skipped(at, channel):
    twins()
    message = create_live_message(at)
    hand_over(at)

    assert ongoing.match(message, at=at + timedelta(hours=1)) == 0
    assert hand_over(at + timedelta(hours=1)) == 0


def test_later_customer_at_the_same_address_is_skipped(at, channel):
    twins(1)
    message = create_live_message(at)
    hand_over(at)
    CustomerFactory(email="us@x.example", name="Late")
    ongoing.match(message, at=at)

    hand_over(at)

    assert [r.status for r in message.records.order_by("pk")] == [Status.SENT, Status.SKIPPED]


def test_each_customer_gets_a_copy_when_switched_off(at, channel):
    twins()
    message = create_live_message(at, same_inbox_once=False)

    hand_over(at)

    assert message.records.counts()["sent"] == 2


def test_address_gets_one_copy_per_company(at, channel):
    companies = [CompanyFactory(name=name) for name in "AB"]
    for twin in twins():
        for company in companies:
            MembershipFactory(customer=twin, company=company)
    message = create_live_message(at, body=COMPANY)

    hand_over(at)

    assert message.records.counts() | {"sent": 2, "skipped": 2} == message.records.counts()
    assert sorted(r.company.name for r in message.records.filter(status=Status.SENT)) == ["A", "B"]


def test_second_customer_is_sent_when_the_first_is_refused(at, channel):
    twins()
    message = create_live_message(at)
    channel.refusal = Rejected("no")

    hand_over(at)

    assert message.records.counts()["failed"] == 2


def test_first_claim_wins(at, channel):
    twins()
    message = create_live_message(at)
    channel.refusal = Unavailable("later")
    send_one_batch(message, clock=lambda: at)
    channel.refusal = None
    hand_over(at)
    hand_over(at + timedelta(hours=1))

    first, second = message.records.order_by("pk")
    assert (second.status, first.status, first.detail) == (Status.SENT, Status.SKIPPED, "Twin 1")


def test_duplicate_of_an_uncertain_record_is_skipped(at, channel):
    twins()
    message = create_live_message(at)
    channel.refusal = TimeoutError("no answer")

    hand_over(at)

    assert message.records.counts() | {"uncertain": 1, "skipped": 1} == message.records.counts()


def test_another_worker_may_claim_after_the_check(at, channel, monkeypatch):
    twins()
    message = create_live_message(at)
    send_one_batch(message, clock=lambda: at)
    twins_of = claim.twins_of
    answers = [{}, {}]
    monkeypatch.setattr(claim, "twins_of", lambda *facts: answers.pop() if answers else twins_of(*facts))

    hand_over(at)

    assert message.records.counts() | {"sent": 1, "skipped": 1} == message.records.counts()


def test_direct_message_ignores_shared_addresses(at, channel):
    _, second = twins()
    create_live_message(at)
    hand_over(at)
    alone = MessageFactory(to_customer=second, live=True, at=at)
    direct.insert_direct_record(second, alone, at=at)

    assert hand_over(at) == 1


def test_forecast_counts_shared_addresses_once(at, channel):
    twins(3)
    twins(2, email="them@x.example")
    CustomerFactory(email="alone@x.example")
    CustomerFactory(email="us@x.example", unsubscribed_from_emails=True)
    message = MessageFactory(one_off=True)

    forecast = matching_forecast.forecast(message, at=at)
    launch.launch(message, at=at)
    hand_over(at)

    assert (forecast.people, forecast.copies) == (7, 3)
    assert forecast.left_out == {Reason.SAME_INBOX: 3, Reason.UNSUBSCRIBED: 1}
    assert message.records.counts()["sent"] == forecast.copies
    assert message.records.filter(reason=Reason.SAME_INBOX).count() == 3


def test_forecast_of_the_rest_excludes_addresses_of_the_sample(at, channel):
    twins(2)
    message = MessageFactory(one_off=True)
    launch.launch(message, at=at, sample=1)
    hand_over(at)
    message.refresh_from_db()

    assert matching_forecast.forecast(message, at=at).left_out == {Reason.SAME_INBOX: 1}


def test_constraint_forbids_two_copies_to_one_address(at):
    facts = {"message": MessageFactory(live=True, at=at), "address": "us@x.example", "matched_at": at, "sent_at": at}
    first, second = twins()
    DeliveryRecord.objects.create(customer=first, status=Status.SENT, **facts)

    with pytest.raises(IntegrityError, match="same_inbox_once"), transaction.atomic():
        DeliveryRecord.objects.create(customer=second, status=Status.SENT, **facts)


@pytest.mark.django_db(transaction=True)
def test_four_workers_send_one_copy_per_shared_address(at, channel):
    for number in range(20):
        twins(3, email=f"{number}@x.example")
    message = create_live_message(at)

    def work(_: int) -> int:
        try:
            return hand_over(at)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    hand_over(at + timedelta(minutes=1))

    assert len(channel.given) == len({envelope.to for envelope in channel.given}) == 20
    assert message.records.counts() | {"sent": 20, "skipped": 40} == message.records.counts()
