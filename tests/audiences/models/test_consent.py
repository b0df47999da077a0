"""Confirmations of addresses: one email in 24 hours for each address, and a confirmation belongs to its address."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from audiences.change_log import BIT
from audiences.models import ConfirmationMail, Customer, Workspace, consent
from audiences.models.consent import (
    NOT_CONFIRMED,
    MailStatus,
    askable_customers,
    askable_now,
    confirm_address,
    has_not_confirmed,
)
from tests.factories import CustomerFactory
from tests.support.concurrency import at_once

pytestmark = pytest.mark.django_db
DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def bea() -> Customer:
    return CustomerFactory(lead=True, email="bea@münchen.example")


def request(customer: Customer, *, at, address: str = "") -> bool:
    return ConfirmationMail.objects.request(address or str(customer.email), customer=customer, at=at)


def test_address_gets_one_email_in_24_hours_whoever_gives_it_in_any_spelling(bea, at):
    eve = CustomerFactory(lead=True, email="bea@xn--mnchen-3ya.example")

    asked = [
        request(bea, at=at),
        request(bea, at=at),
        request(bea, at=at + SECOND),
        request(eve, at=at + DAY - SECOND),
        request(eve, at=at + DAY),
        request(bea, at=at + DAY + SECOND),
        request(bea, at=at + DAY, address="other@x.example"),
    ]

    assert asked == [True, False, False, False, True, False, True]
    row = ConfirmationMail.objects.of_address("BEA@münchen.example").get()
    assert (row.customer, row.requested_at, row.status) == (eve, at + DAY, "waiting")


def test_renewed_request_is_sent_again_unless_the_first_is_being_sent(bea, at):
    request(bea, at=at)
    sent = {"status": "sent", "sent_at": at, "attempts": 3, "detail": "421 later", "provider_id": "p1"}
    ConfirmationMail.objects.update(**sent)

    assert request(bea, at=at + DAY)

    row = ConfirmationMail.objects.get()
    assert (row.status, row.sent_at, row.attempts, row.detail, row.provider_id) == ("waiting", None, 0, "", "")
    ConfirmationMail.objects.update(status="sending")
    assert not request(bea, at=at + 2 * DAY)


@pytest.mark.parametrize(
    ("became", "again_after"),
    [
        ({"status": "skipped", "taken_at": 1}, 0),
        ({"status": "failed"}, 0),
        ({"status": "failed", "taken_at": 2}, 26),
        ({"status": "waiting"}, 24),
        # Sent after retries.
        ({"status": "sent", "taken_at": 22, "sent_at": 22}, 46),
        ({"status": "uncertain", "taken_at": 3}, 27),
    ],
)
def test_24_hours_begin_when_the_email_left_and_not_if_it_never_did(became, again_after, bea, at):
    request(bea, at=at)
    moments = {name: at + timedelta(hours=hours) for name, hours in became.items() if name != "status"}
    ConfirmationMail.objects.update(status=became["status"], confirmed_at=at, **moments)
    again = at + timedelta(hours=again_after)

    if again_after:
        assert list(askable_now(at=again - SECOND)) == []
        assert not request(bea, at=again - SECOND)
        with pytest.raises(IntegrityError, match="at most one confirmation email"), transaction.atomic():
            ConfirmationMail.objects.update(requested_at=again - SECOND)
    assert list(askable_now(at=again)) == [bea]
    assert request(bea, at=again)
    row = ConfirmationMail.objects.get()
    assert (row.status, row.requested_at, row.taken_at, row.confirmed_at) == (MailStatus.WAITING, again, None, None)


def test_more_than_the_limit_of_an_hour_wait_for_a_later_one(bea, at, monkeypatch):
    monkeypatch.setattr(consent, "CONFIRMATIONS_PER_HOUR", 2)

    for n in range(5):
        assert request(bea, at=at, address=f"{n}@x.example")
    request(bea, at=at + 3 * HOUR, address="later@x.example")

    due = list(ConfirmationMail.objects.order_by("pk").values_list("due_at", flat=True))
    assert [moment - at for moment in due] == [0 * HOUR, 0 * HOUR, HOUR, HOUR, 2 * HOUR, 3 * HOUR]


def test_leads_and_users_with_a_said_address_must_confirm(at):
    for said in (False, True):
        for role in ("lead", "user"):
            for since in (None, at):
                name = f"{role}{said}{since is None}"
                CustomerFactory(
                    name=name, role=role, email=f"{name}@x.example".lower(), email_is_said=said, opted_in_at=since
                )

    found = {customer.name for customer in Customer.objects.filter(NOT_CONFIRMED)}

    assert found == {"leadFalseTrue", "leadTrueTrue", "userTrueTrue"}
    assert found == {customer.name for customer in Customer.objects.all() if has_not_confirmed(customer)}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT c.name FROM audiences_customer c WHERE {consent.HAS_NOT_CONFIRMED}")  # noqa: S608 - ours
        assert found == {name for (name,) in cursor.fetchall()}


def test_database_refuses_a_second_row_and_an_early_renewal(bea, at):
    request(bea, at=at)
    row = ConfirmationMail(address="bea@xn--mnchen-3ya.example", customer=bea, requested_at=at, due_at=at)

    with pytest.raises(IntegrityError, match="one_confirmation_per_address"), transaction.atomic():
        row.save()
    for change in ({"requested_at": at + DAY - SECOND}, {"requested_at": at - SECOND}, {"address_hash": b"x"}):
        with pytest.raises(IntegrityError, match="at most one confirmation email"), transaction.atomic():
            ConfirmationMail.objects.update(**change)
    assert ConfirmationMail.objects.get().requested_at == at


def test_confirmation_holds_for_each_customer_with_the_address_and_keeps_its_first_time(bea, at):
    request(bea, at=at)
    twin = CustomerFactory(lead=True, email="bea@xn--mnchen-3ya.example", opted_in_at=at)
    other = CustomerFactory(lead=True, email="other@x.example")

    assert confirm_address(ConfirmationMail.objects.get(), at=at + SECOND) == 2

    for customer, since in ((bea, at + SECOND), (twin, at), (other, None)):
        customer.refresh_from_db()
        assert customer.opted_in_at == since
    assert ConfirmationMail.objects.get().confirmed_at == at + SECOND
    assert list(askable_customers()) == [other]


def test_new_address_ends_the_confirmation_by_any_code_path(bea, at):
    Customer.objects.update(opted_in_at=at)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_customer SET email = email, name = 'Bea'")
    assert Customer.objects.get().opted_in_at == at

    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_customer SET email = 'new@x.example'")

    assert Customer.objects.get().opted_in_at is None
    # A merge sets both.
    Customer.objects.update(email="moved@x.example", opted_in_at=at)
    assert Customer.objects.get().opted_in_at == at
    Customer.objects.update(email=None)
    assert Customer.objects.get().opted_in_at is None


def test_confirmation_and_proof_are_logged_as_a_change_of_the_address(bea, at):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audiences_change")

        def logged() -> list[int]:
            cursor.execute("SELECT bits FROM audiences_change WHERE customer_id = %s", [bea.pk])
            found = [bits for (bits,) in cursor.fetchall()]
            cursor.execute("DELETE FROM audiences_change")
            return found

        Customer.objects.update(opted_in_at=at)
        assert logged() == [BIT["email"]]
        Customer.objects.update(opted_in_at=at + SECOND)
        assert logged() == []
        Customer.objects.update(opted_in_at=None)
        assert logged() == [BIT["email"]]
        Customer.objects.update(email_is_said=True)
        assert logged() == [BIT["email"]]


def test_setting_makes_compiled_messages_stale():
    before = Workspace.current().generation

    Workspace.objects.update(double_opt_in=True)

    assert Workspace.current().generation > before


@pytest.mark.django_db(transaction=True)
def test_visitors_who_give_one_address_at_the_same_moment_cause_one_email(at):
    leads = [CustomerFactory(lead=True, email="bea@x.example", email_is_said=True) for _ in range(4)]

    for moment in (at, at + DAY):
        asked = at_once([lambda lead=lead, moment=moment: request(lead, at=moment) for lead in leads])
        assert asked.wrong == []
        assert sorted(asked.returned) == [False, False, False, True]
    assert ConfirmationMail.objects.count() == 1
