"""A session that ends while a teammate is writing: no text is lost."""

import pytest
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import Page, expect

from messaging.models import Message
from tests.browser.test_composer import compose
from tests.factories import SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LOGGED_OUT = "You are logged out. Your text is still here. Log in in another tab, then continue."


def end_sessions() -> None:
    Session.objects.all().delete()


def log_in_in_another_tab(page: Page) -> None:
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Log in in another tab").click()
    tab = opened.value
    tab.get_by_label("Username").fill("boss")
    tab.get_by_label("Password").fill("pass")
    tab.get_by_role("button", name="Log in").click()
    tab.wait_for_url("**/admin/")
    tab.close()


def test_draft_survives_the_end_of_the_session_and_is_saved_after_a_login_elsewhere(console, live_server):
    SenderFactory()
    page = console
    compose(page, live_server.url)
    expect(page.locator("#summary")).to_contain_text("match")
    end_sessions()

    page.get_by_label("Subject").fill("An hour of work")

    expect(page.get_by_role("alert").filter(has_text="logged out")).to_have_text(LOGGED_OUT)
    expect(page.locator("input[type=password]")).to_have_count(0)
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_role("alert").filter(has_text="logged out")).to_have_text(LOGGED_OUT)
    log_in_in_another_tab(page)
    page.get_by_role("button", name="Save draft").click()
    expect(page.locator("body")).to_contain_text("is saved as a draft")
    assert Message.objects.get().version.subject == "An hour of work"


def test_returning_to_a_tab_detects_the_login(console, live_server):
    SenderFactory()
    page = console
    compose(page, live_server.url)
    end_sessions()
    page.get_by_label("Subject").fill("An hour of work")
    log_in_in_another_tab(page)

    page.evaluate("window.dispatchEvent(new Event('focus'))")

    expect(page.get_by_role("alert").filter(has_text="logged out")).to_have_count(0)
    expect(page.locator("#summary")).to_contain_text("match")


def test_old_page_checks_the_session_before_it_submits(console, live_server):
    page = console
    page.clock.install()
    page.goto(live_server.url + reverse("admin:audiences_tag_add"))
    page.get_by_label("Name").fill("Beta testers")
    end_sessions()
    page.clock.fast_forward("10:00")

    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.get_by_role("alert").filter(has_text="logged out")).to_have_text(LOGGED_OUT)
    expect(page.get_by_label("Name")).to_have_value("Beta testers")
