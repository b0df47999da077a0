"""Sessions: listed, and ended from elsewhere; their cookies are refused then."""

from datetime import timedelta

import pytest
import time_machine
from allauth.usersessions.models import UserSession
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbound import roles
from outbound.roles import Role
from outbound.signin import sessions
from tests.support.old_session import old_session

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-7"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
END = "/admin/account/sessions/"


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)


def logged_in(name: str = "grace", **client: str) -> Client:
    found = Client(**client)
    found.post("/admin/login/", {"username": name, "password": PASSWORD})
    return found


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_own_sessions_are_listed_and_one_is_ended(grace):
    here, lost = logged_in(), logged_in(REMOTE_ADDR="192.0.2.7", headers={"user-agent": FIREFOX})
    page = here.get("/admin/account/").content.decode()
    assert "Firefox on Linux" in page
    assert "192.0.2.7" in page
    cookie = lost.cookies["sessionid"].value

    here.post(END, {"session": UserSession.objects.get(ip="192.0.2.7").pk})

    assert not is_in(lost)
    thief = Client()
    thief.cookies["sessionid"] = cookie
    assert thief.get("/admin/").url.startswith("/admin/login/")
    assert thief.post("/admin/password_change/", {}).url.startswith("/admin/login/")
    assert is_in(here)
    assert "Firefox" not in here.get("/admin/account/").content.decode()


def test_all_other_sessions_end_even_those_that_no_list_knows(grace):
    here, other, unused = logged_in(), logged_in(), old_session(grace)
    ada = User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)
    colleague = logged_in("ada")

    assert "2 sessions ended" in here.post(END, follow=True).content.decode()

    assert [is_in(each) for each in (here, other, unused, colleague)] == [True, False, False, True]
    assert ada.is_active


def test_session_of_an_earlier_version_is_listed_from_its_first_request_on(grace):
    before = old_session(grace)
    assert not UserSession.objects.exists()

    assert is_in(before)

    assert UserSession.objects.get().user == grace


def test_last_seen_moves_every_five_minutes(grace):
    client = logged_in()
    first = UserSession.objects.get().last_seen_at
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        cache.clear()
        client.get("/admin/")
        hour_later = UserSession.objects.get().last_seen_at
    with time_machine.travel(timezone.now() + timedelta(hours=1, minutes=2)):
        client.get("/admin/")

    assert hour_later - first >= timedelta(hours=1)
    assert UserSession.objects.get().last_seen_at == hour_later


def test_request_over_a_socket_has_a_session_without_an_address(grace):
    client = logged_in(REMOTE_ADDR="")

    assert "Unknown address" in client.get("/admin/account/").content.decode()


@pytest.mark.parametrize("given", ["0", "x", "-1", "9" * 30, "", "\x00", "\u0661"])
def test_session_of_somebody_else_is_not_ended(grace, given):
    User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)
    victim, attacker = logged_in(), logged_in("ada")

    attacker.post(END, {"session": given})
    attacker.post(END, {"session": UserSession.objects.get(user=grace).pk})

    assert is_in(victim)
    assert attacker.get(END).status_code == 303


def test_admin_ends_the_sessions_of_a_teammate_and_the_log_tells(console, grace):
    one, two = logged_in(REMOTE_ADDR="192.0.2.7"), logged_in()
    page = reverse("admin:auth_user_change", args=[grace.pk])
    end = reverse("admin:user_end_sessions", args=[grace.pk])
    assert "192.0.2.7" in console.get(page).content.decode()

    console.post(end, {"session": UserSession.objects.get(ip="192.0.2.7").pk})
    assert [is_in(one), is_in(two)] == [False, True]
    console.post(end)
    assert not is_in(two)

    said = LogEntry.objects.filter(object_id=str(grace.pk)).order_by("pk").values_list("change_message", flat=True)
    assert list(said) == ["Ended 1 session", "Ended 1 session"]
    assert "No browser is logged in." in console.get(page).content.decode()


def test_admin_ends_no_session_of_a_superuser(grace, boss):
    roles.give_role(grace, Role.ADMIN)
    theirs, admin = Client(), logged_in()
    theirs.force_login(boss)
    is_in(theirs)

    assert admin.post(reverse("admin:user_end_sessions", args=[boss.pk])).status_code == 403
    assert is_in(theirs)
    assert "End all sessions" not in admin.get(reverse("admin:auth_user_change", args=[boss.pk])).content.decode()


def test_reset_of_the_second_factor_ends_the_sessions(grace):
    client, unused = logged_in(), old_session(grace)

    call_command("reset_second_factor", "grace")

    assert not is_in(client)
    assert not is_in(unused)


def test_deactivated_teammate_has_no_session_once_active_again(console, grace):
    client, unused = logged_in(), old_session(grace)

    console.post(reverse("admin:user_deactivate", args=[grace.pk]))
    assert not is_in(client)
    console.post(reverse("admin:user_activate", args=[grace.pk]))

    assert not is_in(client)
    assert not is_in(unused)


def test_device_is_named():
    assert sessions.device_name(FIREFOX) == "Firefox on Linux"
    assert sessions.device_name("") == "An unknown device"
