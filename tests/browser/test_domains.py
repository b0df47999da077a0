"""An Admin checks a sender's domain, copies the missing record, and allows a launch, on a desktop and on a phone."""

import pytest
from playwright.sync_api import Page, expect

from messaging.models import Message, State
from tests.browser.conftest import press_and_confirm, violations
from tests.factories import CustomerFactory, MessageFactory, SenderFactory
from tests.support.dns_server import serving_domain

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
DOMAIN = "acme-mail.dev"
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("size", SIZES)
def test_domain_is_checked_repaired_and_allowed(console, context, live_server, settings, size):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    console.set_viewport_size(SIZES[size])
    CustomerFactory(name="Ann", email="ann@x.example")
    draft = MessageFactory(title="Sale", one_off=True, sender=SenderFactory(email=f"ada@{DOMAIN}"))
    composer = f"{live_server.url}/admin/messaging/message/{draft.pk}/change/"
    with serving_domain(DOMAIN, selector="s1", settings=settings) as name_server:
        name_server.remove(f"_dmarc.{DOMAIN}", "TXT")
        console.goto(composer)
        console.get_by_role("button", name="Set live", exact=True).click()
        expect(console.get_by_role("dialog")).to_contain_text(f"{DOMAIN} publishes no DMARC record.")

        console.goto(f"{live_server.url}/admin/messaging/sender/")
        console.get_by_role("link", name="Domains", exact=True).click()
        card = console.get_by_role("region", name=DOMAIN)
        expect(card).to_contain_text("Large mailbox providers reject emails from this domain")
        card.get_by_label("DKIM selector").fill("s1")
        card.get_by_role("button", name="Check now").click()
        expect(card).to_contain_text(f"The key at s1._domainkey.{DOMAIN} is valid.")
        card.get_by_role("button", name="Copy").click()
        expect(console.locator("#copied")).to_have_text("Copied")
        copied = console.evaluate("navigator.clipboard.readText()")
        assert copied == f"v=DMARC1; p=none; rua=mailto:dmarc@{DOMAIN}"
        assert fits(console)
        assert violations(console, within="'#content'") == []

        card.get_by_role("button", name="Allow sending anyway").click()
        expect(card).to_contain_text("Allowed to send although providers reject it")
        console.goto(composer)
        press_and_confirm(console, "Set live")
        console.wait_for_url(composer)
        expect(console.get_by_text("Live since")).to_be_visible()

    assert Message.objects.get().state == State.LIVE
