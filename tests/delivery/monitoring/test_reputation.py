"""A message pauses itself above a share of complaints or hard bounces, says why, and starts anew once it is resumed."""

import threading

import factory
import pytest
from django.contrib.admin.models import LogEntry
from django.db import DatabaseError, IntegrityError, connection, transaction

from delivery import change_thread, tasks
from delivery.inbound import feedback
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.matching import lifecycle
from delivery.models import CountChange
from delivery.monitoring import alarms, reputation
from delivery.reply_addresses import Referent, ReferentKind
from delivery.reporting import counters
from delivery.reporting.counters import Counts
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, State, WrongState
from outbound import actions
from tests.factories import CustomerFactory, MessageFactory
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
REJECTED = "Above 0.3 %, mailbox providers reject the emails of a sender."
# The counts of a message, and what it says; "" if it does not pause itself.
CASES: list[tuple[dict[str, int], dict[str, int], str]] = [
    ({"sent": 1_000, "complained": 10}, {}, "10 of 1,000 recipients marked it as spam (1.00 %). Above 0.3 %, "),
    ({"sent": 999, "complained": 999}, {}, ""),
    ({"sent": 1_000, "complained": 9}, {}, ""),
    ({"sent": 10_000, "complained": 30}, {}, ""),
    ({"sent": 9_999, "complained": 30}, {}, "30 of 9,999 recipients marked it as spam (0.30 %)."),
    ({"sent": 10_000, "complained": 31}, {}, "31 of 10,000 recipients marked it as spam (0.31 %)."),
    ({"sent": 1_999, "complained": 40}, {"sent": 1_000, "complained": 20}, ""),
    ({"sent": 2_000, "complained": 29}, {"sent": 1_000, "complained": 20}, ""),
    ({"sent": 2_000, "complained": 30}, {"sent": 1_000, "complained": 20}, "10 of 1,000 recipients marked it"),
    (
        {"sent": 380, "hard_bounced": 20},
        {},
        "20 of 380 emails went to mailboxes that do not exist (5.26 %). Above 5 %, ",
    ),
    ({"sent": 300, "failed": 100, "hard_bounced": 20}, {}, ""),
    ({"sent": 300, "failed": 99, "hard_bounced": 20}, {}, "20 of 399 emails went to mailboxes"),
    ({"failed": 200, "hard_bounced": 200}, {}, "200 of 200 emails went to mailboxes"),
    ({"sent": 199, "hard_bounced": 199}, {}, ""),
    ({"sent": 200, "hard_bounced": 19}, {}, ""),
    ({"sent": 500, "bounced": 500}, {}, ""),
]


def count(message: Message, **numbers: int) -> None:
    for what, number in numbers.items():
        CountChange.objects.create(message=message, what=what, number=number)


def complained_about(**facts: object) -> Message:
    message = MessageFactory(live=True, **facts)
    count(message, sent=1_000, complained=10)
    return message


def test_limits_need_enough_copies_and_are_exceeded_not_reached():
    for counts, counted_from, said in CASES:
        sentence = reputation.excess_sentence(Counts(**counts), counted_from=counted_from)
        assert sentence.startswith(said), counts
        assert bool(sentence) == bool(said), counts


def test_message_pauses_itself_and_is_counted_anew_when_a_teammate_resumes_it(at, django_user_model):
    message, other = complained_about(title="Welcome"), MessageFactory(live=True)
    said = "10 of 1,000 recipients marked it as spam (1.00 %). " + REJECTED

    reputation.pause_messages()

    message.refresh_from_db()
    other.refresh_from_db()
    assert (message.state, message.paused_because, other.state) == (State.PAUSED, said, State.LIVE)
    assert alarms.check_paused_messages(at) == f"“Welcome”: {said}"
    # Of the copies sent before the pause.
    count(message, complained=8)
    actions.do_and_log(django_user_model.objects.create_user("eve"), message, actions.ACTS["resume"], at=at)
    assert LogEntry.objects.get().change_message == f"Resumed: from Paused to Live. It had paused itself: {said}"
    reputation.pause_messages()
    message.refresh_from_db()
    assert (message.state, message.paused_because, alarms.check_paused_messages(at)) == (State.LIVE, "", "")

    count(message, sent=1_000, complained=9)
    reputation.pause_messages()
    message.refresh_from_db()
    assert message.state == State.LIVE
    count(message, complained=1)
    reputation.pause_messages()
    message.refresh_from_db()
    assert (message.state, message.paused_because) == (State.PAUSED, said)


def test_pause_of_a_teammate_does_not_renew_the_count(at):
    message = complained_about()
    lifecycle.pause(message)
    lifecycle.resume(message, at=at)

    reputation.pause_messages()

    message.refresh_from_db()
    assert message.state == State.PAUSED
    assert message.paused_because
    lifecycle.stop(message)
    message.refresh_from_db()
    assert message.paused_because == ""


@pytest.mark.parametrize(("kind", "is_paused"), [("NO_MAILBOX", True), ("BOUNCED", False)])
def test_message_with_bounces_pauses_itself_only_if_they_are_hard(at, kind, is_paused):
    CustomerFactory.create_batch(200, email=factory.Sequence(lambda number: f"ann{number}@x.example"))
    message = MessageFactory(one_off=True, live=True)
    mark_records_sent(message.records.all(), at=at)
    for record in message.records.order_by("pk")[:20]:
        bounce = Feedback(type=FeedbackType[kind], at=at)
        feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), bounce)
        feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), bounce)

    reputation.pause_messages()

    message.refresh_from_db()
    counts = counters.counts_of([message.pk])[message.pk]
    assert (counts.bounced, counts.hard_bounced) == (20, 20 if is_paused else 0)
    assert message.paused_because.startswith("20 of 200 emails went to mailboxes" if is_paused else "")
    assert (message.state == State.PAUSED) is is_paused
    counters.fold_changes()
    assert list(counters.find_differences()) == []


def test_only_a_paused_message_has_a_reason():
    message = MessageFactory(live=True)

    with pytest.raises(IntegrityError, match="only_paused_has_a_reason"), transaction.atomic():
        Message.objects.filter(pk=message.pk).update(paused_because="Many complaints.")


def test_message_that_was_resumed_meanwhile_goes_on(at, monkeypatch):
    """A teammate resumes it, after another process has counted and before it pauses the message."""
    message = complained_about()
    judged = reputation.excess_sentence

    def judge_and_be_overtaken(counts, *, counted_from):
        monkeypatch.setattr(reputation, "excess_sentence", judged)
        message_lifecycle.pause(message, because="Many complaints.")
        lifecycle.resume(Message.objects.get(pk=message.pk), at=at)
        return judged(counts, counted_from=counted_from)

    monkeypatch.setattr(reputation, "excess_sentence", judge_and_be_overtaken)
    reputation.pause_messages()

    message.refresh_from_db()
    assert (message.state, message.counted_from["complained"]) == (State.LIVE, 10)


def test_resume_from_a_page_of_before_the_pause_renews_the_count(at):
    message = complained_about()
    opened_before = Message.objects.get(pk=message.pk)
    reputation.pause_messages()

    lifecycle.resume(opened_before, at=at)
    reputation.pause_messages()

    message.refresh_from_db()
    assert message.state == State.LIVE


@pytest.mark.parametrize("wrong", [WrongState("It is stopped."), DatabaseError("The database is away.")])
def test_message_that_cannot_be_paused_holds_up_no_other(monkeypatch, wrong):
    first, second = complained_about(), complained_about()
    pause = lifecycle.pause_by_itself

    def pause_second(message, **later):
        if message.pk == first.pk:
            raise wrong
        return pause(message, **later)

    monkeypatch.setattr(lifecycle, "pause_by_itself", pause_second)

    reputation.pause_messages()

    second.refresh_from_db()
    assert second.state == State.PAUSED


LOOKS = {"sweep": tasks.sweep, "change thread": lambda: change_thread.handle_changes(change_thread.SendingWatch())}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_sweep_and_change_thread_pause_it(look):
    message = complained_about()

    look()

    message.refresh_from_db()
    assert message.state == State.PAUSED


@pytest.mark.django_db(transaction=True)
def test_several_processes_pause_it_once(caplog):
    message = complained_about()
    threads = [threading.Thread(target=look_and_close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    message.refresh_from_db()
    assert message.state == State.PAUSED
    assert caplog.text.count("has paused itself") == 1
    assert "cannot be paused" not in caplog.text


def look_and_close() -> None:
    reputation.pause_messages()
    connection.close()


@pytest.mark.parametrize("state", [State.LIVE, State.STOPPED])
def test_release_before_can_resume_and_stop_a_message_that_paused_itself(state):
    message = MessageFactory(live=True)
    Message.objects.filter(pk=message.pk).update(state=State.PAUSED, paused_because="Many complaints.")

    Message.objects.filter(pk=message.pk).update(state=state)

    assert Message.objects.get(pk=message.pk).paused_because == ""
