"""Double opt-in in a browser: an Admin switches it on, a visitor leaves an address and confirms it without scripts."""

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from audiences import intake
from audiences.models import ConfirmationMail, Customer, Workspace
from audiences.models.customers import Role
from delivery.customers import erase
from delivery.matching import rounds
from delivery.models import DeliveryRecord
from delivery.sending.urgent import dispatcher
from delivery.sending.urgent.confirmation_emails import CONFIRMATION_EMAILS
from delivery.tracking import opt_in
from tests.browser.conftest import open_context
from tests.factories import MessageFactory, rule

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mailbox(chromium, browser_errors, server_requests) -> Page:
    """The browser of the owner of an address, which runs no scripts."""
    with open_context(chromium, browser_errors, server_requests, java_script_enabled=False) as context:
        yield context.new_page()


def send() -> None:
    at = timezone.now() + timedelta(seconds=1)
    dispatcher.send_due([CONFIRMATION_EMAILS], clock=lambda: at, until=at + timedelta(seconds=30))


def photograph(page: Page, name: str) -> None:
    """Save screenshots into the folder that SCREENSHOTS names: phone and desktop, light and dark."""
    if folder := os.environ.get("SCREENSHOTS"):
        for mode in ("light", "dark"):
            page.emulate_media(color_scheme=mode)
            for width in (390, 1440):
                page.set_viewport_size({"width": width, "height": 900})
                page.screenshot(path=str(Path(folder) / f"{name}-{width}-{mode}.png"), full_page=True)
        page.emulate_media(color_scheme="light")


def test_admin_asks_leads_to_confirm_and_one_does(console, mailbox, live_server, post, settings):
    settings.PUBLIC_URL = live_server.url
    Workspace.current()
    old = intake.save_lead({"email": "old@x.example"}, at=timezone.now())
    console.goto(live_server.url + reverse("admin:audiences_workspace_change", args=[1]))
    expect(console.get_by_text("1 person has an address that they must confirm.")).to_be_visible()
    photograph(console, "setting")
    console.get_by_label("Leads confirm their address").check()
    console.get_by_role("button", name="Save", exact=True).first.click()
    expect(console.get_by_text("” was changed.")).to_be_visible()
    assert Workspace.current().double_opt_in

    bea = intake.save_lead({"email": "bea@x.example", "name": "Bea"}, at=timezone.now())
    message = MessageFactory(live=True, rules=[rule("role", "is", Role.LEAD)], at=timezone.now())
    send()
    rounds.run_round(at=timezone.now())
    assert not DeliveryRecord.objects.exists()
    mail = post.only()
    assert mail["To"] == "bea@x.example"
    (link,) = re.findall(r'href="([^"]+)"', mail.get_body(("html",)).get_content())
    if folder := os.environ.get("SCREENSHOTS"):
        mailbox.set_content(mail.get_body(("html",)).get_content())
        mailbox.screenshot(path=str(Path(folder) / "email.png"))

    mailbox.goto(link)
    photograph(mailbox, "asks")
    mailbox.get_by_role("button", name="Confirm my address").click()
    expect(mailbox.get_by_role("heading", name="Your address is confirmed")).to_be_visible()
    photograph(mailbox, "confirmed")
    mailbox.goto(link)
    expect(mailbox.get_by_role("heading", name="Your address is confirmed already")).to_be_visible()
    rounds.run_round(at=timezone.now())
    assert DeliveryRecord.objects.get().customer == bea
    assert DeliveryRecord.objects.get().message == message

    console.goto(live_server.url + reverse("admin:audiences_customer_change", args=[bea.pk]))
    expect(console.get_by_text("Confirmed on")).to_be_visible()
    console.goto(live_server.url + reverse("admin:audiences_customer_change", args=[old.pk]))
    expect(console.get_by_text("Not confirmed, so this person gets no emails to an audience.")).to_be_visible()
    console.get_by_role("button", name="Send a confirmation email").click()
    expect(console.get_by_text("A confirmation email is on its way to old@x.example.")).to_be_visible()
    photograph(console, "profile")
    console.get_by_role("button", name="Send the confirmation email again").click()
    expect(console.get_by_text("An address gets at most one confirmation email in 24 hours.")).to_be_visible()


def test_owner_of_an_address_opens_links_that_cannot_be_used(mailbox, live_server, post, settings, transactional_db):
    settings.PUBLIC_URL = live_server.url
    Workspace.current()
    Workspace.objects.update(double_opt_in=True)
    bea = intake.save_lead({"email": "bea@x.example"}, at=timezone.now() - opt_in.LINK_VALID_FOR)
    send()
    (link,) = re.findall(r'href="([^"]+)"', post.only().get_body(("html",)).get_content())

    def shows(link: str, heading: str) -> None:
        mailbox.goto(link)
        expect(mailbox.get_by_role("heading", name=heading)).to_be_visible()
        expect(mailbox.get_by_role("button")).to_have_count(0)
        photograph(mailbox, heading.split()[-1])

    shows(link, "This link has expired")
    shows(f"{link[:-1]}", "This link is not valid")
    Customer.objects.update(email="new@x.example")
    shows(link, "This address is not in use any more")
    erase.erase(Customer.objects.get(pk=bea.pk), at=timezone.now())
    shows(link, "There is nothing to confirm")
    assert ConfirmationMail.objects.get().confirmed_at is None
