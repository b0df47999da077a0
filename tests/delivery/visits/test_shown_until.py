"""In-app messages that stop being shown at a time (behaviour 4.5)."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from delivery.eligibility import explain
from delivery.eligibility.explain import Verdict
from delivery.maintenance import sweep
from delivery.matching import launch, lifecycle
from delivery.models import Reason, Status
from delivery.visits import visit as customer_visit
from messaging import duplication
from messaging import lifecycle as message_lifecycle
from messaging.models import Format, Message, NotReady, State
from tests.factories import CustomerFactory, MessageFactory, SenderFactory

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def shown_at(customer, *, at) -> list[str]:
    return [message.body for message in customer_visit.visit(customer, at=at).shown]


def verdict_of(message, customer, *, at) -> Verdict:
    return explain.explain(message, customer, at=at).cases[0].verdict


@pytest.mark.parametrize("look", Format.values)
@pytest.mark.parametrize("send_type", ["ongoing", "one_off"])
def test_message_is_shown_until_its_end_and_then_stopped(at, look, send_type):
    ann, bob = CustomerFactory(user_id="ann"), CustomerFactory(user_id="bob")
    draft = MessageFactory(
        in_app=True, format=look, send_type=send_type, body="<p>Sale</p>", shown_until=at + DAY, sender=SenderFactory()
    )
    launch.launch(draft, at=at)
    message = Message.objects.get(pk=draft.pk)

    assert shown_at(ann, at=at + DAY - MINUTE) == ["<p>Sale</p>"]
    # Not opened, and not shown any more; nor is it to a customer who comes later.
    assert shown_at(ann, at=at + DAY) == []
    assert shown_at(bob, at=at + DAY) == []
    assert verdict_of(message, bob, at=at + DAY - MINUTE) in {Verdict.NEXT_VISIT, Verdict.WAITING}
    assert verdict_of(message, bob, at=at + DAY) == Verdict.ENDED

    sweep.sweep(at=at + DAY + MINUTE)

    message.refresh_from_db()
    assert message.state == State.STOPPED
    outcomes = set(message.records.values_list("customer__user_id", "status", "reason"))
    waited = {("bob", Status.WITHDRAWN, Reason.STOPPED)} if send_type == "one_off" else set()
    assert outcomes == {("ann", Status.SENT, Reason.NONE)} | waited
    assert shown_at(bob, at=at + DAY + 2 * MINUTE) == []
    assert verdict_of(message, ann, at=at + 2 * DAY) == Verdict.GOT_IT
    assert verdict_of(message, bob, at=at + 2 * DAY) == Verdict.ENDED


def test_end_of_a_one_off_that_everyone_has_received_hides_it_too(at):
    ann = CustomerFactory()
    draft = MessageFactory(in_app=True, one_off=True, body="<p>Sale</p>", shown_until=at + DAY, sender=SenderFactory())
    launch.launch(draft, at=at)
    assert shown_at(ann, at=at) == ["<p>Sale</p>"]
    sweep.sweep(at=at + MINUTE)
    assert Message.objects.get(pk=draft.pk).state == State.SENT

    assert shown_at(ann, at=at + DAY - MINUTE) == ["<p>Sale</p>"]
    assert shown_at(ann, at=at + DAY) == []


def test_changed_end_holds_from_the_next_visit_on(at):
    ann, bob = CustomerFactory(), CustomerFactory()
    message = MessageFactory(in_app=True, body="<p>Sale</p>", shown_until=at + MINUTE, live=True, at=at)
    assert shown_at(ann, at=at + MINUTE) == []

    Message.objects.filter(pk=message.pk).update(shown_until=at + DAY)
    assert shown_at(ann, at=at + MINUTE) == ["<p>Sale</p>"]

    Message.objects.filter(pk=message.pk).update(shown_until=None)
    sweep.sweep(at=at + 2 * DAY)
    assert shown_at(bob, at=at + 2 * DAY) == ["<p>Sale</p>"]


def test_paused_message_is_stopped_at_its_end_too(at):
    message = MessageFactory(in_app=True, shown_until=at + DAY, live=True, at=at)
    lifecycle.pause(message)

    sweep.sweep(at=at + DAY - MINUTE)
    assert Message.objects.get(pk=message.pk).state == State.PAUSED
    sweep.sweep(at=at + DAY)
    assert Message.objects.get(pk=message.pk).state == State.STOPPED


def test_message_whose_end_is_over_cannot_go_live(at):
    draft = MessageFactory(in_app=True, one_off=True, shown_until=at, sender=SenderFactory())

    for refused in (
        lambda: launch.launch(draft, at=at),
        lambda: message_lifecycle.set_live(draft, at=at),
        lambda: message_lifecycle.schedule(draft, for_=at, at=at - DAY),
    ):
        with pytest.raises(NotReady) as reasons:
            refused()
        assert list(reasons.value.message_dict) == ["shown_until"]
    message_lifecycle.schedule(draft, for_=at - MINUTE, at=at - DAY)


def test_only_in_app_messages_to_an_audience_have_an_end_and_copies_have_none(at):
    message = MessageFactory(in_app=True, shown_until=at + DAY, live=True, at=at)

    for facts in ({"channel": "email", "format": ""}, {"to_customer": CustomerFactory(), "send_type": "one_off"}):
        with pytest.raises(IntegrityError, match="only_in_app_to_an_audience_ends"), transaction.atomic():
            MessageFactory(in_app=True, shown_until=at, **facts)
    assert duplication.duplicate(message, by=None, at=at).shown_until is None
