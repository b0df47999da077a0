"""Recheck of held records by a dispatcher: one slice at a time, so that other copies begin meanwhile."""

from datetime import timedelta
from uuid import uuid4

import pytest

from audiences.models import Customer
from delivery.matching import ongoing, recheck, sql
from delivery.models import Reason
from delivery.models.record import DeliveryRecordQuerySet
from messaging import lifecycle
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


def test_dispatcher_rechecks_one_slice_of_the_records_that_waited_for_the_window(at, monkeypatch):
    for number in range(5):
        CustomerFactory(email=f"{number}@x.example")
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(window=window, live=True, at=at)
    ongoing.match(message, at=at)
    monkeypatch.setattr(sql, "SLICE", 2)
    opening = at.replace(hour=9) + timedelta(days=1)

    for left in (3, 1, 0):
        assert recheck.recheck_slice(message, at=opening)
        assert message.records.filter(reason=Reason.WINDOW).count() == left


def test_copy_that_waited_for_the_window_is_withdrawn_with_the_reason_why_its_customer_cannot_be_reached(at):
    customers = [CustomerFactory(email=f"{number}@x.example") for number in range(2)]
    message = MessageFactory(window=[{"weekday": 1, "from": "09:00", "to": "17:00"}], live=True, at=at)
    ongoing.match(message, at=at)
    customers[0].unsubscribed_from_emails = True
    customers[0].save()

    recheck.recheck_due(message, at=at.replace(hour=9) + timedelta(days=1))

    found = dict(message.records.values_list("customer", "reason"))
    assert found == {customers[0].pk: Reason.UNSUBSCRIBED, customers[1].pk: Reason.QUEUED}


def test_record_that_a_dispatcher_lets_wait_again_is_made_due_once(at, monkeypatch):
    for number in range(3):
        CustomerFactory(email=f"{number}@x.example")
    message = MessageFactory(window=[{"weekday": 1, "from": "09:00", "to": "17:00"}], live=True, at=at)
    ongoing.match(message, at=at)
    monkeypatch.setattr(recheck, "DUE_SLICE", 1)
    update = DeliveryRecordQuerySet.update
    made_due: list[object] = []

    def update_and_wait_again(rows, **values):
        changed = update(rows, **values)
        made_due.append(values.get("due_at"))
        update(message.records.filter(due_at=at), due_at=at + timedelta(days=1))
        return changed

    monkeypatch.setattr(DeliveryRecordQuerySet, "update", update_and_wait_again)

    assert recheck.make_waiting_records_due(Reason.WINDOW, at=at) == 3
    assert made_due == [at] * 3


def test_copy_that_a_killed_worker_had_when_the_message_was_paused_is_judged_again_before_it_is_sent(at):
    left, moved = (CustomerFactory(email=f"{number}@x.example", country="Japan") for number in range(2))
    message = MessageFactory(rules=[rule("country", "is", "Japan")], live=True, at=at)
    ongoing.match(message, at=at)
    in_hand = message.records.filter(customer=moved)
    in_hand.mark_sending(claim=uuid4(), until=at + timedelta(minutes=5))
    lifecycle.pause(message)
    Customer.objects.filter(pk=moved.pk).update(country="France")
    later = at + timedelta(minutes=1)
    lifecycle.resume(message, at=later)

    recheck.recheck_held(message, at=later)
    message.refresh_from_db()
    in_hand.put_back(reason=Reason.QUEUED, due_at=later)
    recheck.recheck_held(message, at=later + timedelta(minutes=5))

    found = dict(message.records.values_list("customer", "reason"))
    assert found == {left.pk: Reason.QUEUED, moved.pk: Reason.NO_LONGER_MATCHES}
    message.refresh_from_db()
    assert message.recheck_before is None
