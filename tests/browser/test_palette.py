"""The command palette in a real browser: by keyboard, by pointer, at both widths."""

import re

import pytest
from playwright.sync_api import expect

from delivery.models import DeliveryRecord
from tests.browser.conftest import violations
from tests.factories import AT, CustomerFactory, MessageFactory, SenderFactory, rule

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}


def test_palette_finds_opens_and_closes(console, live_server):
    ada = CustomerFactory(name="Ada Byron", email="ada@acme.example")
    CustomerFactory(name="Adam " + "Smith" * 30, email=f"{'adam' * 20}@acme.example")
    MessageFactory(title="Adaptation", sender=SenderFactory())
    page = console
    page.goto(f"{live_server.url}/admin/")
    palette, field = page.get_by_role("dialog"), page.get_by_role("combobox", name="Search people")
    options = palette.get_by_role("option")

    # A slash opens it outside fields only, Escape closes it and returns the focus.
    button = page.get_by_role("button", name="Search Ctrl K")
    button.focus()
    page.keyboard.press("/")
    expect(field).to_be_focused()
    expect(options.first).to_have_text(re.compile("New message"))
    page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
    expect(button).to_be_focused()
    page.goto(f"{live_server.url}/admin/audiences/customer/")
    page.locator("input[name=q]").fill("a")
    page.keyboard.press("/")
    expect(page.locator("input[name=q]")).to_have_value("a/")
    expect(palette).to_be_hidden()

    # Enter chooses from the results of the typed text, even if they have not arrived.
    page.keyboard.press("Control+k")
    page.keyboard.type("why ada by")
    page.keyboard.press("Enter")
    # The page takes keys once it has loaded.
    page.wait_for_url(f"{live_server.url}/admin/audiences/customer/{ada.pk}/why/")

    # The field names the current option for screen readers.
    page.keyboard.press("Control+k")
    page.keyboard.type("ada")
    expect(options).to_have_count(7)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    current = palette.locator("[aria-selected=true]")
    expect(current).to_have_count(1)
    expect(current).to_contain_text("Adam")
    expect(field).to_have_attribute("aria-activedescendant", current.get_attribute("id"))
    page.wait_for_load_state()
    assert violations(page) == []
    page.keyboard.type("zz")
    expect(palette.get_by_role("status")).to_have_text("Nothing found.")
    assert violations(page) == []

    page.keyboard.press("Escape")
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    page.goto(f"{live_server.url}/admin/")
    button.click()
    field.fill("ada")
    expect(options).to_have_count(7)
    assert palette.evaluate("e => e.scrollWidth <= e.clientWidth && e.getBoundingClientRect().right <= innerWidth")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
    options.filter(has_text="Send a message to Ada Byron").click()
    expect(page.frame_locator("dialog iframe").locator("trix-editor")).to_be_focused()
    expect(page).to_have_url(f"{live_server.url}/admin/")


def test_search_of_a_report_without_result_offers_the_explanation(console, live_server):
    ada = CustomerFactory(name="Ada Byron")
    message = MessageFactory(live=True, title="Welcome", rules=[rule("country", "is", "France")])
    DeliveryRecord.objects.create(message=message, customer=CustomerFactory(), matched_at=AT, due_at=AT)
    page = console
    page.goto(f"{live_server.url}/admin/messaging/message/{message.pk}/change/?q=ada+by#people")

    page.get_by_role("button", name="Why did they not get it?").click()
    field = page.get_by_role("combobox", name="Why did they not get it?")
    expect(field).to_have_value("ada by")
    expect(page.get_by_role("dialog").get_by_role("option")).to_have_text([re.compile("Ada Byron")])
    page.wait_for_load_state()
    assert violations(page, within="'#palette'") == []
    field.press("Enter")

    expect(page).to_have_url(f"{live_server.url}/admin/audiences/customer/{ada.pk}/why/?message={message.pk}")
    expect(page.get_by_text("the only rule is not met")).to_be_visible()


def test_shortcuts_are_listed_and_single_keys_can_be_turned_off(console, live_server):
    page = console
    page.goto(f"{live_server.url}/admin/audiences/customer/")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    search = page.get_by_role("combobox", name="Search people")

    # While typing, they are text.
    page.locator("input[name=q]").fill("a")
    page.keyboard.press("?")
    expect(page.locator("input[name=q]")).to_have_value("a?")
    expect(sheet).to_be_hidden()

    button = page.get_by_role("button", name="Search Ctrl K")
    button.focus()
    page.keyboard.press("?")
    expect(sheet).to_be_visible()
    page.wait_for_load_state()
    assert violations(page) == []
    page.get_by_label("Use the single keys / and ?").uncheck()
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(button).to_be_focused()

    page.reload()
    button.focus()
    page.keyboard.press("?")
    page.keyboard.press("/")
    expect(sheet).to_be_hidden()
    expect(search).to_be_hidden()
    page.set_viewport_size(PHONE)
    page.keyboard.press("Control+k")
    expect(search).to_be_focused()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(sheet).to_be_visible()
    expect(search).to_be_hidden()
    assert sheet.evaluate("e => e.scrollWidth <= e.clientWidth && e.getBoundingClientRect().right <= innerWidth")
    assert violations(page) == []
    page.get_by_label("Use the single keys / and ?").check()
    sheet.get_by_role("button", name="Close").click()
    button.focus()
    page.keyboard.press("/")
    expect(search).to_be_focused()
