"""The link of a confirmation email: GET asks, POST confirms, and each state has a clear page (behaviour 4.30)."""

from datetime import timedelta

import pytest
from django.test import Client

from audiences import intake
from audiences.models import ConfirmationMail, Customer, Workspace
from delivery import rendering, tokens
from delivery.customers import erase
from delivery.tracking import opt_in
from tests.factories import CustomerFactory
from tests.support.pages import as_page

pytestmark = pytest.mark.django_db
ASKS, BUTTON = "Get emails from Outbound?", "Confirm my address"


@pytest.fixture
def bea(at, time_machine) -> Customer:
    time_machine.move_to(at, tick=False)
    Workspace.current()
    Workspace.objects.update(double_opt_in=True)
    return intake.save_lead({"email": "bea@x.example"}, at=at)


@pytest.fixture
def link(bea, settings) -> str:
    return rendering.confirmation_url(ConfirmationMail.objects.get()).removeprefix(settings.PUBLIC_URL)


def page(answer) -> str:
    assert answer["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer["Cache-Control"]
    return as_page(answer.content.decode())


def get(link: str, *, status: int = 200) -> str:
    answer = Client().get(link)
    assert answer.status_code == status
    return page(answer)


def post(link: str, *, status: int = 200) -> str:
    answer = Client(enforce_csrf_checks=True).post(link)
    assert answer.status_code == status
    return page(answer)


def test_opening_the_link_asks_and_only_the_button_confirms(bea, link, at):
    for _ in range(2):
        assert ASKS in get(link)
    Client().head(link)
    bea.refresh_from_db()
    assert bea.opted_in_at is None

    assert "Your address is confirmed" in post(link)

    bea.refresh_from_db()
    assert bea.opted_in_at == ConfirmationMail.objects.get().confirmed_at == at
    assert "be…@x.example" in get(link)
    assert "bea@x.example" not in get(link)


def test_repeated_link_says_so_and_keeps_the_first_time(bea, link, at, time_machine):
    post(link)
    time_machine.move_to(at + timedelta(days=90), tick=False)

    for shown in (get(link), post(link)):
        assert "Your address is confirmed already" in shown
        assert BUTTON not in shown

    bea.refresh_from_db()
    assert bea.opted_in_at == at


def test_link_expires_after_30_days_and_a_new_one_works(bea, link, at, time_machine, settings):
    time_machine.move_to(at + opt_in.LINK_VALID_FOR - timedelta(seconds=1), tick=False)
    assert ASKS in get(link)
    time_machine.move_to(at + opt_in.LINK_VALID_FOR, tick=False)

    for act in (get, post):
        assert "This link has expired" in act(link, status=410)
    bea.refresh_from_db()
    assert bea.opted_in_at is None
    intake.ask_again(bea, at=at + opt_in.LINK_VALID_FOR)
    new = rendering.confirmation_url(ConfirmationMail.objects.get()).removeprefix(settings.PUBLIC_URL)
    assert "Your address is confirmed" in post(new)


def test_forged_link_is_not_valid(bea, link):
    mail = ConfirmationMail.objects.get()
    numbers = mail.pk, int(mail.requested_at.timestamp())
    for token in (
        "x",
        "é",
        link.rpartition("/")[2][:-1],
        tokens.make_token(*numbers, purpose="unsubscribe"),
        tokens.make_token(mail.pk, purpose="confirm"),
    ):
        for act in (get, post):
            assert "This link is not valid" in act(f"/m/confirm/{token}", status=404)
    assert not Customer.objects.exclude(opted_in_at=None).exists()


def test_changed_address_has_its_own_page(bea, link, at):
    intake.save_lead({"email": "new@x.example"}, lead=bea, at=at)

    for act in (get, post):
        assert "This address is not in use any more" in act(link, status=410)

    bea.refresh_from_db()
    assert bea.opted_in_at is None


def test_erased_customer_has_its_own_page(bea, link, at):
    erase.erase(bea, at=at)

    for act in (get, post):
        assert "There is nothing to confirm" in act(link, status=410)

    ConfirmationMail.objects.all().delete()
    assert "There is nothing to confirm" in get(link, status=410)


def test_confirmation_does_not_join_the_lead_to_another_customer_with_the_address(bea, link, at):
    Customer.objects.filter(pk=bea.pk).update(email_is_said=True)
    ann = CustomerFactory(email="bea@x.example")

    post(link)

    bea.refresh_from_db()
    assert (bea.email_is_said, bea.role, bea.archived_at) == (True, "lead", None)
    assert intake.find_customer({"email": "bea@x.example"}) == ann


def test_page_has_no_script_and_nothing_of_other_origins(link):
    answer = Client().get(link)

    assert b"<script" not in answer.content
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert Client().put(link).status_code == 405
