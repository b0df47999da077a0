"""Dispatcher and rounds over many messages: an unexpected error in one does not hold up the others."""

from datetime import timedelta

import pytest

from delivery.maintenance import sweep
from delivery.matching import launch as matching_launch
from delivery.matching import launch_job, ongoing, rounds
from delivery.reporting import counters
from delivery.sending import settle
from messaging import lifecycle
from messaging.models import Message, State
from tests.factories import CustomAttributeFactory, CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


@pytest.fixture
def broken(monkeypatch):
    """Make inserting records fail for one message."""

    def break_for(message: Message) -> None:
        insert = ongoing.insert_new_records

        def insert_or_break(of: Message, *args: object, **how: object) -> int:
            if of == message:
                raise ZeroDivisionError("nobody foresaw this")
            return insert(of, *args, **how)

        monkeypatch.setattr(ongoing, "insert_new_records", insert_or_break)

    return break_for


def test_message_that_cannot_be_matched_shows_its_trouble_and_the_others_are_matched(at, broken):
    CustomerFactory(email="a@x.example")
    first, second = MessageFactory(live=True, at=at), MessageFactory(live=True, at=at)
    broken(first)

    assert rounds.match_ongoing(at=at) == 1

    first.refresh_from_db()
    assert (first.records.count(), second.records.count()) == (0, 1)
    assert first.problem == "Matching failed. See the server’s log."


def test_sweep_continues_after_a_message_that_cannot_be_matched(at, broken):
    CustomerFactory(email="a@x.example")
    first, second = MessageFactory(live=True, at=at), MessageFactory(live=True, at=at)
    broken(first)

    sweep.sweep(at=at)

    assert (first.records.count(), second.records.count()) == (0, 1)


def test_scheduled_message_that_cannot_be_launched_holds_up_no_other(at, monkeypatch):
    CustomerFactory(email="a@x.example")
    soon = at + timedelta(hours=1)
    first, second = MessageFactory(one_off=True), MessageFactory(one_off=True)
    for message in (first, second):
        lifecycle.schedule(message, for_=soon, at=at)
    launch = matching_launch.launch

    def launch_or_break(message: Message, **how: object) -> int:
        if message == first:
            raise ZeroDivisionError("nobody foresaw this")
        return launch(message, **how)

    monkeypatch.setattr(matching_launch, "launch", launch_or_break)

    sweep.sweep(at=soon)

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (State.SCHEDULED, State.LIVE)


@pytest.mark.parametrize(
    ("module", "name"),
    [(settle, "recover_from_journals"), (launch_job, "requested_launches"), (counters, "fold_changes")],
)
def test_failing_step_of_the_sweep_does_not_stop_later_steps(at, module, name, monkeypatch):
    CustomerFactory(email="a@x.example")
    message = MessageFactory(live=True, at=at)

    def breaks(**_how: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(module, name, breaks)

    sweep.sweep(at=at)

    assert message.records.count() == 1


@pytest.mark.parametrize("channel", [{"in_app": True}, {"channel": "email"}])
def test_invalid_rules_are_reported_in_every_channel_until_they_are_fixed(at, channel):
    plan = CustomAttributeFactory(name="plan")
    message = MessageFactory(rules=[rule("custom_attributes.plan", "is", "pro")], live=True, at=at, **channel)
    plan.delete()

    rounds.match_ongoing(at=at)
    message.refresh_from_db()
    assert "plan" in message.problem

    CustomAttributeFactory(name="plan")
    rounds.match_ongoing(at=at)
    message.refresh_from_db()
    assert message.problem == ""
