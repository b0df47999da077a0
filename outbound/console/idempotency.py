"""A form posted twice does its work once: what it will make has its key before the form is shown.

A double click on "Set live" on a new message would otherwise make two messages, and write to everybody twice.
"""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core import signing
from django.core.exceptions import BadRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audiences.locks import Lock

SALT = "outbound.console.idempotency"


class NotThisForm(BadRequest):
    """This form cannot be taken; the words are for whoever sent it."""


def not_understood(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Say what was wrong with a request where the words are ours; those of others may tell too much."""
    words = str(exception) if isinstance(exception, NotThisForm) else ""
    return render(request, "400.html", {"exception": words}, status=400)


def ticket(user: AbstractBaseUser | AnonymousUser) -> str:
    """Reserve the key of one message for this teammate."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('messaging_message', 'id'))")
        key = cursor.fetchone()[0]
    return signing.dumps([user.pk, key], salt=SALT)


def redeem(given: str, user: AbstractBaseUser | AnonymousUser) -> int:
    """Return the key the form was shown with; it is good for the teammate it was shown to alone."""
    try:
        owner, key = signing.loads(given, salt=SALT)
    except signing.BadSignature as wrong:
        raise NotThisForm("This form was not made by this page. Open the page again.") from wrong
    if owner != user.pk:
        raise NotThisForm("This form was shown to somebody else. Open the page again.")
    return int(key)


def one_at_a_time(key: int) -> None:
    """Wait, until this transaction ends, for whoever posts the same form right now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [Lock.FORM, key % 2**31])
