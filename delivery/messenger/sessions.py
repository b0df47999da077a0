"""Tokens of browsers: for a visitor, the lead their first message makes them, or a user (behaviour 4.14).

A visitor has a signed key in a cookie of the website; the database stores nothing before the visitor writes. A user
with a valid user_hash has a session token, which expires, and which a change of the identity secret invalidates.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.core.signing import BadSignature, Signer
from django.db import IntegrityError, transaction

from audiences.intake import Source
from audiences.models import Customer
from audiences.models.customers import Role
from delivery.models import Visitor

# The messenger gets a new token with each visit, every five minutes on a visible page.
SESSION_LIFETIME = timedelta(hours=12)
VISITOR, SESSION = "visitor", "session"
PROVED = "proved"


class VisitorHasNotWritten(Exception):
    """The visitor has not written yet, so there is no lead."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """The customer a token speaks for, or a visitor who has not written yet."""

    customer: Customer | None = None
    visitor: UUID | None = None
    source: Source = Source.BROWSER


def new_key() -> UUID:
    return uuid4()


def visitor_token(key: UUID) -> str:
    return Signer(salt=VISITOR).sign(str(key))


def read_visitor(token: object) -> UUID | None:
    """Return the key in a visitor's token; None if the token is invalid."""
    if not isinstance(token, str):
        return None
    try:
        return UUID(Signer(salt=VISITOR).unsign(token))
    except (BadSignature, ValueError):
        return None


def session_token(customer: Customer, *, secret: str, at: datetime, source: Source = Source.BROWSER) -> str:
    """Return a session token for a user; it also stores whether the browser proved the identity."""
    proved = [PROVED] if source is Source.PROVED_BROWSER else []
    return Signer(salt=session_salt(secret)).sign(":".join([str(customer.pk), str(int(at.timestamp())), *proved]))


def read_session(token: str, *, secret: str, at: datetime) -> tuple[int, Source] | None:
    """Return the customer's key and the source that a session token proves; None if it is invalid or expired."""
    try:
        pk, since, *proved = Signer(salt=session_salt(secret)).unsign(token).split(":")
    except BadSignature:
        return None
    if at.timestamp() - int(since) > SESSION_LIFETIME.total_seconds():
        return None
    return int(pk), Source.PROVED_BROWSER if proved == [PROVED] else Source.BROWSER


def session_salt(secret: str) -> str:
    """Return a salt that invalidates all sessions when staff change the identity secret."""
    return SESSION + hashlib.sha256(secret.encode()).hexdigest()


def speaker_of(token: str, *, secret: str, at: datetime) -> Speaker | None:
    """Return the speaker of a token; None if it is invalid or expired."""
    session = read_session(token, secret=secret, at=at)
    if session is not None:
        pk, source = session
        customer = Customer.objects.present().filter(pk=pk).first()
        return Speaker(customer=customer, source=source) if customer else None
    key = read_visitor(token)
    return None if key is None else Speaker(customer=lead_of(key), visitor=key)


def lead_of(key: UUID) -> Customer | None:
    """Return the lead of a visitor; None before the first message, and after the lead has become a user."""
    return Customer.objects.filter(visitors=key, role=Role.LEAD, archived_at=None).first()


def lead_for(key: UUID, *, at: datetime) -> Customer:
    """Return the lead of a visitor, or create it. Two tabs that write at once get the same lead."""
    if found := lead_of(key):
        return found
    # A lead that has become a user is identified by user_hash, not by the visitor key.
    Visitor.objects.filter(key=key).exclude(customer__role=Role.LEAD).delete()
    try:
        with transaction.atomic():
            lead = Customer.objects.create(
                role=Role.LEAD, created_at=at, updated_at=at, first_seen_at=at, last_seen_at=at, session_count=1
            )
            Visitor.objects.create(key=key, customer=lead, created_at=at)
    except IntegrityError:
        # Another tab created the lead first, or staff archived the lead, who is back now.
        Customer.objects.filter(visitors=key).update(archived_at=None)
        return Customer.objects.get(visitors=key)
    return lead
