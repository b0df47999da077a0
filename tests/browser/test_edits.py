"""Nothing typed is lost, and two editors do not overwrite each other: autosave and conflicts in a real browser."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Dialog, Page, expect

from delivery.conversations import threads
from messaging.models import Autosave, Message
from tests.browser.conftest import open_context, press_and_confirm, violations
from tests.browser.test_composer import compose
from tests.browser.test_session import log_in_in_another_tab
from tests.factories import CustomerFactory, MessageFactory, SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
ADD = "/admin/messaging/message/add/"
UNSENT = "Your text is not on the server yet. It is kept in this browser."
LOGGED_OUT = "Your text is kept in this browser until you log in."
PHONE = {"width": 390, "height": 844}


def log_in(context, url: str, user: User) -> None:
    client = Client()
    client.force_login(user)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}])


@pytest.fixture
def cleo(chromium, browser_errors, server_requests, live_server, console) -> Iterator[Page]:
    """The browser of a second teammate."""
    size = {"width": 1440, "height": 900}
    with open_context(chromium, browser_errors, server_requests, viewport=size) as context:
        log_in(context, live_server.url, User.objects.create_superuser("cleo", "cleo@acme.example", first_name="Cleo"))
        yield context.new_page()


def write(page: Page, text: str) -> None:
    page.locator("trix-editor").click()
    page.keyboard.type(text)


def state(page: Page):
    return page.locator("[data-autosave-state]")


def expect_saved_automatically(page: Page) -> None:
    expect(state(page)).to_contain_text("Saved automatically at")
    expect(state(page)).to_contain_text("Only you see this.")


def questions(page: Page) -> list[str]:
    """Return a list to which the questions before leaving the page are added; each is answered with Leave."""
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", answer)
    return asked


def fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page, within="document.getElementById('main')") == []


def test_text_of_each_long_form_outlives_its_tab(console, live_server):
    SenderFactory()
    ann = CustomerFactory(name="Ann", email="ann@x.example")
    thread = threads.open_by_customer(ann, body="Where is my bill?", at=timezone.now())
    page = console
    for name, path in (
        ("composer", ADD),
        ("direct message", reverse("admin:customer_send_message", args=[ann.pk])),
        ("answer", reverse("admin:delivery_conversation_change", args=[thread.pk])),
    ):
        page.goto(live_server.url + path)
        expect(page.locator("trix-editor")).to_be_editable()
        page.reload()
        assert not Autosave.objects.open().exists(), name

        write(page, f"Dear Ann, {name}")
        expect_saved_automatically(page)
        if name == "answer":
            page.get_by_role("button", name="Note", exact=True).click()
            expect(state(page)).to_contain_text("Saved")
            write(page, " and us")
        asked = questions(page)
        expect(page.locator("trix-editor")).to_contain_text(name)
        with page.expect_event("close"):
            page.close(run_before_unload=True)
        page = page.context.new_page()
        page.goto(live_server.url + path)

        # The page may show the text of the server first, and reload for the last keys, which are in this browser.
        expect(page.locator("trix-editor")).to_have_text(f"Dear Ann, {name}{' and us' if name == 'answer' else ''}")
        expect(page.get_by_role("status").filter(has_text="Restored what you typed")).to_be_visible()
        if name == "answer":
            expect(page.get_by_role("button", name="Add note")).to_be_visible()
        else:
            assert asked == [], name
        page.wait_for_load_state("networkidle")
        for size in (PHONE, {"width": 1440, "height": 900}):
            page.set_viewport_size(size)
            fits(page)
        page.get_by_role("button", name="Discard", exact=True).click()
        expect(page.locator("trix-editor")).to_have_text("")
        assert not Autosave.objects.open().exists(), name
    assert not Message.objects.exists()


def test_text_typed_without_a_connection_is_restored_from_the_browser(console, live_server, context, browser_errors):
    browser_errors.allow("net::ERR_INTERNET_DISCONNECTED")
    SenderFactory()
    page = console
    page.goto(live_server.url + ADD)
    write(page, "First")
    expect_saved_automatically(page)

    context.set_offline(True)
    page.get_by_label("Subject").fill("Typed in a tunnel")
    expect(state(page)).to_have_text(UNSENT)
    page.get_by_role("button", name="Save draft").click()
    expect(state(page)).to_contain_text("so nothing was saved")
    expect(page.get_by_role("button", name="Save draft")).to_be_enabled()
    asked = questions(page)
    with page.expect_event("close"):
        page.close(run_before_unload=True)
    assert asked == ["beforeunload"]
    context.set_offline(False)
    page = context.new_page()
    page.goto(live_server.url + ADD)

    expect(page.get_by_label("Subject")).to_have_value("Typed in a tunnel")
    expect(page.locator("trix-editor")).to_have_text("First")
    page.get_by_role("button", name="Save draft").click()
    expect(page.locator("body")).to_contain_text("is saved as a draft")
    assert Message.objects.get().version.subject == "Typed in a tunnel"
    page.goto(live_server.url + ADD)
    expect(page.get_by_label("Subject")).to_have_value("")
    assert page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('outbound-autosave'))") == []


def test_connection_lost_while_a_draft_is_saved_loses_no_text(console, live_server, context, browser_errors):
    browser_errors.allow("net::ERR_")
    SenderFactory()
    page = console
    compose(page, live_server.url, subject="Kept")
    # The server is not reached, although the browser believes itself online.
    page.route("**/admin/**", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    page.get_by_label("Subject").fill("Kept too")
    expect(state(page)).to_have_text(UNSENT)
    page.get_by_role("button", name="Save draft").click()
    page.wait_for_url("chrome-error://**")
    page.unroute("**/admin/**")

    page.goto(live_server.url + ADD)

    expect(page.get_by_label("Subject")).to_have_value("Kept too")
    expect(page.locator("trix-editor")).to_have_text("Welcome")
    assert not Message.objects.exists()


def test_text_typed_after_the_session_ended_is_restored_after_a_login(console, live_server):
    thread = threads.open_by_customer(CustomerFactory(name="Ann"), body="Hello?", at=timezone.now())
    address = live_server.url + reverse("admin:delivery_conversation_change", args=[thread.pk])
    page = console
    page.goto(address)
    expect(page.locator("trix-editor")).to_be_editable()
    Session.objects.all().delete()
    write(page, "It is on its way")
    expect(state(page)).to_have_text(LOGGED_OUT)
    asked = questions(page)

    log_in_in_another_tab(page)
    page.goto(address)

    expect(page.locator("trix-editor")).to_have_text("It is on its way")
    assert asked in ([], ["beforeunload"])
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#thread-parts")).to_contain_text("It is on its way")
    expect(page.locator("trix-editor")).to_have_text("")


def test_back_restores_text_and_leaving_asks_until_the_server_has_it(console, live_server):
    draft = MessageFactory(subject="Hello")
    address = live_server.url + reverse("admin:messaging_message_change", args=[draft.pk])
    page = console
    page.goto(address)
    asked = questions(page)
    page.get_by_label("Subject").click()
    page.keyboard.type(" you")
    page.get_by_role("link", name="Inbox").first.click()
    page.wait_for_url("**/conversation/**")
    assert asked == ["beforeunload"]

    page.go_back()

    expect(page.get_by_label("Subject")).to_have_value("Hello you")
    page.get_by_label("Subject").click()
    page.keyboard.press("End")
    page.keyboard.type(" all")
    expect_saved_automatically(page)
    page.get_by_role("link", name="Inbox").first.click()
    page.wait_for_url("**/conversation/**")
    assert asked == ["beforeunload"]


def test_launch_from_the_final_sheet_never_asks_whether_to_leave(console, live_server, browser_errors):
    browser_errors.allow("503")
    SenderFactory()
    CustomerFactory(email="ann@x.example")
    page = console
    compose(page, live_server.url, subject="Hello")
    page.get_by_label("One-off").check()
    expect_saved_automatically(page)
    page.route("**/admin/autosave/", lambda route: route.fulfill(status=503, body=""))
    page.get_by_label("Subject").fill("Hello again")
    expect(state(page)).to_have_text(UNSENT)
    asked = questions(page)

    press_and_confirm(page, "Set live")

    expect(page.locator("body")).to_contain_text("is live")
    assert asked == []
    assert Message.objects.get().version.subject == "Hello again"
    page.unroute("**/admin/autosave/")
    page.goto(live_server.url + ADD)
    expect(page.get_by_label("Subject")).to_have_value("")
    assert not Autosave.objects.open().exists()


def test_two_editors_of_a_draft_see_each_other_and_compare_their_texts(console, cleo, live_server):
    draft = MessageFactory(subject="Hello", title="Welcome", body="<p>Old text</p>")
    address = live_server.url + reverse("admin:messaging_message_change", args=[draft.pk])
    page = console
    page.goto(address)
    cleo.goto(address)
    expect(cleo.locator("[data-others]")).to_have_text("boss has this open too.")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-others]")).to_have_text("Cleo has this open too.")
    page.get_by_label("Subject").fill("Mine")
    cleo.get_by_label("Subject").fill("Cleo's")
    cleo.get_by_role("button", name="Save draft").click()
    expect(cleo.locator("body")).to_contain_text("is saved as a draft")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-others]")).to_contain_text("Cleo saved a newer version at")

    page.get_by_role("button", name="Save draft").click()

    expect(page.get_by_role("alert")).to_contain_text("Cleo saved a newer version")
    for size in (PHONE, {"width": 1440, "height": 900}):
        page.set_viewport_size(size)
        fits(page)
    page.get_by_role("link", name="Back to your text").click()
    expect(page.get_by_label("Subject")).to_have_value("Mine")
    page.get_by_role("button", name="Save draft").click()
    subject = page.get_by_role("group", name="Subject")
    expect(subject).to_contain_text("Cleo's")
    subject.get_by_role("radio", name="Yours").check()
    page.get_by_role("button", name="Save with these texts").click()
    expect(page.locator("body")).to_contain_text("is saved as a draft")
    assert Message.objects.get().version.subject == "Mine"
    assert not Autosave.objects.open().exists()
