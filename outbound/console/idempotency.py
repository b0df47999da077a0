"""Idempotency keys of forms: a form that is posted twice makes one message.

A double click on "Set live" on a new message would otherwise make two messages and send both to everyone.
"""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core import signing
from django.core.exceptions import BadRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audiences.locks import Lock

SALT = "outbound.console.idempotency"


class RefusedForm(BadRequest):
    """The form or request is refused; the text is shown to its sender."""


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Render the 400 page, with the exception's text only if it is ours: other texts may reveal internals."""
    words = str(exception) if isinstance(exception, RefusedForm) else ""
    return render(request, "400.html", {"exception": words}, status=400)


def issue_ticket(user: AbstractBaseUser | AnonymousUser) -> str:
    """Reserve the primary key of one message for this teammate and return it signed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('messaging_message', 'id'))")
        key = cursor.fetchone()[0]
    return signing.dumps([user.pk, key], salt=SALT)


def redeem_ticket(given: str, user: AbstractBaseUser | AnonymousUser) -> int:
    """Return the primary key in a ticket; a ticket is valid only for the teammate it was issued to."""
    try:
        owner, key = signing.loads(given, salt=SALT)
    except signing.BadSignature as wrong:
        raise RefusedForm("This form is not valid. Reload the page and try again.") from wrong
    if owner != user.pk:
        raise RefusedForm("This form belongs to another teammate. Reload the page and try again.")
    return int(key)


def lock_key(key: int) -> None:
    """Wait for another transaction that posts the same form. The lock is held until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [Lock.FORM, key % 2**31])
