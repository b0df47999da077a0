"""What must always be true of the records is asked of a live database, and said in a sentence where it is not."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from delivery.maintenance import sweep
from delivery.matching import direct
from delivery.models import DeliveryRecord, Pace
from delivery.monitoring import invariants
from delivery.sending import batch, dispatcher
from messaging.models import Channel, Message
from tests.factories import CompanyFactory, CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db


class Taking:
    """A channel that takes everything."""

    def send(self, _envelope) -> str:
        return ""

    def close(self) -> None:
        """Nothing is kept open."""


@pytest.fixture(autouse=True)
def channel(monkeypatch) -> None:
    monkeypatch.setitem(batch.CHANNELS, Channel.EMAIL, Taking)


def one_off(at) -> Message:
    CustomerFactory(email="ann@x.example")
    return MessageFactory(one_off=True, live=True, at=at)


def by_force(sql: str, *params: object) -> None:
    """Do what the database's own promises would not let anybody do."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql, params)
        cursor.execute("SET LOCAL session_replication_role = origin")


def test_all_is_well_from_launch_to_the_end(at):
    message = one_off(at)
    assert list(invariants.findings(at=at)) == []
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    assert list(invariants.findings(at=at + timedelta(hours=1))) == []
    sweep.sweep(at=at)
    assert Message.objects.get(pk=message.pk).state == "sent"
    assert list(invariants.findings(at=at + timedelta(hours=1))) == []


BROKEN = {
    "audience": ("UPDATE messaging_message SET audience_count = 2", "was frozen for 2 and has 1 records"),
    "its message": ("UPDATE messaging_message SET state = 'draft', went_live_at = NULL", "was never live"),
    "its version": (
        "UPDATE delivery_deliveryrecord SET status = 'sent', sent_at = now(), version_id = NULL",
        "of no version of its message",
    ),
    "its company": ("UPDATE delivery_deliveryrecord SET company_id = %s", "has a company where its message has none"),
    "in one hand": (
        "UPDATE delivery_deliveryrecord SET status = 'sending', claim = gen_random_uuid(),"
        " leased_until = '2026-05-01', version_id = (SELECT version_id FROM messaging_message)",
        "in a worker's hands since its lease ended",
    ),
    "due": ("UPDATE delivery_deliveryrecord SET due_at = '2026-05-01'", "1 records have been due since"),
    "stopped": (
        "UPDATE messaging_message SET state = 'stopped' WHERE %s > 0;"
        " UPDATE delivery_deliveryrecord SET matched_at = '2026-05-01'",
        "was stopped, and 1 of its records still wait",
    ),
    "sent": ("UPDATE messaging_message SET state = 'sent'", "counts as sent, and 1 of its records are not done"),
}


@pytest.mark.parametrize("question", BROKEN)
def test_what_does_not_add_up_is_said(at, question):
    one_off(at)
    sql, words = BROKEN[question]
    by_force(sql.replace("%s", str(CompanyFactory().pk)))

    assert any(words in sentence for sentence in invariants.findings(at=at)), list(invariants.findings(at=at))


@pytest.mark.parametrize(
    ("taken", "since", "is_stuck"),
    [(5, timedelta(0), False), (4, timedelta(0), True), (5, timedelta(days=1), True), (0, timedelta(days=-1), False)],
)
def test_what_waits_for_the_next_day_of_a_warm_up_is_not_stuck_and_all_else_is(at, taken, since, is_stuck):
    one_off(at)
    first = (at - since).date()
    Pace.objects.create(channel="email", warm_up=[5], warm_up_from=first, day=at.date(), taken_today=taken)

    found = list(invariants.findings(at=at + timedelta(minutes=5)))

    assert any("have been due since" in sentence for sentence in found) is is_stuck


def test_message_to_one_person_has_one_record(at):
    customer = CustomerFactory(email="ann@x.example")
    alone = MessageFactory(to_customer=customer, live=True, at=at)

    assert list(invariants.findings(at=at)) == [f"Message {alone.pk} to one person has 0 records."]
    direct.write_to(customer, alone, at=at)
    assert list(invariants.findings(at=at)) == []


def test_in_app_record_without_a_conversation_is_said(at):
    CustomerFactory()
    message = MessageFactory(in_app=True, one_off=True, live=True, at=at)
    message.records.update(status="sent", sent_at=at, version=message.version, reason="")

    assert any("began no conversation" in sentence for sentence in invariants.findings(at=at))


def test_kept_counts_that_differ_are_said(at):
    one_off(at)
    by_force("DELETE FROM delivery_countchange")

    assert any("waiting stored, 1 counted" in sentence for sentence in invariants.findings(at=at))


def test_one_inbox_question_finds_what_the_index_would_not_let_in(at):
    message = one_off(at)
    CustomerFactory(email="ann@x.example")
    by_force("DROP INDEX same_inbox_once")
    facts = {"message": message, "status": "sent", "sent_at": at, "matched_at": at, "inbox": "a"}
    by_force("UPDATE delivery_deliveryrecord SET status = 'sent', sent_at = now(), inbox = 'a'")
    DeliveryRecord.objects.create(customer=CustomerFactory(), version=message.version, **facts)

    assert any(f"Message {message.pk} went to a 2 times" in sentence for sentence in invariants.findings(at=at))


def test_every_question_is_broken_by_a_test():
    elsewhere = {"one person", "one inbox", "conversation"}

    assert set(BROKEN) | elsewhere == set(invariants.QUESTIONS)


def test_command_says_that_all_is_well_or_fails(at):
    out = StringIO()
    call_command("audit", stdout=out)
    assert "Everything adds up" in out.getvalue()

    one_off(timezone.now() - timedelta(hours=1))
    with pytest.raises(CommandError, match="1 things do not add up"):
        call_command("audit", stdout=out)
    assert "nothing is handed over" in out.getvalue()
