"""Double opt-in on the profile: the state of a lead's address, and the button that asks again."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from audiences import intake
from audiences.models import ConfirmationMail, Customer, Workspace
from outbound.people import opt_in
from tests.factories import AT, CustomerFactory
from tests.support.pages import as_page

pytestmark = pytest.mark.django_db
DAY = timedelta(hours=24)


@pytest.fixture
def bea() -> Customer:
    Workspace.current()
    Workspace.objects.update(double_opt_in=True)
    return CustomerFactory(lead=True, name="Bea", email="bea@x.example")


def profile(console, customer: Customer) -> str:
    return as_page(console.get(reverse("admin:audiences_customer_change", args=[customer.pk])).content.decode())


def press(console, customer: Customer) -> str:
    answer = console.post(reverse("admin:customer_confirmation", args=[customer.pk]), follow=True)
    assert answer.status_code == 200
    return as_page(answer.content.decode())


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"status": "waiting"}, "A confirmation email is on its way."),
        ({"status": "sending"}, "A confirmation email is on its way."),
        ({"status": "sent", "sent_at": AT}, "A confirmation email was sent on 4 May 2026, 10:00."),
        ({"status": "uncertain"}, "A confirmation email may have been sent on 4 May 2026, 10:00."),
        ({"status": "failed", "detail": "550 no"}, "The confirmation email of 4 May 2026, 10:00 failed: 550 no"),
        ({"status": "skipped", "detail": "Listed."}, "No confirmation email was sent: Listed."),
    ],
)
def test_profile_says_that_the_address_is_not_confirmed_and_what_became_of_the_email(facts, says, console, bea):
    ConfirmationMail.objects.request("bea@x.example", customer=bea, at=AT)
    ConfirmationMail.objects.update(**facts)

    shown = profile(console, bea)

    assert "Not confirmed, so this person gets no emails to an audience." in shown
    assert says in shown
    assert "Send the confirmation email again" in shown


def test_profile_says_when_the_address_was_confirmed(console, bea):
    Customer.objects.update(opted_in_at=AT)

    shown = profile(console, bea)

    assert "Confirmed on 4 May 2026, 10:00." in shown
    assert "onfirmation email" not in shown
    Workspace.objects.update(double_opt_in=False)
    assert "Confirmed on 4 May 2026, 10:00." in profile(console, bea)


def test_profile_says_nothing_about_users_leads_without_an_address_and_while_it_is_off(console, bea):
    for customer in (CustomerFactory(email="ann@x.example"), CustomerFactory(lead=True)):
        assert "Double opt-in" not in profile(console, customer)
    Workspace.objects.update(double_opt_in=False)
    assert "Double opt-in" not in profile(console, bea)
    assert "an Admin can switch this on in Workspace" in press(console, bea)
    assert not ConfirmationMail.objects.exists()


def test_button_asks_once_in_24_hours_and_is_logged(console, bea, time_machine):
    time_machine.move_to(AT, tick=False)
    assert "Send a confirmation email" in profile(console, bea)

    assert "A confirmation email is on its way to bea@x.example." in press(console, bea)
    assert "The next one can be sent on 5 May 2026, 10:00." in press(console, bea)
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Sent a confirmation email"]
    ConfirmationMail.objects.update(status="sent")
    time_machine.move_to(AT + DAY, tick=False)
    assert "is on its way" in press(console, bea)
    Customer.objects.update(opted_in_at=AT)
    assert "This customer has no address to confirm." in press(console, bea)


def test_ticked_leads_are_asked_and_the_others_counted(console, bea):
    dan = CustomerFactory(lead=True, email="dan@x.example")
    ann = CustomerFactory(email="ann@x.example")
    listed = reverse("admin:audiences_customer_changelist")
    form = {"action": "ask_ticked", "_selected_action": [bea.pk, dan.pk, ann.pk]}

    first, second = (as_page(console.post(listed, form, follow=True).content.decode()) for _ in range(2))

    assert "2 confirmation emails are on the way." in first
    assert "1 person was not asked" in first
    assert "on the way" not in second
    assert "3 people were not asked" in second
    assert LogEntry.objects.filter(change_message="Sent a confirmation email").count() == 2
    Workspace.objects.update(double_opt_in=False)
    assert "ask_ticked" not in console.get(listed).content.decode()


def test_those_who_were_asked_do_not_take_the_place_of_the_others(console, bea, monkeypatch):
    monkeypatch.setattr(opt_in, "CUSTOMERS_TICKED_MAX", 2)
    monkeypatch.setattr(opt_in, "SLICE", 1)
    CustomerFactory(lead=True, email="listed@x.example", has_hard_bounced=True)
    everyone = [bea, *(CustomerFactory(lead=True, email=f"{n}@x.example") for n in range(4))]
    listed = reverse("admin:audiences_customer_changelist")
    form = {"action": "ask_ticked", "_selected_action": [one.pk for one in everyone], "select_across": 1}

    said = [as_page(console.post(listed, form, follow=True).content.decode()) for _ in range(3)]

    assert "2 confirmation emails are on the way." in said[0]
    assert "3 more people can be asked: choose the action again for them." in said[0]
    assert "1 more person can be asked" in said[1]
    assert "1 confirmation email is on the way." in said[2]
    assert "5 people were not asked: they need not confirm" in said[2]
    assert ConfirmationMail.objects.count() == LogEntry.objects.count() == 5


def test_unsubscribed_lead_has_no_button(console, bea):
    Customer.objects.update(unsubscribed_from_emails=True)

    assert "Send a confirmation email" not in profile(console, bea)


def test_button_says_when_the_next_email_can_be_sent_also_if_the_address_changes_meanwhile(console, bea, monkeypatch):
    ConfirmationMail.objects.request("new@x.example", customer=bea, at=timezone.now())
    ask = intake.ask_again

    def change_and_ask(customer: Customer, **how: object) -> object:
        Customer.objects.update(email="new@x.example")
        return ask(customer, **how)

    monkeypatch.setattr(intake, "ask_again", change_and_ask)

    assert "The next one can be sent on" in press(console, bea)


def test_list_of_people_shows_who_has_not_confirmed(console, bea):
    CustomerFactory(email="ann@x.example", name="Ann")
    listed = reverse("admin:audiences_customer_changelist")

    assert console.get(listed).content.decode().count("Not confirmed") == 1
    Workspace.objects.update(double_opt_in=False)
    assert "Not confirmed" not in console.get(listed).content.decode()


def test_message_to_one_person_warns_and_goes(console, bea):
    shown = as_page(console.get(reverse("admin:customer_send_message", args=[bea.pk])).content.decode())

    assert "Bea has not confirmed their address. Write only if they would want to receive this email." in shown
