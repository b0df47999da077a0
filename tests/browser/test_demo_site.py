"""The demo's website: its server signs the logged-in user, and its strict CSP allows the messenger."""

import pytest
from django.urls import include, path
from django.utils import timezone
from playwright.sync_api import Page, expect

from audiences.models import Customer, Event
from config.urls import urlpatterns as ours
from delivery.models import Conversation
from tests.browser.test_messenger import eventually
from tests.factories import CustomerFactory, MessageFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]
urlpatterns = [*ours, path("demo/", include("config.demo.urls"))]


@pytest.fixture
def page(page: Page) -> Page:
    page.add_init_script(
        "window.wrong = [];"
        "document.addEventListener('securitypolicyviolation', (what) => wrong.push(what.violatedDirective))"
    )
    return page


def log_in(page: Page, user_id: str) -> None:
    page.get_by_role("link", name="Log in").first.click()
    page.get_by_label("Or by user ID").fill(user_id)
    page.get_by_role("button", name="Log in").click()


def test_visitor_asks_logs_in_acts_and_logs_out(live_server, page, settings):
    settings.PUBLIC_URL = live_server.url
    ann = CustomerFactory(user_id="ann", name="Ann Lee", signed_up_at=timezone.now())
    MessageFactory(in_app=True, body="<p>Hi {{ first_name }}</p>", live=True, at=timezone.now())
    page.goto(f"{live_server.url}/demo/site/")
    page.get_by_role("button", name="Ask us").click()
    page.get_by_role("textbox", name="Write a message").fill("Is there a trial?")
    page.keyboard.press("Enter")
    expect(page.locator(".part.own:not(.pending)")).to_contain_text("Is there a trial?")
    page.keyboard.press("Escape")

    log_in(page, "ann")
    expect(page.get_by_role("heading", name="Good to see you, Ann")).to_be_visible()
    expect(page.locator(".snippet")).to_contain_text("Hi Ann")
    assert Conversation.objects.in_inbox().get().customer == ann
    page.get_by_role("link", name="Projects", exact=True).click()
    page.get_by_role("button", name="Create a project").click()
    expect(page.locator("#done")).to_contain_text("created-project")
    eventually(Event.objects.exists, page)
    assert Event.objects.get().customer == ann
    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_role("link", name="Log in").first).to_be_visible()
    expect(page.locator("outbound-messenger .launcher")).to_be_visible()
    assert page.locator(".snippet").count() == 0
    assert page.evaluate("window.wrong") == []
    assert Customer.objects.filter(archived_at=None).count() == 1


def test_login_page_offers_customers_of_each_kind(client):
    CustomerFactory(user_id="u1", name="Newest", signed_up_at=timezone.now())
    CustomerFactory(user_id="u2", name="Away", last_seen_at="2020-01-01T00:00:00Z", unsubscribed_from_emails=True)

    offered = client.get("/demo/site/log-in/").content.decode()

    for words in ("Newest", "Just signed up", "Away", "Not seen for a month", "Unsubscribed"):
        assert words in offered


@pytest.mark.parametrize("user_id", ["nobody", "", "a\0b"])
def test_login_as_a_missing_customer_is_refused(client, user_id):
    answered = client.post("/demo/site/log-in/as/", {"user_id": user_id})

    assert answered["Location"] == "/demo/site/log-in/"
    assert b"Log out" not in client.get("/demo/site/").content
