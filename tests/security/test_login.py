"""Login: lockout, addresses and redirects."""

from datetime import timedelta

import pytest
import time_machine
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db.models import Sum
from django.test import Client, RequestFactory
from django.utils import timezone

from outbound.console import throttle
from outbound.signin import login_limits

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-7"
LOGIN = "/admin/login/"


@pytest.fixture(autouse=True)
def grace(settings) -> User:
    settings.AXES_ENABLED = True
    settings.AXES_FAILURE_LIMIT = 4
    return User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)


def knock(password: str, *, name: str = "grace", address: str = "192.0.2.7", **headers: str):
    return Client(REMOTE_ADDR=address, headers=headers).post(LOGIN, {"username": name, "password": password})


def guess(times: int, **who: str) -> list[int]:
    return [knock("guess", **who).status_code for _ in range(times)]


def test_lockout_refuses_even_the_right_password():
    assert guess(5) == [200, 200, 200, 429, 429]

    answer = knock(PASSWORD)

    assert answer.status_code == 429
    assert answer["Retry-After"] == "900"
    assert "Too many failed logins" in answer.content.decode()
    assert "15 minutes" in answer.content.decode()
    assert "grace" not in answer.content.decode()


def test_lockout_ends_after_15_minutes_despite_more_attempts():
    guess(6)

    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        assert knock(PASSWORD).status_code == 429
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert knock(PASSWORD).status_code == 302


def test_lockout_applies_only_to_the_attackers_address():
    guess(6, address="203.0.113.9")

    assert knock(PASSWORD).status_code == 302


def test_attempts_during_a_lockout_lock_out_no_other_address():
    assert guess(60, address="203.0.113.9")[-1] == 429

    assert knock(PASSWORD).status_code == 302


@pytest.mark.parametrize("limit", [1, 2])
def test_last_attempt_before_the_lockout_counts_like_others(settings, limit):
    settings.AXES_FAILURE_LIMIT = limit

    for number in range(5):
        guess(limit + 1, address=f"203.0.113.{number}")

    assert AccessAttempt.objects.filter(username="grace").aggregate(sum=Sum("failures_since_start"))["sum"] == 5 * limit


def test_failed_logins_from_many_addresses_lock_out_the_name(settings, monkeypatch):
    monkeypatch.setattr(login_limits, "FAILED_LOGINS_BY_NAME", 6)
    User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)

    assert [guess(1, address=f"203.0.113.{number}")[0] for number in range(6)] == [200] * 5 + [429]

    assert knock(PASSWORD).status_code == 429
    assert knock(PASSWORD, name="ada").status_code == 302
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert knock(PASSWORD).status_code == 302


def test_failed_logins_with_many_names_lock_out_the_address(monkeypatch):
    monkeypatch.setattr(login_limits, "FAILED_LOGINS_BY_ADDRESS", 6)

    assert [guess(1, name=f"name-{number}")[0] for number in range(6)] == [200] * 5 + [429]

    assert knock(PASSWORD).status_code == 429
    assert knock(PASSWORD, address="203.0.113.9").status_code == 302
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert knock(PASSWORD).status_code == 302


def test_successful_login_resets_no_failed_login_with_another_name(monkeypatch):
    monkeypatch.setattr(login_limits, "FAILED_LOGINS_BY_ADDRESS", 6)
    guess(3, name="ada")
    guess(2)

    assert knock(PASSWORD).status_code == 302

    assert guess(3, name="ben") == [200, 200, 429]


def test_failed_logins_without_a_known_address_count_by_name_only(monkeypatch):
    monkeypatch.setattr(login_limits, "FAILED_LOGINS_BY_ADDRESS", 2)
    guess(3, name="ada", address="")

    assert knock(PASSWORD, address="").status_code == 302


def test_unknown_user_name_is_treated_the_same():
    assert guess(5, name="nobody") == guess(5)


def test_many_visitors_do_not_reset_the_count_of_password_resets():
    # A frozen clock, because the count restarts every 15 minutes.
    with time_machine.travel(timezone.now(), tick=False):
        for _ in range(3):
            throttle.count_attempt("reset-name", "grace", at=timezone.now())
        for number in range(1000):
            cache.set(f"messenger-rate-{number}", 1, timeout=20)

        assert throttle.count_attempt("reset-name", "grace", at=timezone.now()) == 4


def test_successful_login_resets_the_count():
    guess(3)
    assert knock(PASSWORD).status_code == 302

    assert guess(3) == [200, 200, 200]


def test_forged_forwarded_address_is_ignored():
    for number in range(6):
        guess(1, **{"x-forwarded-for": f"198.51.100.{number}"})

    assert knock(PASSWORD, **{"x-forwarded-for": "198.51.100.99"}).status_code == 429


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("198.51.100.4", "198.51.100.4"),
        ("made up, 198.51.100.4", "198.51.100.4"),
        ("198.51.100.4, made up", None),
        ("2001:db8::1", "2001:db8::1"),
        ("", "192.0.2.7"),
    ],
)
def test_address_from_the_proxy_is_used_behind_a_proxy(settings, forwarded, address):
    settings.BEHIND_PROXY = True
    request = RequestFactory(REMOTE_ADDR="192.0.2.7").get("/", headers={"x-forwarded-for": forwarded})

    assert throttle.network_address(request) == address


@pytest.mark.parametrize(
    ("to", "leads"),
    [
        ("/admin/auth/user/", "/admin/auth/user/"),
        ("https://evil.example/", "/admin/"),
        ("//evil.example/", "/admin/"),
        ("/\\evil.example/", "/admin/"),
        ("///evil.example/", "/admin/"),
        ("https:evil.example", "/admin/"),
        ("https://testserver@evil.example/", "/admin/"),
        ("javascript:alert(1)", "/admin/"),
        ("\thttps://evil.example/", "/admin/"),
    ],
)
def test_login_does_not_redirect_to_another_site(to, leads):
    answer = Client().post(LOGIN, {"username": "grace", "password": PASSWORD, "next": to})

    assert (answer.status_code, answer.url) == (302, leads)


def test_session_key_changes_at_login():
    client = Client()
    client.get(LOGIN)
    client.session["planted"] = True
    before = client.session.session_key

    client.post(LOGIN, {"username": "grace", "password": PASSWORD})

    assert client.session.session_key != before


def test_cookies_are_http_only_and_same_site():
    client = Client()
    client.get(LOGIN)
    client.post(LOGIN, {"username": "grace", "password": PASSWORD})
    client.post("/admin/password/forgotten/", {"email": "grace@acme.example"})

    assert {"csrftoken", "sessionid"} <= set(client.cookies)
    for name, cookie in client.cookies.items():
        assert (bool(cookie["httponly"]), cookie["samesite"]) == (True, "Lax"), name


def test_login_posted_by_another_site_is_refused():
    answer = Client(enforce_csrf_checks=True).post(LOGIN, {"username": "grace", "password": PASSWORD})

    assert answer.status_code == 403
