"""The integration page in a real browser: a token is created and copied, and the snippet works."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, expect
from rest_framework.test import APIClient

from delivery import schedule

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def console(context, live_server, transactional_db, settings) -> Page:
    settings.PUBLIC_URL = live_server.url
    schedule.install()
    client = Client()
    client.force_login(User.objects.create_superuser("boss", "boss@acme.example", "pass"))
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{live_server.url}/admin/")
    page.get_by_role("link", name="Integration").click()
    return page


def copied(page: Page) -> str:
    return page.evaluate("navigator.clipboard.readText()")


def test_created_token_is_copied_and_works(console):
    console.get_by_label("Name of a new token").fill("The shop")
    console.get_by_role("button", name="Create a token").click()
    console.locator("[data-copy=token]").click()
    expect(console.locator("#copied")).to_have_text("Copied")

    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {copied(console)}")
    me = client.get("/api/me").json()
    assert (me["integration"]["name"], me["email"]) == ("The shop", "boss@acme.example")


def test_snippet_opens_the_messenger_on_a_registered_website(console, context, site):
    console.get_by_label("Website", exact=True).fill(f"{site.origin}/shop")
    console.get_by_role("button", name="Add", exact=True).click()
    expect(console.get_by_text("Remove the path")).to_be_visible()
    console.get_by_label("Website", exact=True).fill(site.origin)
    console.get_by_role("button", name="Add", exact=True).click()
    expect(console.locator(".ob-origins")).to_contain_text(site.origin)

    console.get_by_text("Pages without a login").click()
    console.locator("[data-copy=snippet-visitors]").click()
    expect(console.locator("#copied")).to_have_text("Copied")

    page = context.new_page()
    page.goto(site.put("/", f"<!doctype html><html lang=en><title>x</title><h1>Shop</h1>{copied(console)}</html>"))
    expect(page.locator("outbound-messenger .launcher")).to_be_visible()
