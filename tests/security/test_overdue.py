"""A teammate whose role needs a second factor, after the deadline and without one: every URL."""

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from audiences.models import Customer
from messaging.models import Message
from outbound.models import SecondFactorRule
from outbound.roles import Role
from tests.factories import CustomerFactory, MessageFactory
from tests.security.test_stranger import CLOSED

pytestmark = pytest.mark.django_db
ACCOUNT = "/admin/account/"
# The closed URLs that answer all the same: their prefix, and the reason.
OPEN = {
    "admin/account/": "the page that sets a second factor up, and those of the own account",
    "admin/password_change/": "the own password, by the present one",
    "admin/password_set/": "the first password, after a confirmation by the provider",
}
# Below the account: the two pages that set a second factor up.
ENROLMENT = ("admin/account/app/", "admin/account/passkeys/add/")


@pytest.fixture
def client() -> Client:
    """A logged-in Admin with every right, whose deadline is over."""
    user = User.objects.create_superuser("grace", "grace@acme.example", "correct-horse-7")
    User.objects.update(date_joined=timezone.now() - timedelta(days=60))
    SecondFactorRule.objects.create(role=Role.ADMIN.value, required_since=user.date_joined, grace_days=0)
    cache.clear()
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.mark.parametrize("method", ["get", "post"])
def test_session_opens_no_url_but_the_own_account(client, method):
    CustomerFactory(pk=1, name="Ann Secret", email="secret@x.example")
    MessageFactory(pk=1, title="Secret plan")
    before = [list(model.objects.values()) for model in (Customer, Message, User, Authenticator)]

    opened = {}
    for path in CLOSED:
        answer = getattr(client, method)(f"/{path}")
        leads = answer.status_code == 302 and answer.url == ACCOUNT
        if path in ENROLMENT:
            assert leads, path
        elif not path.startswith(tuple(OPEN)) and not leads:
            opened[path] = answer.status_code
        assert b"ecret" not in answer.content, path
    # What a session does not open: the API, by its token.
    assert {
        path: status for path, status in opened.items() if path.startswith("admin") or status not in (401, 404)
    } == {}
    assert [list(model.objects.values()) for model in (Customer, Message, User, Authenticator)] == before


def test_guard_holds_below_a_prefix(client):
    assert client.get("/admin/", SCRIPT_NAME="/outbound").url.endswith(ACCOUNT)
