"""Emails about accounts, the counter of failed logins, and pages that a login leads to."""

import re
from pathlib import Path
from threading import Event

import allauth
import pytest
from allauth.account.models import EmailAddress
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client

from outbound.signin import adapter
from tests.support.account_mail import account_mails
from tests.support.authenticator import Passkey, add_passkey, code_of

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-7"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
# Changes of addresses and sign-ups have no pages here.
WITHOUT_PAGE = {"account/email/email_changed", "account/email/email_confirm", "account/email/email_deleted"}


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)


def logged_in() -> Client:
    client = Client(REMOTE_ADDR="192.0.2.7", headers={"user-agent": FIREFOX})
    client.post("/admin/login/", {"username": "grace", "password": PASSWORD})
    return client


def test_every_change_of_allauth_has_its_text():
    sources = [path.read_text() for path in Path(allauth.__file__).parent.rglob("*.py") if "tests" not in path.parts]
    sent = {name for text in sources for name in re.findall(r'send_notification_mail\(\s*"([^"]+)"', text)}

    assert len(sent) > 8
    assert sent - WITHOUT_PAGE == {change for change in adapter.CHANGES if "/" in change}


def test_teammate_is_told_about_each_change_at_the_address_of_the_account(
    grace, settings, django_capture_on_commit_callbacks
):
    EmailAddress.objects.create(user=grace, email="eve@evil.example", primary=True, verified=True)
    client, account = logged_in(), "/admin/account/"
    secret = re.search(r'id="totp-secret">(\w+)<', client.get(f"{account}app/").content.decode())[1]

    with django_capture_on_commit_callbacks(execute=True):
        client.post(f"{account}app/", {"code": code_of(secret)})
        client.post(f"{account}recovery-codes/new/")
    add_passkey(client, Passkey())
    client.post(f"{account}app/remove/")
    client.post(f"{account}passkeys/{grace.authenticator_set.get(type='webauthn').pk}/remove/")
    new = {"password1": "new-horse-8", "password2": "new-horse-8"}
    client.post("/admin/password_change/", {"oldpassword": PASSWORD, **new})

    sent = account_mails()
    assert {message.to[0] for message in sent} == {"grace@acme.example"}
    changes = [message.body.splitlines()[4] for message in sent]
    assert sorted(changes) == sorted(
        adapter.CHANGES[name]
        for name in (
            *("mfa/email/totp_activated", "mfa/email/recovery_codes_generated", "mfa/email/webauthn_added"),
            *("mfa/email/totp_deactivated", "mfa/email/webauthn_removed", "account/email/password_changed"),
        )
    )
    for message in sent:
        assert message.subject.startswith("Please check your sign-in to ")
        assert "From: Firefox on Linux, 192.0.2.7" in message.body
        assert f"{settings.PUBLIC_URL}/admin/password/forgotten/" in message.body
        assert "{" not in message.body


def test_account_without_an_address_is_told_nothing(grace):
    User.objects.update(email="")

    logged_in().post(
        "/admin/password_change/", {"oldpassword": PASSWORD, "password1": "x-horse-88", "password2": "x-horse-88"}
    )

    grace.refresh_from_db()
    assert grace.check_password("x-horse-88")
    assert account_mails() == []


class SlowBackend(EmailBackend):
    """A mail server that answers once the test says so."""

    goes_on = Event()

    def send_messages(self, messages):
        assert self.goes_on.wait(20)
        return super().send_messages(messages)


def test_emails_that_wait_for_a_slow_server_are_limited(grace, monkeypatch, caplog):
    monkeypatch.setattr(mail, "get_connection", lambda *_, **__: SlowBackend())
    request = logged_in().get("/admin/account/").wsgi_request
    SlowBackend.goes_on.clear()

    with adapter.allauth_context.request_context(request):
        for _ in range(adapter.WAITING_MAILS_MOST + 2):
            adapter.AccountAdapter(request).send_notification_mail("account/email/password_set", grace)
    SlowBackend.goes_on.set()

    assert len(account_mails()) == adapter.WAITING_MAILS_MOST
    assert caplog.text.count("was not sent: 100 others are waiting") == 2


def test_failed_email_is_logged_and_makes_room(grace, monkeypatch, caplog):
    monkeypatch.setattr(EmailBackend, "send_messages", lambda *_: 1 / 0)

    logged_in().post("/admin/password/forgotten/", {"email": "grace@acme.example"})
    Client().post("/admin/password/forgotten/", {"email": "grace@acme.example"})

    assert account_mails() == []
    assert "could not be sent" in caplog.text


def test_right_password_of_an_account_that_is_no_teammate_counts_as_failed(settings):
    settings.AXES_ENABLED, settings.AXES_FAILURE_LIMIT = True, 3
    User.objects.create_user("shop", "shop@acme.example", PASSWORD, is_staff=False)

    for password in (PASSWORD, "guess"):
        AccessAttempt.objects.all().delete()
        knocks = [Client().post("/admin/login/", {"username": "shop", "password": password}) for _ in range(4)]
        assert [answer.status_code for answer in knocks] == [200, 200, 429, 429], password


@pytest.mark.parametrize("to", ["https://other.example/", "https://trusted.example/"])
def test_login_leads_to_no_other_host_even_if_it_is_allowed(grace, settings, to):
    settings.ALLOWED_HOSTS = ["testserver", "other.example", "*"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example"]

    for page in ("/admin/login/", "/admin/account/confirm/"):
        client = logged_in() if page != "/admin/login/" else Client()
        given = {"username": "grace", "password": PASSWORD, "next": to}
        assert client.post(page, given).url == "/admin/", page
