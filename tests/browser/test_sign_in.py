"""Sign-in in a browser: app, recovery code, passkey, a role that needs a second factor."""

import oidc_provider_mock
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.utils import timezone
from playwright.sync_api import Page, expect

from outbound import roles
from outbound.models import SecondFactorRule
from outbound.roles import Role
from tests.browser.conftest import AXE
from tests.browser.test_accessibility import wrong_with
from tests.support.account_mail import account_mails, link_in
from tests.support.authenticator import code_of
from tests.support.identity_provider import openid_settings

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "correct-horse-7"


@pytest.fixture
def grace() -> User:
    roles.install()
    user = User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True, first_name="Grace")
    roles.give_role(user, Role.SENDER)
    return user


def log_in(page: Page, base: str) -> None:
    page.goto(f"{base}/admin/login/")
    page.get_by_label("Email or username").fill("grace")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()


def log_out(page: Page) -> None:
    page.context.clear_cookies()


def check_accessibility(page: Page) -> None:
    page.evaluate(AXE + ";0")
    assert wrong_with(page) == []


def add_authenticator(page: Page) -> None:
    """Give the browser a device that keeps passkeys and recognises its owner."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    session.send(
        "WebAuthn.addVirtualAuthenticator",
        {"options": {**options, "isUserVerified": True, "automaticPresenceSimulation": True}},
    )


@pytest.mark.usefixtures("grace")
def test_required_app_is_set_up_and_asked_for_and_a_recovery_code_replaces_it(page, live_server):
    SecondFactorRule.objects.create(role=Role.SENDER, required_since=timezone.now(), grace_days=0)
    cache.clear()

    log_in(page, live_server.url)
    expect(page.get_by_role("alert")).to_contain_text("Your role needs a second factor.")
    expect(page.get_by_role("link", name="Set up an app")).to_have_count(0)
    check_accessibility(page)
    page.get_by_role("button", name="Email me a link").click()
    expect(page.get_by_text("A link is on its way to grace@acme.example.")).to_be_visible()
    (sent,) = account_mails()
    page.goto(live_server.url + link_in(sent))
    expect(page.get_by_text("Now set up your second factor.")).to_be_visible()
    page.get_by_role("link", name="Set up an app").click()
    secret = page.locator("#totp-secret").inner_text()
    check_accessibility(page)
    page.get_by_label("Code of the app").fill(code_of(secret))
    page.get_by_role("button", name="Turn it on").click()
    codes = page.get_by_label("Recovery codes").inner_text().split()
    check_accessibility(page)
    assert len(codes) == 10
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.path().read_text().split() == codes
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_text("10 are left")).to_be_visible()

    log_out(page)
    log_in(page, live_server.url)
    code = page.get_by_label("Code of your app, or a recovery code")
    code.fill("000000 ")
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_text("This code is not valid.")).to_be_visible()
    check_accessibility(page)
    code.fill(code_of(secret, step=1))
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/admin/")

    log_out(page)
    log_in(page, live_server.url)
    code.fill(codes[0])
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/admin/")


@pytest.mark.usefixtures("grace")
def test_passkey_is_added_and_logs_in_with_and_without_the_password(page, live_server):
    add_authenticator(page)
    log_in(page, live_server.url)
    page.wait_for_url("**/admin/")
    page.goto(f"{live_server.url}/admin/account/")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Name").fill("Laptop")
    check_accessibility(page)
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("row").filter(has_text="Laptop")).to_be_visible()
    check_accessibility(page)

    log_out(page)
    log_in(page, live_server.url)
    check_accessibility(page)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/admin/")

    log_out(page)
    page.goto(f"{live_server.url}/admin/login/?next=/admin/account/")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/admin/account/")
    page.get_by_role("link", name="Rename Laptop").click()
    page.get_by_label("Name").fill("Old laptop")
    page.get_by_role("button", name="Save the name").click()
    page.get_by_role("link", name="Remove Old laptop").click()
    page.get_by_role("button", name="Remove the passkey").click()
    expect(page.get_by_text("Your passkey is removed.")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Old laptop")).to_have_count(0)


@pytest.mark.usefixtures("grace")
def test_session_is_ended_from_another_browser(page, chromium, live_server):
    log_in(page, live_server.url)
    page.wait_for_url("**/admin/")
    lost = chromium.new_context(user_agent="Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/130.0").new_page()
    log_in(lost, live_server.url)
    lost.wait_for_url("**/admin/")

    page.goto(f"{live_server.url}/admin/account/")
    row = page.get_by_role("row").filter(has_text="Firefox on Windows")
    check_accessibility(page)
    row.get_by_role("button", name="End").click()
    expect(page.get_by_text("1 session ended.")).to_be_visible()
    expect(row).to_have_count(0)

    lost.reload()
    lost.wait_for_url("**/admin/login/**")
    page.reload()
    expect(page.get_by_text("This browser", exact=True)).to_be_visible()
    lost.context.close()


@pytest.mark.usefixtures("grace")
def test_identity_is_linked_and_logs_in(page, live_server, settings, browser_errors):
    # The provider's page loads a style from the internet.
    browser_errors.allow("pico.min.css")
    with oidc_provider_mock.run_server_in_thread() as provider:
        settings.SOCIALACCOUNT_PROVIDERS = openid_settings(f"http://localhost:{provider.server_port}")
        log_in(page, live_server.url)
        page.wait_for_url("**/admin/")
        page.goto(f"{live_server.url}/admin/account/")
        page.get_by_role("button", name="Link Acme login").click()
        page.get_by_placeholder("sub").fill("g-1")
        page.get_by_role("button", name="Authorize").click()
        expect(page.get_by_text("Your identity is linked.")).to_be_visible()
        check_accessibility(page)

        log_out(page)
        page.goto(f"{live_server.url}/admin/login/")
        check_accessibility(page)
        page.get_by_role("button", name="Log in with Acme login").click()
        page.get_by_placeholder("sub").fill("g-1")
        page.get_by_role("button", name="Authorize").click()
        page.wait_for_url(f"{live_server.url}/admin/")

        log_out(page)
        page.goto(f"{live_server.url}/admin/login/")
        page.get_by_role("button", name="Log in with Acme login").click()
        page.get_by_placeholder("sub").fill("grace@acme.example")
        page.get_by_role("button", name="Authorize").click()
        expect(page.get_by_role("alert")).to_contain_text("This identity is not linked to a teammate.")
