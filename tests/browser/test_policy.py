"""The console's content security policy in a real browser: our pages work under it, and injected code does not.

`test_accessibility` opens one page of each kind and checks that none breaks its policy.
"""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, expect

from tests.browser.test_messenger import eventually
from tests.factories import CustomerFactory, MessageFactory, SenderFactory

SMUGGLED = """() => {
    const inside = document.createElement('div');
    inside.innerHTML = '<img src="data:," onerror="window.ran = 1"><a href="javascript:window.ran = 2" id="js">x</a>';
    const written = document.createElement('script'), fetched = document.createElement('script');
    written.textContent = 'window.ran = 3';
    fetched.src = 'https://evil.example/x.js';
    document.body.append(inside, written, fetched);
    document.getElementById('js').click();
}"""
POSTED = """() => {
    const form = document.createElement('form');
    Object.assign(form, { action: 'https://evil.example/', method: 'post' });
    document.body.append(form);
    form.submit();
}"""
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def refused(page: Page, live_server, transactional_db, browser_errors) -> list[str]:
    """Collect the browser's policy violations and errors while an Admin uses the console."""
    boss = User.objects.filter(username="boss").first() or User.objects.create_superuser("boss", password="pass")
    client = Client()
    client.force_login(boss)
    page.context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}]
    )
    return browser_errors.found


def test_alpine_trix_and_the_preview_work_under_the_policy(page, live_server, refused):
    SenderFactory()
    CustomerFactory(name="Ada Byron", email="ada@acme.example")
    page.goto(f"{live_server.url}/admin/messaging/message/add/")
    page.wait_for_load_state("networkidle")

    page.locator("trix-editor, [contenteditable]").first.click()
    page.keyboard.type("Hello there")

    expect(page.locator("iframe").first).to_be_visible()
    expect(page.frame_locator("iframe").first.get_by_text("Hello there")).to_be_visible()
    assert refused == []


def test_injected_script_does_not_run(page, live_server, refused, browser_errors):
    browser_errors.allow("Content Security Policy")
    page.goto(f"{live_server.url}/admin/")

    page.evaluate(SMUGGLED)

    eventually(lambda: sum("Content Security Policy" in one for one in refused) >= 4, page)
    assert page.evaluate("window.ran") is None


def test_injected_form_cannot_post_to_another_origin(page, live_server, refused, browser_errors):
    browser_errors.allow("Content Security Policy")
    page.goto(f"{live_server.url}/admin/")

    page.evaluate(POSTED)

    eventually(lambda: any("form-action" in one for one in refused), page)
    assert page.url.startswith(live_server.url)


def test_console_cannot_be_framed_by_another_website(page, live_server, refused, site, browser_errors):
    browser_errors.allow("Content Security Policy")
    address = site.put("/", f'<iframe src="{live_server.url}/admin/"></iframe>')

    page.goto(address)
    page.wait_for_timeout(500)

    assert not any("/admin/" in frame.url for frame in page.frames[1:])


def test_script_in_a_message_is_shown_but_does_not_run(page, live_server, refused):
    message = MessageFactory(live=True, body="<p>What is new</p>")
    page.goto(f"{live_server.url}/admin/messaging/message/{message.pk}/change/")
    page.wait_for_load_state("networkidle")

    for frame in page.locator("iframe").all():
        assert frame.get_attribute("sandbox") == ""
    expect(page.frame_locator("iframe").first.get_by_text("What is new")).to_be_visible()
    assert refused == []


def test_login_and_api_pages_work_under_the_policy(page, live_server, refused):
    page.context.clear_cookies()

    for path in ("/admin/login/", "/admin/password/forgotten/", "/api/docs/"):
        page.goto(live_server.url + path)
        page.wait_for_load_state("networkidle")

    expect(page.get_by_text("/api/users").first).to_be_visible()
    assert refused == []
