"""Teammates: invitation, password, role and deactivation."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from messaging.models import Sender
from outbound import roles
from outbound.roles import Role
from tests.support.account_mail import account_mails

pytestmark = pytest.mark.django_db
ADD = "/admin/auth/user/add/"
PASSWORD = "correct-horse-9"
# Of the settings: emails for a new password to one address within 15 minutes.
RESETS_BY_NAME = 3


def invited(console, django_capture_on_commit_callbacks, **changes) -> User:
    form = {"email": "Grace@acme.example", "first_name": "", "last_name": "", "role": "Author", **changes}
    with django_capture_on_commit_callbacks(execute=True):
        console.post(ADD, form)
    return User.objects.get(email="grace@acme.example")


def link() -> str:
    """Return the path of the link in the latest email."""
    return urlsplit(re.search(r"https?://\S+", mail.outbox[-1].body)[0]).path


def open_link(client, path: str):
    """Open a link as a browser does: Django moves the token from the address into the session."""
    return client.get(path, follow=True)


def choose(client, page, **changes):
    form = {"first_name": "Grace", "last_name": "Ho", "password1": PASSWORD, "password2": PASSWORD, **changes}
    return client.post(page.request["PATH_INFO"], form)


def test_role_counts_active_teammates_and_superusers_as_admins(admin_client):
    for name, role, active in (("a", "Admin", True), ("b", "Admin", False), ("c", "Author", True)):
        User.objects.create_user(name, is_active=active).groups.add(Group.objects.get(name=role))

    page = admin_client.get("/admin/auth/group/").content.decode()

    # The client's own superuser is the second Admin.
    counted = dict(re.findall(r"field-name[^>]*>\s*(\w+).*?field-members[^>]*>\s*(\d+)", page, re.DOTALL))
    assert counted == {"Viewer": "0", "Author": "1", "Sender": "0", "Admin": "2"}


def test_invitation_creates_password_role_and_sender(console, client, boss, django_capture_on_commit_callbacks):
    grace = invited(console, django_capture_on_commit_callbacks)
    assert mail.outbox[0].to == ["grace@acme.example"]
    assert not grace.has_usable_password()
    assert "Invited" in console.get("/admin/auth/user/").content.decode()

    client.logout()
    page = open_link(client, link())
    assert choose(client, page).url == "/admin/login/"

    grace.refresh_from_db()
    assert roles.role_of(grace) is Role.AUTHOR
    assert Sender.objects.get(teammate=grace).email == "grace@acme.example"
    assert client.login(username="grace@acme.example", password=PASSWORD)
    assert client.get("/admin/messaging/message/add/").status_code == 200


def test_invitation_works_once(console, client, django_capture_on_commit_callbacks):
    invited(console, django_capture_on_commit_callbacks)
    path = link()
    client.logout()
    choose(client, open_link(client, path))

    assert "has been used" in open_link(client, path).content.decode()


def test_invitation_expires_after_a_week(console, client, django_capture_on_commit_callbacks):
    invited(console, django_capture_on_commit_callbacks)

    with time_machine.travel(timezone.now() + timedelta(days=6, hours=23)):
        assert "password1" in open_link(client, link()).content.decode()
    with time_machine.travel(timezone.now() + timedelta(days=7, minutes=1)):
        assert "no longer valid" in open_link(client, link()).content.decode()


def test_new_invitation_invalidates_the_previous_one(console, client, django_capture_on_commit_callbacks):
    grace = invited(console, django_capture_on_commit_callbacks)
    first = link()

    with django_capture_on_commit_callbacks(execute=True):
        console.post(reverse("admin:user_invite_again", args=[grace.pk]))

    assert len(mail.outbox) == 2
    assert "has been used" in open_link(client, first).content.decode()
    assert "password1" in open_link(client, link()).content.decode()


def test_accepted_teammate_cannot_be_invited_again(console, boss):
    grace = User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)

    console.post(reverse("admin:user_invite_again", args=[grace.pk]))

    grace.refresh_from_db()
    assert grace.check_password(PASSWORD)
    assert mail.outbox == []


def test_deactivation_ends_sessions_and_invitations(console, client, boss, django_capture_on_commit_callbacks):
    grace = invited(console, django_capture_on_commit_callbacks)
    console.post(reverse("admin:user_deactivate", args=[grace.pk]))
    assert "no longer valid" in open_link(client, link()).content.decode()

    ada = User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)
    client.force_login(ada)
    assert client.get("/admin/").status_code == 200
    client.force_login(boss)
    client.post(reverse("admin:user_deactivate", args=[ada.pk]))
    assert LogEntry.objects.first().change_message == "Deactivated: from Active to Deactivated"
    assert not client.login(username="ada", password=PASSWORD)
    client.force_login(boss)
    client.post(reverse("admin:user_activate", args=[ada.pk]))
    assert client.login(username="ada", password=PASSWORD)


def test_teammate_cannot_deactivate_themselves_or_change_their_role(console, boss):
    console.post(reverse("admin:user_deactivate", args=[boss.pk]))
    page = console.get(reverse("admin:auth_user_change", args=[boss.pk])).content.decode()

    boss.refresh_from_db()
    assert boss.is_active
    assert 'name="role"' not in page


def test_admin_cannot_change_a_superuser(client, boss):
    admin = User.objects.create_user("ann", "ann@acme.example", PASSWORD, is_staff=True)
    roles.give_role(admin, Role.ADMIN)
    client.force_login(admin)

    changed = client.post(reverse("admin:auth_user_change", args=[boss.pk]), {"email": "ann+boss@acme.example"})

    assert changed.status_code == 403
    assert client.post(reverse("admin:user_deactivate", args=[boss.pk])).status_code == 403
    boss.refresh_from_db()
    assert (boss.email, boss.is_active) == ("boss@acme.example", True)


def test_change_of_role_is_logged_with_old_and_new_role(console):
    grace = User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)
    roles.give_role(grace, Role.VIEWER)

    form = {"email": "grace@acme.example", "first_name": "Grace", "last_name": "", "role": "Sender"}
    console.post(reverse("admin:auth_user_change", args=[grace.pk]), form)

    said = LogEntry.objects.get().change_message
    assert roles.role_of(User.objects.get(pk=grace.pk)) is Role.SENDER
    assert re.search("Role: from “Viewer.* to “Sender", said)
    assert "First name: from nothing to “Grace”" in said


def test_teammate_is_told_at_the_earlier_address_that_it_was_changed(console, django_capture_on_commit_callbacks):
    grace = User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)
    form = {"email": "eve@evil.example", "first_name": "Grace", "last_name": "", "role": "Viewer"}

    with django_capture_on_commit_callbacks(execute=True):
        console.post(reverse("admin:auth_user_change", args=[grace.pk]), form)
        console.post(reverse("admin:auth_user_change", args=[grace.pk]), {**form, "last_name": "Hopper"})

    (told,) = account_mails()
    assert told.to == ["grace@acme.example"]
    assert "changed the email address of your account to eve@evil.example" in told.body


def test_email_address_is_unique(console):
    User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)

    answer = console.post(ADD, {"email": "GRACE@acme.example", "role": "Viewer"})

    assert "A teammate with this address already exists." in answer.content.decode()
    assert mail.outbox == []


@pytest.mark.django_db(transaction=True)
def test_failed_invitation_email_is_reported(console, settings):
    roles.install()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1

    form = {"email": "grace@acme.example", "first_name": "", "last_name": "", "role": "Author"}
    answer = console.post(ADD, form, follow=True)

    assert "could not be emailed" in answer.content.decode()


# Passwords


def ask(client, email: str):
    return client.post(reverse("account_reset_password"), {"email": email}, follow=True)


def test_forgotten_password_is_reset(client):
    User.objects.create_user("grace", "grace@acme.example", "forgotten-1", is_staff=True)

    ask(client, "grace@acme.example")
    assert len(account_mails()) == 1
    answer = choose(client, open_link(client, link()))

    assert answer.url == "/admin/login/"
    assert client.login(username="grace", password=PASSWORD)


def test_password_reset_does_not_reveal_accounts(client):
    User.objects.create_user("grace", "grace@acme.example", "forgotten-1", is_staff=True)

    there, not_there = ask(client, "grace@acme.example"), ask(client, "nobody@acme.example")

    def said(answer) -> str:
        return re.sub(r"csrf\S+ value=\S+|\w+@acme.example|[a-zA-Z0-9]{64}", "", answer.content.decode())

    assert said(there) == said(not_there)
    assert len(account_mails()) == 1


def test_password_reset_emails_are_limited(client):
    User.objects.create_user("grace", "grace@acme.example", "forgotten-1", is_staff=True)

    for _ in range(RESETS_BY_NAME + 3):
        ask(client, "Grace@acme.example")

    assert len(account_mails()) == RESETS_BY_NAME


def test_weak_password_is_refused(console, client, django_capture_on_commit_callbacks):
    grace = invited(console, django_capture_on_commit_callbacks)

    answer = choose(client, open_link(client, link()), password1="12345678", password2="12345678")

    assert "too common" in answer.content.decode()
    grace.refresh_from_db()
    assert not grace.has_usable_password()


@pytest.mark.filterwarnings("error::django.core.paginator.UnorderedObjectListWarning")
def test_teammates_are_offered_in_order(console):
    User.objects.create_user("zoe", first_name="Zoe", is_staff=True)
    User.objects.create_user("abe", first_name="Abe", is_staff=True)

    found = console.get("/admin/autocomplete/?app_label=messaging&model_name=sender&field_name=teammate").json()

    names = [entry["text"] for entry in found["results"]]
    assert names.index("abe") < names.index("zoe")
