"""Enrolment: the first second factor of a teammate, after the deadline with a link that was emailed to them.

Until the deadline a password opens the console, so it also sets up a second factor. After it, a stranger who knows the
password must not set one up before the teammate does: they need the mailbox of the account too.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac

from outbound.signin import second_factor

# An emailed link, and a browser that has opened it, are valid for this time.
LINK_VALID_FOR = timedelta(hours=1)
SALT = "outbound.enrolment"
CONFIRMED_KEY = "enrolment_confirmed"


def key_of(user: User) -> str:
    """Return a hash that changes with the password and the address."""
    return salted_hmac(SALT, f"{user.password} {user.email}", algorithm="sha256").hexdigest()


def enrolment_link(user: User) -> str:
    """Return the URL that lets a teammate, once logged in, set up a second factor after the deadline."""
    token = signing.dumps([user.pk, key_of(user)], salt=SALT)
    return settings.PUBLIC_URL + reverse("second_factor_open_link", args=[token])


def is_link_valid(user: User, token: str) -> bool:
    """Return whether this is a link for the teammate."""
    try:
        pk, key = signing.loads(token, salt=SALT, max_age=LINK_VALID_FOR)
    except (signing.BadSignature, ValueError, TypeError):
        return False
    return bool(pk == user.pk and constant_time_compare(key, key_of(user)))


def confirm_mailbox(request: HttpRequest, user: User, *, at: datetime) -> None:
    """Note in the session that this browser opened a link from an email to the teammate."""
    request.session[CONFIRMED_KEY] = [user.pk, at.timestamp()]


def needs_link(request: HttpRequest, user: User, *, at: datetime) -> bool:
    """Return whether the teammate must open an emailed link before they set up a second factor."""
    deadline = second_factor.deadline_of(user)
    if deadline is None or at < deadline:
        return False
    pk, confirmed_at = request.session.get(CONFIRMED_KEY) or (None, 0)
    return not (pk == user.pk and 0 <= at.timestamp() - confirmed_at < LINK_VALID_FOR.total_seconds())
