"""Who a browser speaks for: a visitor we do not know, the lead its first words made, or a user (behaviour 4.14).

A visitor holds a signed key, kept in a cookie of the customer's own site; nothing is written down before it writes. A
user whose hash was right holds a session, which ends by itself and with the identity secret.
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

# The messenger's visits, every five minutes while it is visible, bring a new one.
SESSION_LIFETIME = timedelta(hours=12)
VISITOR, SESSION = "visitor", "session"
PROVED = "proved"


class VisitorHasNotWritten(Exception):
    """This visitor has not written yet, so nothing is known of them."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Whom a token speaks for: a customer, or a visitor who has not written yet."""

    customer: Customer | None = None
    visitor: UUID | None = None
    source: Source = Source.BROWSER


def new_key() -> UUID:
    """A key for a browser seen for the first time."""
    return uuid4()


def visitor_token(key: UUID) -> str:
    """What a visitor's browser keeps."""
    return Signer(salt=VISITOR).sign(str(key))


def read_visitor(token: object) -> UUID | None:
    """The key in a visitor's token; None for one that is not ours."""
    if not isinstance(token, str):
        return None
    try:
        return UUID(Signer(salt=VISITOR).unsign(token))
    except (BadSignature, ValueError):
        return None


def session_token(customer: Customer, *, secret: str, at: datetime, source: Source = Source.BROWSER) -> str:
    """What the browser of a user holds, and whether it has proved who it speaks for."""
    proved = [PROVED] if source is Source.PROVED_BROWSER else []
    return Signer(salt=session_salt(secret)).sign(":".join([str(customer.pk), str(int(at.timestamp())), *proved]))


def read_session(token: str, *, secret: str, at: datetime) -> tuple[int, Source] | None:
    """The customer a session is of, and how far its browser is believed; None for one that is over or not ours."""
    try:
        pk, since, *proved = Signer(salt=session_salt(secret)).unsign(token).split(":")
    except BadSignature:
        return None
    if at.timestamp() - int(since) > SESSION_LIFETIME.total_seconds():
        return None
    return int(pk), Source.PROVED_BROWSER if proved == [PROVED] else Source.BROWSER


def session_salt(secret: str) -> str:
    """A salt that ends all sessions when staff change the identity secret."""
    return SESSION + hashlib.sha256(secret.encode()).hexdigest()


def speaker_of(token: str, *, secret: str, at: datetime) -> Speaker | None:
    """Whom a token speaks for; None where it speaks for nobody, or no longer."""
    session = read_session(token, secret=secret, at=at)
    if session is not None:
        pk, source = session
        customer = Customer.objects.present().filter(pk=pk).first()
        return Speaker(customer=customer, source=source) if customer else None
    key = read_visitor(token)
    return None if key is None else Speaker(customer=lead_of(key), visitor=key)


def lead_of(key: UUID) -> Customer | None:
    """The lead a visitor has become; None before their first words, and once they are known as a user."""
    return Customer.objects.filter(visitors=key, role=Role.LEAD, archived_at=None).first()


def lead_for(key: UUID, *, at: datetime) -> Customer:
    """The lead a visitor is from their first words on; two tabs that write at once are one lead."""
    if found := lead_of(key):
        return found
    # Whoever has become a user since is known by what they prove, not by what their browser keeps.
    Visitor.objects.filter(key=key).exclude(customer__role=Role.LEAD).delete()
    try:
        with transaction.atomic():
            lead = Customer.objects.create(
                role=Role.LEAD, created_at=at, updated_at=at, first_seen_at=at, last_seen_at=at, session_count=1
            )
            Visitor.objects.create(key=key, customer=lead, created_at=at)
    except IntegrityError:
        # The other tab was first; or staff archived the lead, who is here again.
        Customer.objects.filter(visitors=key).update(archived_at=None)
        return Customer.objects.get(visitors=key)
    return lead
