"""What comes back about a copy: opened, a link followed, and its customer unsubscribed or come back.

The first time by a person is the record's moment; all of them are counted (`delivery.tracking.hits`), people's and
others' apart. Openings and clicks commit each statement by itself, so they hold no record while they wait for a
customer.
"""

from datetime import datetime

from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, Greatest

from audiences.models import Customer
from audiences.transactions import retried
from audiences.webhook_outbox import announce_customer_change
from delivery import locks, tokens
from delivery.models import DeliveryRecord, Link, VisitorKind
from delivery.tracking import bots, hits
from messaging import content


def record_of(token: str) -> DeliveryRecord | None:
    """The record an unsubscribe token speaks of; None for a token that is not ours. Tokens never expire."""
    read = tokens.read_token(token, purpose="unsubscribe", numbers=1)
    return copy_of(read[0]) if read else None


def copy_of(pk: int) -> DeliveryRecord | None:
    """A record with whom it is about."""
    return DeliveryRecord.objects.select_related("customer", "message").filter(pk=pk).first()


def opened(token: str, *, who: VisitorKind, at: datetime) -> None:
    """Count an opening; a token that is not ours counts nothing."""
    read = tokens.read_token(token, purpose="tracking", numbers=2)
    record = copy_of(read[0]) if read else None
    if record is None:
        return
    hits.count(record, link=None, who=who, at=at)
    if who is VisitorKind.PERSON:
        note(record, at=at, clicked=False)


def follow(token: str, number: int, *, who: VisitorKind, at: datetime) -> str | None:
    """Count a click, and return where the link leads; None where it is none that was in the message."""
    read = tokens.read_token(token, purpose="tracking", numbers=2)
    record = copy_of(read[0]) if read else None
    if read is None or record is None:
        return None
    link = Link.objects.filter(version=read[1], version__message=record.message_id, number=number).first()
    if link is None:
        return None
    try:
        address = content.link_destination(link.address, record.variables)
    except content.ContentError:
        return None
    # Apple Mail loads pictures by itself, and no links: what says no more of itself there is no browser.
    if who is not VisitorKind.PERSON or bots.is_too_soon(sent_at=record.sent_at, at=at):
        who = VisitorKind.MACHINE
    hits.count(record, link=link, who=who, at=at)
    if who is VisitorKind.PERSON:
        note(record, at=at, clicked=True)
    hits.take_back_from_scanner(record, version_id=link.version_id, at=at)
    return address


def note(record: DeliveryRecord, *, at: datetime, clicked: bool) -> None:
    """Note the first time on the record, and the last on the customer; who clicked has opened it."""
    names = ("opened", "clicked") if clicked else ("opened",)
    missing = Q(opened_at=None) | Q(clicked_at=None) if clicked else Q(opened_at=None)
    moments = {f"{name}_at": Coalesce(F(f"{name}_at"), Value(at)) for name in names}
    DeliveryRecord.objects.filter(missing, pk=record.pk).update(**moments)
    last = {f"last_{name}_email_at": Greatest(F(f"last_{name}_email_at"), Value(at)) for name in names}
    Customer.objects.filter(pk=record.customer_id).update(**last)


def with_customer_locked(record: DeliveryRecord) -> DeliveryRecord:
    """Lock the customer, and return the record as it is then: it may have become another customer's by a merge."""
    rows = DeliveryRecord.objects.select_related("customer").filter(pk=record.pk)
    locks.lock_customers_of(rows)
    return rows.get()


@retried
def unsubscribe(record: DeliveryRecord, *, at: datetime) -> None:
    """Take a customer off all email by their own hand, which no sync undoes (behaviour 4.11); again is no harm."""
    record = with_customer_locked(record)
    DeliveryRecord.objects.filter(pk=record.pk, unsubscribed_at=None).update(unsubscribed_at=at)
    customers = Customer.objects.filter(pk=record.customer_id)
    is_new = customers.filter(unsubscribed_from_emails=False).update(unsubscribed_from_emails=True, updated_at=at)
    customers.filter(unsubscribed_by_customer_at=None).update(unsubscribed_by_customer_at=at)
    if is_new:
        announce_customer_change(record.customer, "unsubscribed", at=at)


@retried
def subscribe_again(record: DeliveryRecord, *, at: datetime) -> None:
    """Take back by their own hand what a customer asked for; the report goes on to count that they unsubscribed."""
    record = with_customer_locked(record)
    customers = Customer.objects.filter(pk=record.customer_id, unsubscribed_from_emails=True)
    customers.update(unsubscribed_from_emails=False, unsubscribed_by_customer_at=None, updated_at=at)
