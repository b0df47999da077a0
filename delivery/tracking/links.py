"""Opens, clicks and unsubscribes of a copy, identified by the signed token in its links.

The record keeps the time of the first open and click by a person; `delivery.tracking.hits` counts all of them, by kind
of visitor. Each statement of an open or click commits by itself, so that none locks a record while it waits for a
customer's lock.
"""

from datetime import datetime

from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, Greatest

from audiences.models import Customer, Suppression, SuppressionReason, SuppressionSource
from audiences.models.suppression import has_address
from audiences.transactions import retried
from audiences.webhook_outbox import announce_customer_change
from delivery import locks, tokens
from delivery.models import DeliveryRecord, Link, VisitorKind
from delivery.tracking import bots, hits
from messaging import content


def record_of_unsubscribe_token(token: str) -> DeliveryRecord | None:
    """Return the record of an unsubscribe token; None if the token is invalid. Tokens never expire."""
    numbers = tokens.read_token(token, purpose="unsubscribe", numbers=1)
    return get_record(numbers[0]) if numbers else None


def get_record(pk: int) -> DeliveryRecord | None:
    return DeliveryRecord.objects.select_related("customer", "message__topic").filter(pk=pk).first()


def record_open(token: str, *, who: VisitorKind, at: datetime) -> None:
    """Record an open; an invalid token is ignored."""
    numbers = tokens.read_token(token, purpose="tracking", numbers=2)
    record = get_record(numbers[0]) if numbers else None
    if record is None:
        return
    hits.count_hit(record, link=None, who=who, at=at)
    if who is VisitorKind.PERSON:
        update_engagement_times(record, at=at, clicked=False)


def record_click(token: str, number: int, *, who: VisitorKind, at: datetime) -> str | None:
    """Record a click and return the link's URL; None if the message has no such link."""
    numbers = tokens.read_token(token, purpose="tracking", numbers=2)
    record = get_record(numbers[0]) if numbers else None
    if numbers is None or record is None:
        return None
    link = Link.objects.filter(version=numbers[1], version__message=record.message_id, number=number).first()
    if link is None:
        return None
    try:
        address = content.link_destination(link.address, record.variables)
    except content.ContentError:
        return None
    # Apple's proxy loads images but no links, so a click with its bare user agent comes from another program.
    if who is not VisitorKind.PERSON or bots.is_too_soon(sent_at=record.sent_at, at=at):
        who = VisitorKind.MACHINE
    hits.count_hit(record, link=link, who=who, at=at)
    if who is VisitorKind.PERSON:
        update_engagement_times(record, at=at, clicked=True)
    hits.reclassify_scanner_clicks(record, version_id=link.version_id, at=at)
    return address


def update_engagement_times(record: DeliveryRecord, *, at: datetime, clicked: bool) -> None:
    """Update the record's first and the customer's last times; a click is also an open."""
    names = ("opened", "clicked") if clicked else ("opened",)
    missing = Q(opened_at=None) | Q(clicked_at=None) if clicked else Q(opened_at=None)
    moments = {f"{name}_at": Coalesce(F(f"{name}_at"), Value(at)) for name in names}
    DeliveryRecord.objects.filter(missing, pk=record.pk).update(**moments)
    last = {f"last_{name}_email_at": Greatest(F(f"last_{name}_email_at"), Value(at)) for name in names}
    Customer.objects.filter(pk=record.customer_id).update(**last)


def lock_customer_and_reload(record: DeliveryRecord) -> DeliveryRecord:
    """Lock the record's customer, and return the current record: a merge may have moved it to another customer."""
    rows = DeliveryRecord.objects.select_related("customer", "message").filter(pk=record.pk)
    addresses = {address for row in rows if (address := row.recipient_address)}
    locks.lock_customers_of(rows, and_addresses=addresses)
    return rows.get()


def mark_unsubscribed(record: DeliveryRecord, *, at: datetime) -> None:
    """Record the first unsubscribe by this copy, which the report counts. Lock its customer first."""
    DeliveryRecord.objects.filter(pk=record.pk, unsubscribed_at=None).update(unsubscribed_at=at)


@retried
def unsubscribe(record: DeliveryRecord, *, at: datetime) -> None:
    """Unsubscribe a customer from all email at their own request, which no sync undoes (behaviour 4.11). Idempotent.

    Of all addresses only that of the copy is listed: another address of the customer may be another person's.
    """
    record = lock_customer_and_reload(record)
    mark_unsubscribed(record, at=at)
    address = record.recipient_address
    # Before the address is suppressed, as that sets the flags of everyone who has it.
    subscribed = Customer.objects.filter(unsubscribed_from_emails=False).order_by("pk")
    left = list(subscribed.filter(Q(pk=record.customer_id) | has_address(filter(None, [address]))))
    if address:
        Suppression.objects.suppress(
            address,
            SuppressionReason.OPT_OUT,
            source=SuppressionSource.CUSTOMER,
            detail=f"unsubscribed from “{record.message}”",
            at=at,
        )
    customers = Customer.objects.filter(pk=record.customer_id)
    customers.filter(unsubscribed_from_emails=False).update(unsubscribed_from_emails=True, updated_at=at)
    customers.filter(unsubscribed_by_customer_at=None).update(unsubscribed_by_customer_at=at)
    for customer in left:
        announce_customer_change(customer, "unsubscribed", at=at)


def chose_about_all_email_since(record: DeliveryRecord, *, since: datetime) -> bool:
    """Return whether the address of the copy was unsubscribed from all email, or subscribed again, since then."""
    entries = Suppression.objects.of_address(record.recipient_address).filter(reason=SuppressionReason.OPT_OUT)
    return entries.filter(Q(created_at__gte=since) | Q(lifted_at__gte=since)).exists()


@retried
def subscribe_again(record: DeliveryRecord, *, at: datetime) -> None:
    """Subscribe a customer again at their own request; the report still counts the unsubscribe."""
    record = lock_customer_and_reload(record)
    if address := record.recipient_address:
        Suppression.objects.of_address(address).filter(reason=SuppressionReason.OPT_OUT).lift(at=at)
    customers = Customer.objects.filter(pk=record.customer_id, unsubscribed_from_emails=True)
    customers.update(unsubscribed_from_emails=False, unsubscribed_by_customer_at=None, updated_at=at)
