"""Merge of a lead into a user at login: nothing is sent twice and no thread is lost (behaviour 3).

If the user does not exist yet, the lead's row becomes the user. Otherwise everything of the lead moves to the user, and
the lead's bare row is archived.
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
    ConfirmationMail,
    Customer,
    CustomerTag,
    Device,
    Event,
    EventSummary,
    IdempotencyKey,
    ImportLine,
    Membership,
    Note,
    Notification,
    Topic,
    TopicOptOut,
)
from audiences.models.customers import Role
from audiences.transactions import retried
from audiences.webhook_outbox import announce
from delivery import locks
from delivery.models import Conversation, DeliveryRecord, Reason, Status, Visitor
from messaging.models import Autosave, Message

# Of two records for one message the higher rank stays, so that nothing that may have been sent is repeated.
STATUS_RANK: dict[Status, int] = {
    Status.WITHDRAWN: 0,
    Status.SKIPPED: 1,
    Status.FAILED: 2,
    Status.WAITING: 3,
    Status.UNCERTAIN: 5,
    Status.SENDING: 6,
    Status.SENT: 7,
}
# A customer who was left out at go-live never gets the message (behaviour 4.21).
LEFT_OUT_RANK = 4
SETTLED = (Status.WITHDRAWN, Status.SKIPPED, Status.FAILED)
ENGAGEMENT_FIELDS = ("replied_at", "clicked_at", "opened_at", "dismissed_at")

# How the lead's rows become the user's: the foreign key to change, or statements for tables in which both may have the
# same row. `move_records` moves records and conversations; the visitor row is deleted because the browser is the user's
# from now on.
MOVES: dict[type[Model], str | tuple[str, ...]] = {
    DeliveryRecord: (),
    Conversation: (),
    Visitor: ("DELETE FROM delivery_visitor WHERE customer_id = %(lead)s",),
    Message: "to_customer",
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
    TopicOptOut: (
        "INSERT INTO audiences_topicoptout AS t (customer_id, topic_id, source, created_at)"
        " SELECT %(user)s, topic_id, source, created_at FROM audiences_topicoptout WHERE customer_id = %(lead)s"
        " ORDER BY topic_id ON CONFLICT (customer_id, topic_id) DO UPDATE SET source = excluded.source,"
        " created_at = excluded.created_at WHERE t.source <> 'customer' AND excluded.source = 'customer'",
        "DELETE FROM audiences_topicoptout WHERE customer_id = %(lead)s",
    ),
    ConfirmationMail: "customer",
    Device: "customer",
    Note: "customer",
    Autosave: "customer",
    Notification: "customer",
    ImportLine: "customer",
    # Before the events are merged: an event of both at the same time counts once.
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
# The user's own value wins; an empty one is filled with the lead's.
FILLED_FROM_LEAD = ("email", "name", "phone", "timezone", "country", "city", "language", "browser", "os", "user_agent")
LATEST_OF_BOTH = ("last_contacted_at", "last_heard_from_at", "last_opened_email_at", "last_clicked_email_at")
MAX_ATTEMPTS = 3


@retried
def log_in(
    lead: Customer, facts: Mapping[str, Any], *, at: datetime, source: Source, on_bad_value: OnBadValue
) -> Customer:
    """Return the user identified by `facts`, updated and merged with the lead.

    If this raises, the caller must roll back its transaction.
    """
    identity = Identity(user_id=read_user_id(facts.get("user_id")), email=read_email(facts.get("email")))
    ways = lookups(Customer.objects.all(), identity, source=source)
    found = [row for rows in ways.values() if (row := rows.first())]
    if found and found[0].pk != lead.pk:
        # `identify_in_transaction` locks the user: both rows must be locked before, in the order of their keys.
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
    """Move everything of the lead to the user, and archive the lead's bare row. Idempotent."""
    locks.lock_customers_with_rows((lead.pk, into.pk))
    into.refresh_from_db()
    lead.refresh_from_db()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL outbound.merging = 'on'")
        move_records(lead, into, at=at)
        for model, move in MOVES.items():
            if isinstance(move, str):
                model._default_manager.filter(**{move: lead}).update(**{move: into})  # noqa: SLF001 - of any model
            else:
                for statement in move:
                    cursor.execute(statement, {"lead": lead.pk, "user": into.pk})
        cursor.execute("SET LOCAL outbound.merging = 'off'")
    IdempotencyKey.objects.move_person(lead.pk, into=into.pk)
    Customer.objects.filter(pk=lead.pk).update(email=None, archived_at=at, updated_at=at)
    merge_profile(into, lead, at=at)


def move_records(lead: Customer, user: Customer, *, at: datetime) -> None:
    """Move records and conversations; retry if a matching round inserts the same message for the user meanwhile."""
    for attempt in range(MAX_ATTEMPTS):
        try:
            with transaction.atomic():
                resolve_duplicate_records(lead, user, at=at)
                return
        except IntegrityError:
            if attempt == MAX_ATTEMPTS - 1:
                raise


def resolve_duplicate_records(lead: Customer, user: Customer, *, at: datetime) -> None:
    """Keep one record for each message that both have, and move the lead's other records and conversations."""
    records = DeliveryRecord.objects.select_for_update(no_key=True).filter(customer__in=(lead, user)).order_by("pk")
    of_lead: dict[tuple[int, int | None], DeliveryRecord] = {}
    of_user: dict[tuple[int, int | None], DeliveryRecord] = {}
    for record in records:
        owned = of_lead if record.customer_id == lead.pk else of_user
        owned[record.message_id, record.company_id] = record
    better, worse = [], []
    for key in of_lead.keys() & of_user.keys():
        swap = progress_rank(of_lead[key]) > progress_rank(of_user[key])
        worse.append(of_user[key] if swap else of_lead[key])
        if swap:
            better.append(of_lead[key])
    losers = DeliveryRecord.objects.filter(pk__in=[record.pk for record in worse])
    losers.exclude(status__in=SETTLED).update(
        status=Status.SKIPPED, reason=Reason.MERGED, detail="", due_at=None, sent_at=None, claim=None, leased_until=None
    )
    if better:
        # The unique constraint allows one record per message and customer, so a third customer helps to swap the two.
        parking = Customer.objects.create(role=Role.LEAD, created_at=at, updated_at=at, archived_at=at)
        losers.filter(customer=user).update(customer=parking)
        DeliveryRecord.objects.filter(pk__in=[record.pk for record in better]).update(customer=user)
        losers.filter(customer=parking).update(customer=lead)
        parking.delete()
    DeliveryRecord.objects.filter(customer=lead).exclude(pk__in=losers.values("pk")).update(customer=user)
    # The user already has the same message; a second conversation moves only if it has replies.
    without_replies = Conversation.objects.filter(record__in=losers, parts=None)
    Conversation.objects.filter(customer=lead).exclude(pk__in=without_replies.values("pk")).update(customer=user)
    without_replies.update(customer=lead)


def progress_rank(record: DeliveryRecord) -> tuple[int, int]:
    """Return the rank of a record by its status, then by the customer's engagement."""
    rank = LEFT_OUT_RANK if record.reason == Reason.MATCHED_AT_LAUNCH else STATUS_RANK[Status(record.status)]
    return rank, sum(getattr(record, moment) is not None for moment in ENGAGEMENT_FIELDS)


def merge_profile(user: Customer, lead: Customer, *, at: datetime) -> None:
    """Add the lead's profile to the user's; the user's own values win.

    `last_seen_at` stays the user's: a rule on it refers to the time before this login (the article).
    """
    if not user.email:
        user.email_is_said, user.opted_in_at = lead.email_is_said, lead.opted_in_at
    elif user.email == lead.email:
        user.opted_in_at = user.opted_in_at or lead.opted_in_at
    for name in FILLED_FROM_LEAD:
        setattr(user, name, getattr(user, name) or getattr(lead, name))
    for name in LATEST_OF_BOTH:
        setattr(user, name, max(filter(None, (getattr(user, name), getattr(lead, name))), default=None))
    user.first_seen_at = min(filter(None, (user.first_seen_at, lead.first_seen_at)), default=None)
    user.created_at = min(user.created_at, lead.created_at)
    user.session_count += lead.session_count
    user.owner_id = user.owner_id or lead.owner_id
    # A flag that belongs to the lead's address comes with the address.
    if lead.unsubscribed_from_emails and not lead.opt_out_is_of_address:
        user.unsubscribed_from_emails, user.opt_out_is_of_address = True, False
    user.unsubscribed_by_customer_at = user.unsubscribed_by_customer_at or lead.unsubscribed_by_customer_at
    if lead.email and user.email == lead.email:
        user.has_hard_bounced |= lead.has_hard_bounced
        user.marked_email_as_spam |= lead.marked_email_as_spam and not lead.complaint_is_of_address
    user.details = {**lead.details, **user.details}
    user.attributes = {**lead.attributes, **user.attributes}
    user.updated_at = at
    user.save()
