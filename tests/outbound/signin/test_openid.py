"""OpenID Connect with a provider on a real socket: links, logins, and attacks on both."""

import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import jwt
import oidc_provider_mock
import pytest
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.oauth2.client import OAuth2Client
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from messaging.models import Sender
from outbound import roles
from outbound.models import SecondFactorRule
from outbound.roles import Role
from outbound.signin.accounts import state_of
from outbound.signin.invitations import link_for
from tests.support.authenticator import set_up_app
from tests.support.fresh_settings import execute_settings
from tests.support.identity_provider import (
    address_at_provider,
    callback_of,
    login_url,
    openid_settings,
    sign_in_at,
)

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-7"
ACCOUNT = "/admin/account/"


@pytest.fixture(scope="module")
def issuers() -> Iterator[tuple[str, str]]:
    """Two identity providers."""
    with oidc_provider_mock.run_server_in_thread() as one, oidc_provider_mock.run_server_in_thread() as two:
        yield tuple(f"http://localhost:{server.server_port}" for server in (one, two))


@pytest.fixture
def issuer(issuers, settings) -> str:
    settings.SOCIALACCOUNT_PROVIDERS = openid_settings(issuers[0])
    return issuers[0]


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)


def logged_in() -> Client:
    client = Client()
    client.post("/admin/login/", {"username": "grace", "password": PASSWORD})
    return client


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def linked(grace: User, issuer: str, *, subject: str = "g-1") -> SocialAccount:
    sign_in_at(logged_in(), issuer, subject=subject, process="connect")
    return SocialAccount.objects.get(user=grace)


def is_refused(answer) -> bool:
    return answer.status_code == 401 and "did not work" in answer.content.decode()


def test_linked_identity_logs_in_and_its_link_can_be_removed(grace, issuer):
    link = linked(grace, issuer)
    assert (link.uid, link.provider.startswith("oidc-")) == ("g-1", True)
    client = Client()
    assert "Log in with Acme login" in " ".join(client.get("/admin/login/").content.decode().split())

    assert sign_in_at(client, issuer, subject="g-1", next=ACCOUNT).url == ACCOUNT

    assert is_in(client)
    assert "Linked since" in client.get(ACCOUNT).content.decode()
    client.post("/admin/account/links/", {"account": link.pk})
    assert not SocialAccount.objects.exists()
    assert "is not linked to a teammate" in sign_in_at(Client(), issuer, subject="g-1").content.decode()


def test_address_alone_links_and_logs_in_nobody(grace, issuer):
    # The provider says that this subject has the address of Grace.
    invited = User.objects.create_user("ada@acme.example", "ada@acme.example", is_staff=True)
    for address in (grace.email, invited.email, "eve@evil.example"):
        client = Client()
        answer = sign_in_at(client, issuer, subject=address)
        assert "is not linked to a teammate" in answer.content.decode()
        assert not is_in(client)

    assert not SocialAccount.objects.exists()
    assert User.objects.count() == 2


def test_invited_teammate_accepts_with_an_identity(issuer, settings):
    invited = User.objects.create_user("ada@acme.example", "ada@acme.example", is_staff=True)
    link, client = link_for(invited).removeprefix(settings.PUBLIC_URL), Client()
    page = client.get(link, follow=True)
    assert "Accept with Acme login" in " ".join(page.content.decode().split())

    there = sign_in_at(client, issuer, subject="a-1", next=page.request["PATH_INFO"])

    assert there.url == "/admin/"
    assert is_in(client)
    assert SocialAccount.objects.get().user == invited
    assert Sender.objects.get().teammate == invited
    invited.refresh_from_db()
    assert state_of(invited) == "Active"
    assert "no longer valid" in Client().get(link, follow=True).content.decode()
    # Without a password, the provider confirms a change, and the link cannot be removed.
    client.post("/admin/account/links/", {"account": SocialAccount.objects.get().pk})
    assert SocialAccount.objects.exists()
    stolen = Client()
    stolen.force_login(invited)
    assert stolen.get("/admin/account/app/").url.startswith(login_url(issuer))
    assert stolen.get("/admin/password_set/").url.startswith(login_url(issuer))


def test_page_of_an_invitation_links_nothing_without_its_token(grace, issuer, settings):
    invited = User.objects.create_user("ada@acme.example", "ada@acme.example", is_staff=True)
    path = link_for(invited).removeprefix(settings.PUBLIC_URL).rsplit("/", 2)[0] + "/accept/"
    other = link_for(User.objects.create_user("b@acme.example", "b@acme.example", is_staff=True))
    holder = Client()
    holder.get(other.removeprefix(settings.PUBLIC_URL))

    for client in (Client(), holder):
        for page in (path, "/admin/account/", "/admin/invitation/x/accept/", "/nowhere/"):
            sign_in_at(client, issuer, subject="e-1", next=page)

    assert not SocialAccount.objects.exists()


def test_second_factor_is_asked_for_after_the_identity(grace, issuer):
    linked(grace, issuer)
    set_up_app(grace)
    client = Client()

    assert sign_in_at(client, issuer, subject="g-1").url == "/admin/login/second-factor/"
    assert not is_in(client)


def test_identity_of_another_teammate_is_not_taken_over(grace, issuer):
    linked(grace, issuer)
    User.objects.create_user("eve", "eve@acme.example", PASSWORD, is_staff=True)
    eve = Client()
    eve.post("/admin/login/", {"username": "eve", "password": PASSWORD})

    sign_in_at(eve, issuer, subject="g-1", process="connect")

    assert "linked to another teammate" in eve.get(ACCOUNT).content.decode()
    assert SocialAccount.objects.get().user == grace


def test_stolen_session_links_no_identity(grace, issuer):
    thief = Client()
    thief.force_login(grace)

    assert sign_in_at(thief, issuer, subject="thief", process="connect").url.startswith("/admin/account/confirm/")

    assert not SocialAccount.objects.exists()


def test_identity_of_a_thief_of_the_session_is_not_linked_after_a_confirmation(grace, issuer):
    teammate, thief = Client(), Client()
    teammate.force_login(grace)
    thief.cookies["sessionid"] = teammate.cookies["sessionid"].value
    sign_in_at(thief, issuer, subject="thief", process="connect")

    teammate.get("/admin/account/app/")
    there = teammate.post("/admin/account/confirm/", {"password": PASSWORD, "next": "/admin/account/app/"})

    assert there.url == "/admin/account/app/"
    assert not SocialAccount.objects.exists()
    sign_in_at(teammate, issuer, subject="g-1", process="connect")
    assert SocialAccount.objects.get().uid == "g-1"


def test_another_website_links_and_logs_in_nobody(grace, issuer):
    attacker, victim, stranger = Client(), Client(enforce_csrf_checks=True), Client()
    callback = callback_of(address_at_provider(attacker, issuer, process="connect"), subject="attacker")
    victim.force_login(grace)

    assert victim.post(login_url(issuer), {"process": "connect"}).status_code == 403
    # The answer to the attacker's own request, opened by the victim.
    for client in (victim, stranger):
        assert is_refused(client.get(callback))

    assert not SocialAccount.objects.exists()
    assert not is_in(stranger)


def test_identity_is_linked_only_with_the_second_factor_once_it_is_due(grace, issuer):
    roles.give_role(grace, Role.SENDER)
    SecondFactorRule.objects.create(role=Role.SENDER.value, required_since=timezone.now(), grace_days=0)
    cache.clear()
    thief = logged_in()

    assert sign_in_at(thief, issuer, subject="thief", process="connect").url == ACCOUNT
    assert not SocialAccount.objects.exists()


def test_login_leads_to_no_other_website(grace, issuer):
    linked(grace, issuer)
    for path in ("https://evil.example/", "//evil.example/", "/\\evil.example/", "javascript:alert(1)"):
        assert sign_in_at(Client(), issuer, subject="g-1", next=path).url == "/admin/", path


def test_deactivated_teammate_is_refused(grace, issuer):
    linked(grace, issuer)
    User.objects.update(is_active=False)
    client = Client()

    page = client.get(sign_in_at(client, issuer, subject="g-1").url)

    assert "Your account is deactivated" in page.content.decode()
    assert not is_in(client)


def test_same_subject_of_another_issuer_is_another_identity(grace, issuers, settings):
    settings.SOCIALACCOUNT_PROVIDERS = openid_settings(issuers[0])
    linked(grace, issuers[0])
    settings.SOCIALACCOUNT_PROVIDERS = openid_settings(issuers[1])

    assert "is not linked" in sign_in_at(Client(), issuers[1], subject="g-1").content.decode()
    # A link whose provider is gone does no harm.
    logged_in().post("/admin/account/links/", {"account": SocialAccount.objects.get().pk})
    assert logged_in().get(ACCOUNT).status_code == 200


def test_mixed_up_issuer_is_refused(grace, issuers, settings):
    mine, other = issuers
    settings.SOCIALACCOUNT_PROVIDERS = openid_settings(mine)
    linked(grace, mine)
    endpoints = {"token_endpoint": f"{other}/oauth2/token", "authorization_endpoint": f"{other}/oauth2/authorize"}
    # Another provider answers in the name of ours, or our settings lead to it.
    for changes in ({"openid_configuration_overrides": endpoints}, {"server_url": other}):
        settings.SOCIALACCOUNT_PROVIDERS = openid_settings(mine, **changes)
        client = Client()
        assert is_refused(sign_in_at(client, mine, subject="g-1")), changes
        assert not is_in(client)


def test_token_for_another_client_or_expired_is_refused(grace, issuer, monkeypatch):
    linked(grace, issuer)
    now, answered = int(time.time()), OAuth2Client.get_access_token
    good = {"iss": issuer, "sub": "g-1", "aud": "outbound", "iat": now, "exp": now + 60}

    for changes in ({"aud": "other"}, {"aud": []}, {"exp": now - 60}, {"iss": f"{issuer}/other"}, {"sub": None}, {}):
        token = jwt.encode({**good, **changes}, "a key that nobody checks, as the token came from the provider")
        monkeypatch.setattr(
            OAuth2Client,
            "get_access_token",
            lambda *given, token=token, **facts: {**answered(*given, **facts), "id_token": token},
        )
        client = Client()
        sign_in_at(client, issuer, subject="g-1")
        assert is_in(client) == (changes == {}), changes


def test_answer_that_names_another_issuer_is_refused_before_its_code_is_used(grace, issuers, issuer):
    linked(grace, issuer)
    client = Client()
    callback = callback_of(address_at_provider(client, issuer), subject="g-1")

    assert is_refused(client.get(f"{callback}&iss={issuers[1]}"))
    assert client.get(f"{callback}&iss={issuer}").url == "/admin/"


def test_answer_is_valid_in_its_browser_and_once(grace, issuer):
    linked(grace, issuer)
    client = Client()
    callback = callback_of(address_at_provider(client, issuer), subject="g-1")

    assert is_refused(Client().get(callback))
    assert client.get(callback).url == "/admin/"
    client.post("/admin/logout/")
    assert is_refused(client.get(callback))
    for query in ("", "?code=x", "?state=x&code=x", "?error=server_error"):
        assert is_refused(Client().get(callback.partition("?")[0] + query)), query


def test_request_to_the_provider_has_pkce_and_nothing_from_a_link(issuer):
    client = Client()
    assert client.get(login_url(issuer)).status_code == 200

    page = client.post(f"{login_url(issuer)}?scope=admin&auth_params=prompt%3Dnone%26redirect_uri%3Dx", {})
    assert b"prompt" not in page.content
    asked = parse_qs(urlsplit(address_at_provider(client, issuer)).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert set(asked["scope"][0].split()) == {"openid", "profile", "email"}


def test_provider_that_is_away_has_a_clear_page_and_the_cause_is_logged(settings, caplog):
    away = "http://127.0.0.1:1"
    settings.SOCIALACCOUNT_PROVIDERS = openid_settings(away)

    assert is_refused(Client().post(login_url(away), {}))
    assert "A login with Acme login failed: ConnectionError: " in caplog.text
    assert Client().get("/admin/login/oidc/other/").status_code == 404
    assert Client().get("/admin/login/oidc/other/callback/").status_code == 404


def test_answer_that_lacks_a_part_is_logged_with_its_cause(grace, issuer, caplog, monkeypatch):
    linked(grace, issuer)
    monkeypatch.setattr(OpenIDConnectProvider, "extract_uid", lambda _self, data: data["missing"])

    assert is_refused(sign_in_at(Client(), issuer, subject="g-1"))

    (record,) = [each for each in caplog.records if "failed" in each.getMessage()]
    assert record.getMessage() == "A login with Acme login failed: KeyError: 'missing'"
    assert record.exc_info[0] is KeyError


def test_without_a_provider_nothing_is_offered(grace):
    assert "/login/oidc/" not in Client().get("/admin/login/").content.decode()
    assert "Single sign-on" not in logged_in().get(ACCOUNT).content.decode()


def test_settings_of_a_provider_are_read_from_the_environment():
    given = {"OIDC_ISSUER": "https://login.acme.example/", "OIDC_CLIENT_ID": "ours", "OIDC_CLIENT_SECRET": "s"}

    (app,) = execute_settings(**given)["SOCIALACCOUNT_PROVIDERS"]["openid_connect"]["APPS"]

    assert (app["client_id"], app["secret"], app["name"]) == ("ours", "s", "OpenID Connect")
    assert app["settings"]["issuer"] == "https://login.acme.example/"
    with pytest.raises(ImproperlyConfigured, match="OIDC_CLIENT_ID must be set if OIDC_ISSUER is"):
        execute_settings(OIDC_ISSUER="https://login.acme.example")


def test_command_prints_the_url_for_the_provider(issuer, capsys, settings):
    call_command("identity_providers")
    printed = capsys.readouterr().out
    settings.SOCIALACCOUNT_PROVIDERS = {}
    call_command("identity_providers")

    assert printed == f"OpenID Connect, callback URL: {settings.PUBLIC_URL}{login_url(issuer)}callback/\n"
    assert "docs/sign_in.md" in capsys.readouterr().out


def test_teammate_without_a_password_whose_provider_changed_is_told_to_choose_one(grace, issuer):
    grace.set_unusable_password()
    grace.save()
    SocialAccount.objects.create(user=grace, provider="https://former.example", uid="g-1")
    client = Client()
    client.force_login(grace)

    there = sign_in_at(client, issuer, subject="g-1", process="connect")

    assert "Choose a password first" in client.get(there.url).content.decode()
    assert SocialAccount.objects.get().provider == "https://former.example"
