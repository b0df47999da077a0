"""A visitor without an account: every URL, and attacks on them."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import time_machine
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from django.utils.http import int_to_base36

from audiences.models import Customer, Integration
from delivery.models import DeliveryRecord
from messaging.models import Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.account_mail import account_mails

pytestmark = pytest.mark.django_db

# A public URL whose further parts are not public.
API_ROOT = "api/"
# The public URLs: their prefix, and the reason.
OPEN = {
    "": "leads to the console, which asks who it is",
    "admin": "the same, without the slash",
    "admin/login/": "the door",
    "admin/password/": "a forgotten password",
    "admin/invitation/": "an invitation, by its token",
    "admin/logout/": "nothing to end",
    "admin/jsi18n/": "words of the console",
    "m/": "links in mails, each by its token",
    "messenger/": "the messenger: visitors are nobody, users prove who they are",
    "pictures/": "pictures in mails, by names nobody can guess",
    "api": "leads to the documents of the API",
    "api/docs/": "what the API is, which is no secret",
    "api/schema/": "the same for machines",
    "healthz": "that it runs",
    "metrics": "asks for its own token",
    "webhooks/": "a mail provider, which proves itself",
}


def addresses(patterns: list, prefix: str = "") -> list[str]:
    """Return every URL pattern, with a value for each parameter."""
    found: list[str] = []
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += addresses(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            found.append(plain(path))
    return found


def plain(pattern: str) -> str:
    """Return a URL pattern as a URL."""
    path = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)", "1", pattern)
    path = re.sub(r"<[^>]+>", "1", path)
    path = re.sub(r"\(\?:[^()]*\)\??|\(/\|\$\)", "", path)
    return re.sub(r"[\^$?]|\\Z", "", path).replace("\\.", ".").replace("\\", "")


def is_open(path: str) -> bool:
    return any(
        path == begins or (begins.endswith("/") and path.startswith(begins)) for begins in OPEN if begins
    ) or path in ("", API_ROOT)


CLOSED = sorted({path for path in addresses(get_resolver().url_patterns) if not is_open(path)})


def test_urls_are_collected():
    assert len(CLOSED) > 80
    assert "admin/messaging/message/" in CLOSED
    assert "api/users/" in CLOSED


@pytest.mark.parametrize("method", ["get", "post"])
def test_every_other_url_needs_a_login(method):
    CustomerFactory(pk=1, name="Ann Secret", email="secret@x.example")
    MessageFactory(pk=1, title="Secret plan")
    before = [list(model.objects.values()) for model in (Customer, Message, DeliveryRecord, User)]

    for path in CLOSED:
        answer = getattr(Client(raise_request_exception=False), method)(f"/{path}")
        shut = answer.status_code in (401, 403, 404, 405) or (
            answer.status_code == 302 and answer.url.startswith("/admin/login/")
        )
        assert shut, (path, answer.status_code)
        assert b"ecret" not in answer.content, path
    assert [list(model.objects.values()) for model in (Customer, Message, DeliveryRecord, User)] == before


@pytest.mark.parametrize(
    "path",
    [
        "/static/../config/settings.py",
        "/static/..%2f..%2fconfig/settings.py",
        "/static/%2e%2e/%2e%2e/.data/secret_key",
        "/pictures/..%2f..%2fsecret_key",
        "/messenger/images/..%2fsecret_key",
        "/messenger/files/..%2f/secret_key",
        "/.git/config",
        "/.env",
        "/.data/secret_key",
        "/demo/mail/",
        "/demo/site/",
        "/media/pictures/",
        "/admin/doc/",
        "/__debug__/",
        "/m/c/1/0",
    ],
)
def test_common_paths_are_not_found(path):
    answer = Client().get(path)

    assert answer.status_code == 404 or (answer.status_code == 302 and answer.url.startswith("/admin/login/"))


def test_error_page_reveals_no_internals():
    page = Client().get("/m/unsubscribe/x").content.decode()

    for word in ("Traceback", "urlpatterns", "settings", "/work", "django", "DEBUG"):
        assert word not in page


@pytest.mark.parametrize(
    "host", ["evil.example", "testserver.evil.example", "testserver@evil.example", "evil.example:80"]
)
def test_unknown_host_is_refused(host):
    assert Client().get("/admin/login/", headers={"host": host}).status_code == 400


def test_password_reset_link_ignores_the_host_of_the_request(settings):
    settings.ALLOWED_HOSTS = ["*"]
    User.objects.create_user("grace", "grace@acme.example", "forgotten-1", is_staff=True)

    Client(headers={"host": "evil.example", "x-forwarded-host": "evil.example"}).post(
        "/admin/password/forgotten/", {"email": "grace@acme.example"}
    )

    (sent,) = account_mails()
    links = re.findall(r"https?://\S+", sent.body)
    assert links
    assert {urlsplit(link).netloc for link in links} == {urlsplit(settings.PUBLIC_URL).netloc}


@pytest.mark.parametrize("path", ["/admin/login/", "/m/unsubscribe/x", "/admin/password/forgotten/", "/api/users"])
def test_every_response_has_a_csp_and_cannot_be_framed(path):
    answer = Client().get(path)

    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"]


@pytest.mark.parametrize(
    "token", ["", "Bearer ", "Bearer x", "Bearer " + "a" * 10_000, "Basic Og==", "Basic !!", "Token x", "é"]
)
def test_invalid_token_is_refused_by_the_api(token):
    assert Client(raise_request_exception=False).get("/api/users", headers={"authorization": token}).status_code == 401


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "authorization", "Authorization"])
def test_valid_token_is_refused_in_url_cookie_and_body(name):
    """There it would end up in logs and referrers, or other websites could make a browser send it."""
    token = Integration.objects.create(user=User.objects.create(username="shop"), name="shop")[1]
    client = Client()
    client.cookies[name] = token
    assert client.get("/api/users", headers={"authorization": f"Bearer {token}"}).status_code == 200

    assert client.get("/api/users", {name: token}).status_code == 401
    assert client.get("/api/users", {name: f"Bearer {token}"}).status_code == 401
    assert client.post("/api/users", {name: token, "user_id": "1"}, "application/json").status_code == 401


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace", "grace@acme.example", "forgotten-1", is_staff=True)


def new_password(link: str, *, client: Client, word: str = "correct-horse-7") -> bool:
    """Set a new password by a reset link; return whether that was possible."""
    answer = client.get(link, follow=True)
    if not answer.redirect_chain:
        return False
    client.post(answer.redirect_chain[-1][0], {"password1": word, "password2": word})
    return True


def link_for(user: User) -> str:
    token = default_token_generator.make_token(user)
    return reverse("account_reset_password_from_key", args=[int_to_base36(user.pk), token])


def test_password_reset_link_works_once_and_ends_all_sessions(grace):
    thief = Client()
    thief.force_login(grace)
    assert thief.get("/admin/").status_code == 200
    link = link_for(grace)

    assert new_password(link, client=Client())

    assert thief.get("/admin/").status_code == 302
    assert not new_password(link, client=Client(), word="another-horse-8")
    grace.refresh_from_db()
    assert grace.check_password("correct-horse-7")


@pytest.mark.parametrize(
    "happens",
    [
        lambda user: User.objects.filter(pk=user.pk).update(email="other@acme.example"),
        lambda user: User.objects.filter(pk=user.pk).update(last_login=timezone.now()),
        lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    ],
    ids=["another address", "a login meanwhile", "deactivated"],
)
def test_password_reset_link_ends_with_a_change_of_the_account(grace, happens):
    link = link_for(grace)

    happens(grace)

    new_password(link, client=(client := Client()))
    grace.refresh_from_db()
    assert grace.check_password("forgotten-1") or not client.login(username="grace", password="correct-horse-7")


def test_password_reset_link_expires_and_is_valid_for_one_account(grace):
    other = User.objects.create_user("hedy", "hedy@acme.example", "forgotten-2", is_staff=True)
    link, of_other = link_for(grace), link_for(other)
    uid, uid_of_other = (each.split("/")[3].partition("-")[0] for each in (link, of_other))
    stolen = link.replace(f"/{uid}-", f"/{uid_of_other}-")

    assert not new_password(stolen, client=Client())
    with time_machine.travel(timezone.now() + timedelta(days=3, minutes=1)):
        assert not new_password(link, client=Client())


def test_refused_login_does_not_reveal_whether_the_account_exists():
    User.objects.create_user("grace", "grace@acme.example", "correct-horse-7", is_staff=True)
    User.objects.create_user("shop", "shop@acme.example", "correct-horse-7", is_staff=False)

    pages = {
        re.sub(
            r'(csrf|value=)[^>]*"',
            "",
            Client().post("/admin/login/", {"username": name, "password": "guess"}).content.decode(),
        )
        for name in ("grace", "shop", "nobody")
    }

    assert len(pages) == 1


def test_customer_cannot_use_the_console():
    User.objects.create_user("shop", "shop@acme.example", "correct-horse-7", is_staff=False)

    answer = Client().post("/admin/login/", {"username": "shop", "password": "correct-horse-7"})

    assert answer.status_code == 200
    assert "sessionid" not in answer.cookies
