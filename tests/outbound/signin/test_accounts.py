"""Accounts on allauth: earlier sessions, passwords, and the one counter of failed logins."""

import pytest
from axes.models import AccessAttempt
from django.conf import settings as project
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.db.models import Sum
from django.test import Client
from django.utils.encoding import force_bytes
from django.utils.http import int_to_base36, urlsafe_base64_encode

from outbound.signin.invitations import invitations, link_for
from tests.support.old_session import old_session

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-7"
CHANGE = "/admin/password_change/"


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace", "Grace@acme.example", PASSWORD, is_staff=True)


def log_in(client: Client, **given: str):
    return client.post("/admin/login/", {"username": "grace", "password": PASSWORD, **given})


def failures() -> int:
    return AccessAttempt.objects.aggregate(sum=Sum("failures_since_start"))["sum"] or 0


def test_session_of_the_previous_version_is_still_logged_in(grace):
    assert old_session(grace).get("/admin/").status_code == 200


def test_no_page_creates_an_account(client):
    for path in ("/admin/signup/", "/accounts/signup/", "/admin/3rdparty/signup/"):
        client.post(path, {"email": "eve@evil.example", "username": "eve", "password1": PASSWORD})

    assert not User.objects.exists()


def test_each_failed_login_counts_once(grace, settings):
    settings.AXES_ENABLED = True

    assert [log_in(Client(), password="guess").status_code for _ in range(9)] == [200] * 9
    assert failures() == 9
    assert log_in(Client()).status_code == 302


def test_current_passwords_are_counted_like_logins(grace, settings):
    settings.AXES_ENABLED, settings.AXES_FAILURE_LIMIT = True, 3
    client = Client()
    client.force_login(grace)
    guess = {"oldpassword": "guess", "password1": "new-horse-8", "password2": "new-horse-8"}

    assert [client.post(CHANGE, guess).status_code for _ in range(3)] == [200, 200, 429]
    assert client.post(CHANGE, {**guess, "oldpassword": PASSWORD}).status_code == 429
    grace.refresh_from_db()
    assert grace.check_password(PASSWORD)


def test_changed_password_ends_the_other_sessions_only(grace):
    here, elsewhere = Client(), Client()
    assert log_in(here).url == "/admin/"
    log_in(elsewhere)

    given = {"oldpassword": PASSWORD, "password1": "new-horse-8", "password2": "new-horse-8"}
    assert "Your password is changed." in here.post(CHANGE, given, follow=True).content.decode()

    assert here.get("/admin/").status_code == 200
    assert elsewhere.get("/admin/").status_code == 302
    grace.refresh_from_db()
    assert grace.check_password("new-horse-8")


def test_user_who_is_no_teammate_any_more_is_logged_out_at_the_login(grace):
    client = Client()
    client.force_login(grace)
    User.objects.update(is_staff=False)

    assert client.get("/admin/", follow=True).redirect_chain[-1][0].startswith("/admin/login/")
    assert "sessionid" not in client.cookies or not client.cookies["sessionid"].value


def test_link_for_a_password_is_no_invitation_and_an_invitation_no_link_for_a_password(grace):
    invited = User.objects.create_user("ada@acme.example", "ada@acme.example", is_staff=True)
    reset, uid = default_token_generator.make_token(invited), int_to_base36(invited.pk)

    refused = [
        f"/admin/password/{uid}-{reset}/",
        link_for(invited).removeprefix(project.PUBLIC_URL).replace(invitations.make_token(invited), reset),
        f"/admin/invitation/{urlsafe_base64_encode(force_bytes(grace.pk))}/{invitations.make_token(grace)}/",
        "/admin/invitation/x/y/",
        "/admin/invitation/LTE/y/",
        "/admin/password/zzzzzzzzzzzzzzz-y/",
    ]
    for path in refused:
        assert "no longer valid" in Client().get(path, follow=True).content.decode(), path


def test_too_many_requests_for_a_password_have_a_clear_page(grace):
    client = Client()

    answers = [client.post("/admin/password/forgotten/", {"email": grace.email}) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [302, 302, 302, 429]
    assert "Wait a few minutes" in answers[-1].content.decode()
