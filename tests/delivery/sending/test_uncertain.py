"""Uncertain records are settled by staff or by a provider's proof, in any order and however often."""

from datetime import timedelta
from functools import partial

import pytest

from delivery import rendering
from delivery.channels import CHANNELS
from delivery.maintenance import sweep
from delivery.matching import lifecycle
from delivery.models import DeliveryRecord, Reason, Status
from delivery.sending import dispatcher
from delivery.sending import uncertain as uncertain_records
from delivery.sending.uncertain import Proof
from messaging.models import Channel
from tests.factories import CustomerFactory, MessageFactory
from tests.support.concurrency import elsewhere

pytestmark = pytest.mark.django_db
LATER = timedelta(hours=2)


class Losing:
    """A channel that loses the connection after a copy, or accepts it as usual."""

    loses = True
    given = 0

    def send(self, _envelope) -> str:
        self.given += 1
        if self.loses:
            raise TimeoutError("no answer after the text")
        return "id"

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def channel(monkeypatch) -> Losing:
    channel = Losing()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


@pytest.fixture
def uncertain(at, channel) -> DeliveryRecord:
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(one_off=True, live=True, at=at)
    hand_over(at)
    record = message.records.get()
    assert record.status == Status.UNCERTAIN
    return record


def hand_over(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def all_of(record: DeliveryRecord):
    return DeliveryRecord.objects.filter(pk=record.pk)


def test_evidence_has_the_values_to_search_in_a_providers_log(at, uncertain):
    found = uncertain_records.evidence_of(uncertain)

    assert (found.to, found.taken_at, found.tries) == ("ann@x.example", at, 1)
    assert found.message_id == rendering.message_id(uncertain.pk)
    assert "no answer after the text" in found.why


def test_record_marked_as_sent_was_sent_when_it_was_claimed(at, uncertain):
    assert uncertain_records.mark_as_sent(all_of(uncertain), at=at + LATER) == [uncertain.pk]

    uncertain.refresh_from_db()
    assert (uncertain.status, uncertain.sent_at, uncertain.claim) == (Status.SENT, at, None)
    uncertain.customer.refresh_from_db()
    assert uncertain.customer.last_contacted_at == at
    sweep.sweep(at=at + LATER)
    uncertain.message.refresh_from_db()
    assert uncertain.message.state == "sent"


def test_record_that_staff_send_again_is_sent_a_second_time(at, uncertain, channel):
    channel.loses = False

    assert uncertain_records.send_again(all_of(uncertain), at=at + LATER) == [uncertain.pk]
    hand_over(at + LATER)

    uncertain.refresh_from_db()
    assert (uncertain.status, uncertain.sent_at, uncertain.attempts) == (Status.SENT, at + LATER, 1)
    assert channel.given == 2


def test_nothing_is_sent_again_of_a_message_that_was_stopped(at, uncertain):
    lifecycle.stop(uncertain.message)

    assert uncertain_records.send_again(all_of(uncertain), at=at) == []
    assert uncertain_records.mark_as_sent(all_of(uncertain), at=at) == [uncertain.pk]


def test_settled_records_are_left_alone(at, uncertain):
    uncertain_records.mark_as_sent(all_of(uncertain), at=at)

    assert uncertain_records.mark_as_sent(all_of(uncertain), at=at + LATER) == []
    assert uncertain_records.send_again(all_of(uncertain), at=at + LATER) == []


T, B, R = Proof.TAKEN, Proof.BOUNCED, Proof.REFUSED


@pytest.mark.parametrize(
    ("proofs", "status", "bounced"),
    [
        ([T], Status.SENT, False),
        ([T, T], Status.SENT, False),
        ([B], Status.SENT, True),
        ([T, B], Status.SENT, True),
        ([B, T], Status.SENT, True),
        ([B, B], Status.SENT, True),
        ([R], Status.FAILED, False),
        ([R, R], Status.FAILED, False),
        ([R, T], Status.FAILED, False),
        ([T, R], Status.SENT, False),
    ],
)
def test_proofs_repeated_and_in_any_order(at, uncertain, proofs, status, bounced):
    settled = [
        uncertain_records.settle_by_proof(uncertain, proof=proof, at=at + LATER, provider_id="p-1", words="550 no")
        for proof in proofs
    ]

    uncertain.refresh_from_db()
    assert settled == [True] + [False] * (len(proofs) - 1)
    assert (uncertain.status, bool(uncertain.bounced_at), uncertain.provider_id) == (status, bounced, "p-1")
    assert (uncertain.reason, uncertain.detail) == ((Reason.REJECTED, "550 no") if R is proofs[0] else ("", ""))


@pytest.mark.django_db(transaction=True)
def test_proof_before_the_worker_settles_decides(at, channel):
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(one_off=True, live=True, at=at)
    seen = []

    def is_proven_meanwhile(_envelope) -> str:
        settle = partial(uncertain_records.settle_by_proof, proof=T, at=at)
        seen.append(elsewhere(lambda: settle(message.records.get())))
        return "id"

    channel.send = is_proven_meanwhile

    hand_over(at)

    assert seen == [True]
    assert message.records.get().status == Status.SENT


def test_proof_about_a_waiting_record_changes_nothing(at):
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(one_off=True, live=True, at=at)

    assert uncertain_records.settle_by_proof(message.records.get(), proof=B, at=at) is False
    assert message.records.get().status == Status.WAITING
    assert message.records.get().bounced_at is None
