"""Each invariant finds the violation that a test forces into the database."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from delivery.channels import CHANNELS
from delivery.maintenance import sweep
from delivery.matching import direct
from delivery.models import DeliveryRecord, Pace
from delivery.monitoring import invariants
from delivery.sending import dispatcher
from messaging.models import Channel, Message
from tests.factories import CompanyFactory, CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db


class AcceptingChannel:
    """A channel that accepts every message."""

    def send(self, _envelope) -> str:
        return ""

    def close(self) -> None:
        """Do nothing: the channel has no connection."""


@pytest.fixture(autouse=True)
def channel(monkeypatch) -> None:
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, AcceptingChannel)


def one_off(at) -> Message:
    CustomerFactory(email="ann@x.example")
    return MessageFactory(one_off=True, live=True, at=at)


def by_force(sql: str, *params: object) -> None:
    """Run SQL with constraints and triggers disabled."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql, params)
        cursor.execute("SET LOCAL session_replication_role = origin")


def test_no_violation_from_launch_to_completion(at):
    message = one_off(at)
    assert list(invariants.find_violations(at=at)) == []
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    assert list(invariants.find_violations(at=at + timedelta(hours=1))) == []
    sweep.sweep(at=at)
    assert Message.objects.get(pk=message.pk).state == "sent"
    assert list(invariants.find_violations(at=at + timedelta(hours=1))) == []


VIOLATIONS = {
    "audience": (
        "UPDATE messaging_message SET audience_count = 2",
        "was launched for an audience of 2 and has 1 records",
    ),
    "message": ("UPDATE messaging_message SET state = 'draft', went_live_at = NULL", "was never live"),
    "version": (
        "UPDATE delivery_deliveryrecord SET status = 'sent', sent_at = now(), version_id = NULL",
        "refers to no version of its message",
    ),
    "company": (
        "UPDATE delivery_deliveryrecord SET company_id = %s",
        "has a company although its message is not sent per company",
    ),
    "lease": (
        "UPDATE delivery_deliveryrecord SET status = 'sending', claim = gen_random_uuid(),"
        " leased_until = '2026-05-01', version_id = (SELECT version_id FROM messaging_message)",
        "still claimed by a worker although its lease expired",
    ),
    "overdue": ("UPDATE delivery_deliveryrecord SET due_at = '2026-05-01'", "has 1 records that have been due since"),
    "stopped": (
        "UPDATE messaging_message SET state = 'stopped' WHERE %s > 0;"
        " UPDATE delivery_deliveryrecord SET matched_at = '2026-05-01'",
        "is stopped, but 1 of its records still wait",
    ),
    "sent": (
        "UPDATE messaging_message SET state = 'sent'",
        "has the state sent, but 1 of its records are not finished",
    ),
    "suppression": (
        "INSERT INTO audiences_suppression (address, address_hash, reason, source, detail, created_at)"
        " VALUES ('ann@x.example', 'hash', 'hard_bounce', 'server', '', '2026-05-01')",
        "has a suppressed address without the flag for its reason, hard_bounce",
    ),
}


@pytest.mark.parametrize("invariant", VIOLATIONS)
def test_violation_is_reported(at, invariant):
    one_off(at)
    sql, words = VIOLATIONS[invariant]
    by_force(sql.replace("%s", str(CompanyFactory().pk)))

    violations = list(invariants.find_violations(at=at))
    assert any(words in sentence for sentence in violations), violations


@pytest.mark.parametrize(
    ("taken", "since", "is_stuck"),
    [(5, timedelta(0), False), (4, timedelta(0), True), (5, timedelta(days=1), True), (0, timedelta(days=-1), False)],
)
def test_record_waiting_for_the_next_warm_up_day_is_not_stuck(at, taken, since, is_stuck):
    one_off(at)
    first = (at - since).date()
    Pace.objects.create(channel="email", warm_up=[5], warm_up_from=first, day=at.date(), taken_today=taken)

    found = list(invariants.find_violations(at=at + timedelta(minutes=5)))

    assert any("have been due since" in sentence for sentence in found) is is_stuck


def test_direct_message_has_one_record(at):
    customer = CustomerFactory(email="ann@x.example")
    alone = MessageFactory(to_customer=customer, live=True, at=at)

    assert list(invariants.find_violations(at=at)) == [f"Direct message {alone.pk} has 0 records instead of 1."]
    direct.insert_direct_record(customer, alone, at=at)
    assert list(invariants.find_violations(at=at)) == []


def test_in_app_record_without_a_conversation_is_reported(at):
    CustomerFactory()
    message = MessageFactory(in_app=True, one_off=True, live=True, at=at)
    message.records.update(status="sent", sent_at=at, version=message.version, reason="")

    assert any("has no conversation" in sentence for sentence in invariants.find_violations(at=at))


def test_counter_that_differs_from_its_records_is_reported(at):
    one_off(at)
    by_force("DELETE FROM delivery_countchange")

    assert any("waiting stored, 1 counted" in sentence for sentence in invariants.find_violations(at=at))


def test_two_sent_records_to_one_address_are_reported(at):
    message = one_off(at)
    CustomerFactory(email="ann@x.example")
    by_force("DROP INDEX same_inbox_once")
    facts = {"message": message, "status": "sent", "sent_at": at, "matched_at": at, "address": "a"}
    by_force("UPDATE delivery_deliveryrecord SET status = 'sent', sent_at = now(), address = 'a'")
    DeliveryRecord.objects.create(customer=CustomerFactory(), version=message.version, **facts)

    assert f"Message {message.pk} was sent to a 2 times." in list(invariants.find_violations(at=at))


def test_every_invariant_is_violated_by_a_test():
    elsewhere = {"direct message", "duplicate address", "conversation"}

    assert set(VIOLATIONS) | elsewhere == set(invariants.INVARIANTS)


def test_command_reports_success_or_fails(at):
    out = StringIO()
    call_command("check_invariants", stdout=out)
    assert f"All {len(invariants.INVARIANTS) + 1} invariants hold." in out.getvalue()

    one_off(timezone.now() - timedelta(hours=1))
    with pytest.raises(CommandError, match="Invariants violated: 1"):
        call_command("check_invariants", stdout=out)
    assert "its channel sends nothing" in out.getvalue()
