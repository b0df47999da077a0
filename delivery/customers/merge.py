"""A lead who turns out to be a user: one person from now on, nothing sent twice, no thread lost (behaviour 3).

The lead's row simply becomes the user's. Where the user is there already, all that is the lead's moves to them, and the
lead's bare row is archived.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Model

from audiences import intake
from audiences.intake import Source
from audiences.intake.attributes.fields import OnBadValue
from audiences.intake.identity_resolution import Identity, read_email, read_user_id
from audiences.intake.upsert import lock_email, lookups
from audiences.models import (
    Customer,
    CustomerTag,
    Device,
    Event,
    EventSummary,
    Membership,
    Note,
    Notification,
    Topic,
)
from audiences.models.customers import Role
from audiences.transactions import retried
from audiences.webhook_outbox import announce
from delivery import locks
from delivery.models import Conversation, DeliveryRecord, Reason, Status, Visitor
from messaging.models import Message

# Of two records for one message the one further along stays: what was or may have been handed over is never repeated.
ALONG: dict[Status, int] = {
    Status.WITHDRAWN: 0,
    Status.SKIPPED: 1,
    Status.FAILED: 2,
    Status.WAITING: 3,
    Status.UNCERTAIN: 4,
    Status.SENDING: 5,
    Status.SENT: 6,
}
SETTLED = (Status.WITHDRAWN, Status.SKIPPED, Status.FAILED)
ENGAGED = ("replied_at", "clicked_at", "opened_at", "dismissed_at")

# How what belongs to the lead becomes the user's; what both have is there once. Records and conversations are moved by
# `move_records`, and the browser is the user's own from here on.
MOVES: dict[type[Model], tuple[str, ...]] = {
    DeliveryRecord: (),
    Conversation: (),
    Visitor: ("DELETE FROM delivery_visitor WHERE customer_id = %(lead)s",),
    Message: ("UPDATE messaging_message SET to_customer_id = %(user)s WHERE to_customer_id = %(lead)s",),
    CustomerTag: (
        "INSERT INTO audiences_customertag (customer_id, tag_id, created_at) SELECT %(user)s, tag_id, created_at"
        " FROM audiences_customertag WHERE customer_id = %(lead)s ORDER BY tag_id ON CONFLICT DO NOTHING",
        "DELETE FROM audiences_customertag WHERE customer_id = %(lead)s",
    ),
    Membership: (
        "INSERT INTO audiences_membership (customer_id, company_id, created_at) SELECT %(user)s, company_id, created_at"
        " FROM audiences_membership WHERE customer_id = %(lead)s ORDER BY company_id ON CONFLICT DO NOTHING",
        "DELETE FROM audiences_membership WHERE customer_id = %(lead)s",
    ),
    Device: ("UPDATE audiences_device SET customer_id = %(user)s WHERE customer_id = %(lead)s",),
    Note: ("UPDATE audiences_note SET customer_id = %(user)s WHERE customer_id = %(lead)s",),
    Notification: ("UPDATE audiences_notification SET customer_id = %(user)s WHERE customer_id = %(lead)s",),
    # Before the events: what both did in the same second is one event.
    EventSummary: (
        "INSERT INTO audiences_eventsummary AS s (customer_id, name, count, first_at, last_at)"
        " SELECT %(user)s, l.name, l.count - twice.n, l.first_at, l.last_at FROM audiences_eventsummary l"
        " CROSS JOIN LATERAL (SELECT count(*) AS n FROM audiences_event a JOIN audiences_event b"
        " ON b.customer_id = %(user)s AND b.name = a.name AND b.happened_at = a.happened_at"
        " WHERE a.customer_id = %(lead)s AND a.name = l.name) AS twice"
        " WHERE l.customer_id = %(lead)s AND l.count > twice.n ORDER BY l.name"
        " ON CONFLICT (customer_id, name) DO UPDATE SET count = s.count + excluded.count,"
        " first_at = least(s.first_at, excluded.first_at), last_at = greatest(s.last_at, excluded.last_at)",
        "DELETE FROM audiences_eventsummary WHERE customer_id = %(lead)s",
    ),
    Event: (
        "DELETE FROM audiences_event a USING audiences_event b WHERE a.customer_id = %(lead)s"
        " AND b.customer_id = %(user)s AND b.name = a.name AND b.happened_at = a.happened_at",
        "UPDATE audiences_event SET customer_id = %(user)s WHERE customer_id = %(lead)s",
    ),
}
# What the user does not say of themselves, the lead may have said.
FILLED = ("email", "name", "phone", "timezone", "country", "city", "language", "browser", "os", "user_agent")
LATEST = ("last_contacted_at", "last_heard_from_at", "last_opened_email_at", "last_clicked_email_at")
TRIES = 3


@retried
def log_in(
    lead: Customer, facts: Mapping[str, Any], *, at: datetime, source: Source, on_bad_value: OnBadValue
) -> Customer:
    """Return the user `facts` name, brought up to date, who is from now on also who the lead was.

    A transaction of the caller must end where this raises.
    """
    identity = Identity(user_id=read_user_id(facts.get("user_id")), email=read_email(facts.get("email")))
    ways = lookups(Customer.objects.all(), identity, source=source)
    found = [row for rows in ways.values() if (row := rows.first())]
    if found and found[0].pk != lead.pk:
        # Both before identifying locks the user, and in the order of their keys.
        if identity.email:
            lock_email(identity.email)
        Customer.objects.filter(pk__in=(lead.pk, found[0].pk)).lock()
        user = intake.identify_in_transaction(facts, at=at, source=source, on_bad_value=on_bad_value)
        merge(lead, into=user, at=at)
    else:
        Customer.objects.filter(pk=lead.pk).update(role=Role.USER)
        Visitor.objects.filter(customer=lead).delete()
        facts = {**facts, "id": str(lead.pk)}
        user = intake.identify_in_transaction(facts, at=at, source=source, on_bad_value=on_bad_value)
    announce(Topic.CONTACT_SIGNED_UP, customer=user, at=at)
    return user


@retried
def merge(lead: Customer, *, into: Customer, at: datetime) -> None:
    """Make all that is the lead's the user's, and archive the lead's bare row; again is no harm."""
    locks.lock_customers_with_rows((lead.pk, into.pk))
    into.refresh_from_db()
    lead.refresh_from_db()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL outbound.merging = 'on'")
        move_records(lead, into, at=at)
        for statements in MOVES.values():
            for statement in statements:
                cursor.execute(statement, {"lead": lead.pk, "user": into.pk})
        cursor.execute("SET LOCAL outbound.merging = 'off'")
    Customer.objects.filter(pk=lead.pk).update(email=None, archived_at=at, updated_at=at)
    learn(into, lead, at=at)


def move_records(lead: Customer, user: Customer, *, at: datetime) -> None:
    """Move records and threads; a round may be writing the same message down for the user, and is waited for."""
    for attempt in range(TRIES):
        try:
            with transaction.atomic():
                settle_doubles(lead, user, at=at)
                return
        except IntegrityError:
            if attempt == TRIES - 1:
                raise


def settle_doubles(lead: Customer, user: Customer, *, at: datetime) -> None:
    """Have one record stay for each message both have, and move the rest of the lead's with all that was said."""
    held = DeliveryRecord.objects.select_for_update(no_key=True).filter(customer__in=(lead, user)).order_by("pk")
    mine: dict[tuple[int, int | None], DeliveryRecord] = {}
    theirs: dict[tuple[int, int | None], DeliveryRecord] = {}
    for record in held:
        of_one = mine if record.customer_id == lead.pk else theirs
        of_one[record.message_id, record.company_id] = record
    better, worse = [], []
    for key in mine.keys() & theirs.keys():
        swap = along(mine[key]) > along(theirs[key])
        worse.append(theirs[key] if swap else mine[key])
        if swap:
            better.append(mine[key])
    losers = DeliveryRecord.objects.filter(pk__in=[record.pk for record in worse])
    losers.exclude(status__in=SETTLED).update(
        status=Status.SKIPPED, reason=Reason.MERGED, detail="", due_at=None, sent_at=None, claim=None, leased_until=None
    )
    if better:
        # A message is the user's once at every moment, so the two change places by way of a third row.
        parking = Customer.objects.create(role=Role.LEAD, created_at=at, updated_at=at, archived_at=at)
        losers.filter(customer=user).update(customer=parking)
        DeliveryRecord.objects.filter(pk__in=[record.pk for record in better]).update(customer=user)
        losers.filter(customer=parking).update(customer=lead)
        parking.delete()
    DeliveryRecord.objects.filter(customer=lead).exclude(pk__in=losers.values("pk")).update(customer=user)
    # The same message is in the user's list already; it is there twice only where something was said to it.
    unsaid = Conversation.objects.filter(record__in=losers, parts=None)
    Conversation.objects.filter(customer=lead).exclude(pk__in=unsaid.values("pk")).update(customer=user)
    unsaid.update(customer=lead)


def along(record: DeliveryRecord) -> tuple[int, int]:
    """How far a record is: by its status, then by what the customer did with it."""
    return ALONG[Status(record.status)], sum(getattr(record, moment) is not None for moment in ENGAGED)


def learn(user: Customer, lead: Customer, *, at: datetime) -> None:
    """Have the user known by what was known of the lead; where they differ, the user's own counts.

    Last-seen stays the user's: a rule on it is about the time before this log-in (the article).
    """
    if not user.email:
        user.email_is_said = lead.email_is_said
    for name in FILLED:
        setattr(user, name, getattr(user, name) or getattr(lead, name))
    for name in LATEST:
        setattr(user, name, max(filter(None, (getattr(user, name), getattr(lead, name))), default=None))
    user.first_seen_at = min(filter(None, (user.first_seen_at, lead.first_seen_at)), default=None)
    user.created_at = min(user.created_at, lead.created_at)
    user.session_count += lead.session_count
    user.owner_id = user.owner_id or lead.owner_id
    user.unsubscribed_from_emails |= lead.unsubscribed_from_emails
    user.unsubscribed_by_customer_at = user.unsubscribed_by_customer_at or lead.unsubscribed_by_customer_at
    if lead.email and user.email == lead.email:
        user.has_hard_bounced |= lead.has_hard_bounced
        user.marked_email_as_spam |= lead.marked_email_as_spam
    user.details = {**lead.details, **user.details}
    user.attributes = {**lead.attributes, **user.attributes}
    user.updated_at = at
    user.save()
