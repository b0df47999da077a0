"""“Send a message” as a sheet over the current page, in a real browser."""

import re

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import FrameLocator, Page, expect

from delivery.conversations import threads
from messaging.models import Autosave, Message
from tests.browser.conftest import AXE, violations, without_scripts
from tests.factories import CustomerFactory, SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SIZES = ({"width": 1440, "height": 900}, {"width": 390, "height": 844})
AXE_FINDINGS = "axe.run('.ob-narrow', {resultTypes: ['violations']}).then((found) => found.violations)"


def frame_of(page: Page) -> FrameLocator:
    return page.frame_locator("dialog iframe")


def editor_of(page: Page):
    return frame_of(page).locator("trix-editor")


def expect_focus_in_text(page: Page) -> None:
    expect(page.locator("dialog iframe")).to_be_focused()
    expect(editor_of(page)).to_be_focused()


def answer_questions(page: Page, *, accept: bool) -> list[str]:
    asked: list[str] = []

    def answer(dialog) -> None:
        asked.append(dialog.message)
        if accept:
            dialog.accept()
        else:
            dialog.dismiss()

    page.on("dialog", answer)
    return asked


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size['width']}")
def test_profile_list_inbox_and_palette_open_the_sheet_with_focus_in_the_text(console, live_server, size):
    SenderFactory()
    ann = CustomerFactory(name="Ann", email="ann@x.example")
    thread = threads.open_by_customer(ann, body="Where is my bill?", at=timezone.now())
    page = console
    page.set_viewport_size(size)
    for path in (
        reverse("admin:audiences_customer_change", args=[ann.pk]),
        reverse("admin:audiences_customer_changelist"),
        reverse("admin:delivery_conversation_change", args=[thread.pk]),
        "/admin/",
    ):
        page.goto(live_server.url + path)
        link = page.locator("a[data-message-sheet]")
        if path == "/admin/":
            page.keyboard.press("Control+k")
            page.keyboard.type("send ann")
            page.keyboard.press("Enter")
        else:
            link.click()

        expect_focus_in_text(page)
        assert page.url == live_server.url + path
        sheet = page.locator("dialog.ob-message-sheet")
        assert sheet.evaluate("e => e.getBoundingClientRect().right <= innerWidth")
        inside = page.frames[-1]
        assert inside.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if path == "/admin/":
            inside.evaluate(AXE + ";0")
            assert inside.evaluate(AXE_FINDINGS) == []
            assert violations(page, within="{include: ['dialog.ob-message-sheet'], exclude: ['iframe']}") == []
        page.keyboard.press("Escape")
        expect(sheet).to_be_hidden()
        if path != "/admin/":
            expect(link).to_be_focused()
    assert not Autosave.objects.exists()


def test_message_is_sent_from_the_sheet_and_shown_on_the_profile(console, live_server):
    SenderFactory()
    ann = CustomerFactory(name="Ann", email="ann@x.example")
    page = console
    page.goto(live_server.url + reverse("admin:audiences_customer_change", args=[ann.pk]))
    page.evaluate("document.body.isTheSamePage = true")
    page.locator("a[data-message-sheet]").click()
    expect_focus_in_text(page)
    frame_of(page).get_by_role("button", name="Send", exact=True).click()
    # A refused form keeps the sheet open and names the field.
    expect(frame_of(page).locator(".ob-error:visible")).to_have_text("The message has no text yet.")
    expect(frame_of(page).locator(".ob-error:visible")).to_be_in_viewport()
    expect_focus_in_text(page)
    page.keyboard.type("Your bill is attached.")
    frame_of(page).get_by_role("button", name="Send", exact=True).click()

    expect(page.get_by_role("status").filter(has_text="Ann will see the message")).to_be_visible()
    expect(page.locator("dialog.ob-message-sheet")).to_be_hidden()
    expect(page.locator(".ob-feed").first).to_contain_text("Your bill is attached.")
    assert page.evaluate("document.body.isTheSamePage")
    assert Message.objects.get().to_customer == ann
    assert not Autosave.objects.open().exists()


def test_closing_with_typed_text_asks_and_keeps_the_text(console, live_server):
    SenderFactory()
    ann = CustomerFactory(name="Ann", email="ann@x.example")
    page = console
    page.goto(live_server.url + reverse("admin:audiences_customer_change", args=[ann.pk]))
    link, sheet = page.locator("a[data-message-sheet]"), page.locator("dialog.ob-message-sheet")
    link.click()
    expect_focus_in_text(page)
    page.keyboard.type("Dear Ann")
    asked = answer_questions(page, accept=False)
    page.keyboard.press("Escape")
    expect(editor_of(page)).to_have_text("Dear Ann")
    assert len(asked) == 1
    expect(sheet).to_be_visible()
    frame_of(page).get_by_role("button", name="Close").click()
    assert len(asked) == 2
    page.keyboard.type(", how are you")
    # Leaving the page asks too, as the server may not have the last keys.
    expect(frame_of(page).locator("[data-autosave-state]")).to_contain_text("Saved automatically")

    page.close()
    page = console.context.new_page()
    page.goto(live_server.url + reverse("admin:audiences_customer_change", args=[ann.pk]))
    page.locator("a[data-message-sheet]").click()
    expect(editor_of(page)).to_contain_text("Dear Ann")
    expect(frame_of(page).get_by_text("Restored what you typed")).to_be_visible()
    asked = answer_questions(page, accept=True)
    expect(editor_of(page)).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.type(" today")
    frame_of(page).get_by_role("link", name="Cancel").click()
    expect(page.locator("dialog.ob-message-sheet")).to_be_hidden()
    assert len(asked) == 1
    page.locator("a[data-message-sheet]").click()
    expect(editor_of(page)).to_contain_text("today")


def test_link_opens_the_page_without_the_sheets_script(console, live_server):
    ann = CustomerFactory(name="Ann", email="ann@x.example")
    page = without_scripts(console, re.compile(r"/message_sheet"))
    page.goto(live_server.url + reverse("admin:audiences_customer_change", args=[ann.pk]))
    page.locator("a[data-message-sheet]").click()
    page.wait_for_url("**/message/")
    expect(page.locator("trix-editor")).to_be_focused()


def test_sheet_that_cannot_open_says_so(console, live_server, browser_errors):
    browser_errors.allow("ERR_FAILED|chrome-error")
    ann = CustomerFactory(name="Ann", email="ann@x.example")
    page = console
    page.goto(live_server.url + reverse("admin:audiences_customer_change", args=[ann.pk]))
    page.route("**/message/?sheet=1", lambda route: route.abort())
    page.locator("a[data-message-sheet]").click()
    expect(page.get_by_role("alert")).to_contain_text("The form did not open.")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog.ob-message-sheet")).to_be_hidden()
