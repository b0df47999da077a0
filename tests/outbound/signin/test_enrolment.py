"""Enrolment: a password alone sets up no second factor after the deadline, and the first factor ends other sessions."""

import re
from datetime import timedelta

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from outbound import roles
from outbound.models import SecondFactorRule
from outbound.roles import Role
from outbound.signin import enrolment
from outbound.signin.invitations import link_for
from tests.support.account_mail import account_mails, link_in
from tests.support.authenticator import Passkey, add_passkey, code_of, set_up_app

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-7"
ACCOUNT, APP, PASSKEY = "/admin/account/", "/admin/account/app/", "/admin/account/passkeys/add/"
SEND = "/admin/account/second-factor/"


@pytest.fixture
def grace() -> User:
    user = User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)
    roles.give_role(user, Role.SENDER)
    return user


@pytest.fixture
def overdue(grace) -> User:
    """A teammate whose days of grace are over."""
    User.objects.update(date_joined=timezone.now() - timedelta(days=60))
    since = timezone.now() - timedelta(days=30)
    SecondFactorRule.objects.create(role=Role.SENDER.value, required_since=since, grace_days=7)
    cache.clear()
    return grace


def logged_in(name: str = "grace", password: str = PASSWORD) -> Client:
    client = Client()
    client.post("/admin/login/", {"username": name, "password": password})
    return client


def set_up(client: Client) -> str:
    """Set up an app in the browser; return the code that was typed."""
    secret = re.search(r'id="totp-secret">(\w+)<', client.get(APP).content.decode())[1]
    code = code_of(secret)
    assert client.post(APP, {"code": code}).status_code == 302
    return code


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_code_that_set_up_the_app_does_not_log_in(grace):
    code = set_up(logged_in())
    # Another web process has another cache.
    cache.clear()
    client = logged_in()

    assert client.post("/admin/login/second-factor/", {"code": code}).status_code == 200
    assert not is_in(client)


@pytest.mark.parametrize("add", [set_up, lambda client: add_passkey(client, Passkey())], ids=["app", "passkey"])
def test_first_second_factor_ends_the_sessions_that_began_without_one(grace, add):
    here, elsewhere = logged_in(), logged_in()
    thief = Client()
    thief.cookies["sessionid"] = here.cookies["sessionid"].value
    assert is_in(thief)

    add(here)

    assert [is_in(here), is_in(elsewhere), is_in(thief)] == [True, False, False]


def test_another_second_factor_ends_no_session(grace):
    here = logged_in()
    set_up(here)
    elsewhere = Client()
    elsewhere.force_login(grace)

    add_passkey(here, Passkey())

    assert is_in(elsewhere)


def test_password_alone_sets_up_no_second_factor_after_the_deadline(overdue):
    thief = logged_in()

    page = thief.get(ACCOUNT).content.decode()
    assert "Email me a link" in page
    assert f'href="{APP}"' not in page
    assert f'href="{PASSKEY}"' not in page
    for path in (APP, PASSKEY):
        assert thief.get(path).url == ACCOUNT
        assert thief.post(path, {"code": "123456", "name": "Key", "credential": "{}"}).url == ACCOUNT
    assert not Authenticator.objects.exists()


def test_emailed_link_lets_its_browser_alone_set_up_a_second_factor(overdue):
    here, thief = logged_in(), logged_in()

    said = here.post(SEND, follow=True).content.decode()
    (sent,) = account_mails()
    link = link_in(sent)

    assert "A link is on its way to grace@acme.example" in said
    assert sent.to == ["grace@acme.example"]
    assert Client().get(link).url.startswith("/admin/login/")
    assert "Now set up your second factor" in here.get(link, follow=True).content.decode()
    assert thief.get(APP).url == ACCOUNT
    set_up(here)
    assert is_in(here)
    assert not is_in(thief)


def test_link_for_another_teammate_or_a_changed_or_old_one_is_refused(overdue):
    client, link = logged_in(), link_in_path(overdue)
    ada = User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)
    reset, invitation = f"{SEND}{overdue.pk}/", f"{SEND}{link_for(ada).rstrip('/').rpartition('/')[2]}/"

    for wrong in (link_in_path(ada), link[:-2] + "x/", reset, invitation):
        assert "no longer valid" in client.get(wrong, follow=True).content.decode(), wrong
    with time_machine.travel(timezone.now() + timedelta(hours=1, minutes=1)):
        assert "no longer valid" in logged_in().get(link, follow=True).content.decode()
    overdue.set_password("new-horse-8")
    overdue.save()
    assert "no longer valid" in logged_in(password="new-horse-8").get(link, follow=True).content.decode()


def link_in_path(user: User) -> str:
    return re.sub(r"^https?://[^/]+", "", enrolment.enrolment_link(user))


def test_opened_link_is_valid_for_an_hour_and_not_for_the_next_teammate_of_the_browser(overdue):
    client = logged_in()
    client.get(link_in_path(overdue))
    assert client.get(APP).status_code == 200
    ada = User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)
    User.objects.filter(pk=ada.pk).update(date_joined=overdue.date_joined - timedelta(days=60))
    roles.give_role(ada, Role.SENDER)

    with time_machine.travel(timezone.now() + timedelta(hours=1, minutes=1)):
        assert client.get(APP).url == ACCOUNT
    mark = client.session[enrolment.CONFIRMED_KEY]
    other = logged_in("ada")
    session = other.session
    session[enrolment.CONFIRMED_KEY] = mark
    session.save()
    assert other.get(APP).url == ACCOUNT


def test_links_are_limited_and_need_an_address(overdue):
    client = logged_in()

    said = [client.post(SEND, follow=True).content.decode() for _ in range(4)]
    assert ["Several links are on their way" in each for each in said] == [False, False, False, True]
    assert len(account_mails()) == 3
    assert client.get(SEND).status_code == 303
    User.objects.update(email="")
    assert "Your account has no email address" in client.post(SEND, follow=True).content.decode()


def test_teammate_who_needs_no_link_gets_none(grace):
    assert "You need no link" in logged_in().post(SEND, follow=True).content.decode()
    assert account_mails() == []


def test_invitation_and_link_for_a_new_password_prove_the_mailbox_too(overdue, settings):
    overdue.set_unusable_password()
    overdue.save()
    client, given = Client(), {"first_name": "Grace", "password1": PASSWORD, "password2": PASSWORD}
    page = client.get(link_for(overdue).removeprefix(settings.PUBLIC_URL), follow=True).request["PATH_INFO"]
    client.post(page, given)
    client.post("/admin/login/", {"username": "grace", "password": PASSWORD})
    assert client.get(APP).status_code == 200

    Client().post("/admin/password/forgotten/", {"email": "grace@acme.example"})
    other = Client()
    page = other.get(link_in(account_mails()[-1]), follow=True).request["PATH_INFO"]
    other.post(page, given)
    other.post("/admin/login/", {"username": "grace", "password": PASSWORD})
    assert other.get(APP).status_code == 200


def test_reset_on_the_server_prints_a_link_after_the_deadline_and_tells_the_teammate(overdue, capsys):
    set_up_app(overdue)

    call_command("reset_second_factor", "grace")

    link = re.search(r"valid for 60 minutes: https?://[^/]+(\S+)", capsys.readouterr().out)[1]
    client = logged_in()
    assert client.get(APP).url == ACCOUNT
    client.get(link)
    assert client.get(APP).status_code == 200
    (told,) = mail.outbox
    assert told.to == ["grace@acme.example"]
    assert "removed your second factors" in told.body
