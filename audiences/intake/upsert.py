"""Upsert of one customer: find, create or update the row (behaviour 4.14, wire 5.10)."""

from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction

from audiences.intake.attributes.custom_attributes import merge_values
from audiences.intake.attributes.fields import OnBadValue, Refused, raise_refusal
from audiences.intake.companies import update_memberships
from audiences.intake.confirmation import ask_new_address
from audiences.intake.customer_fields import CustomerFacts, read_facts
from audiences.intake.identity_resolution import Conflict, Identity, Unknown, candidates
from audiences.intake.source import Source
from audiences.locks import Lock
from audiences.models import Customer
from audiences.models.customers import CustomerQuerySet, Role
from audiences.models.suppression import FLAG_COLUMNS
from audiences.transactions import retried
from audiences.webhook_outbox import announce, announce_customer_change, customer_topic

# A request that loses a race for an identity looks again and finds the other request's row.
MAX_ATTEMPTS = 5
# The columns of unique constraints.
UNIQUE_COLUMNS = {"user_id", "email", "email_is_said"}


@retried
def identify(
    facts: Mapping[str, Any], *, at: datetime, source: Source = Source.REST, on_bad_value: OnBadValue = raise_refusal
) -> Customer:
    """Create or update the customer that `facts` identifies, and return the row, locked.

    `facts` has the fields of POST /users (wire 5.10). `on_bad_value` gets each bad value; by default it raises, which
    refuses the whole. Raises Conflict if the identifiers belong to two customers, and Unknown if no customer has the
    `id`. The lock lasts as long as the caller's transaction.
    """
    return identify_in_transaction(facts, at=at, source=source, on_bad_value=on_bad_value)


def identify_in_transaction(
    facts: Mapping[str, Any], *, at: datetime, source: Source, on_bad_value: OnBadValue
) -> Customer:
    """Do the same as `identify` in the caller's transaction, which the caller must roll back if this raises."""
    sent = read_facts(facts, at=at, source=source, on_bad_value=on_bad_value)
    if not sent.identity:
        raise Refused("Identify the user by id, user_id or email.", field="user_id")
    customer = upsert_customer(sent, source=source, at=at)
    update_memberships(customer, sent.companies, at=at)
    return customer


@retried
def archive_customer(customer: Customer, *, at: datetime) -> None:
    """Remove the customer from every audience. New data about the customer restores them."""
    if Customer.objects.filter(pk=customer.pk).archive(at=at):
        announce_customer_change(customer, "deleted", at=at)
    customer.archived_at = customer.archived_at or at


def upsert_customer(sent: CustomerFacts, *, source: Source, at: datetime) -> Customer:
    """Write the data to its row. Concurrent requests never create two rows or cause a database error."""
    for _ in range(MAX_ATTEMPTS):
        customer, found_by = lock_customer(sent.identity, source=source)
        check_identity_conflict(customer, sent.identity)
        changes = changes_to(customer, sent, found_by=found_by, source=source, at=at)
        contested = customer.pk is None or changes.keys() & UNIQUE_COLUMNS
        try:
            with transaction.atomic() if contested else nullcontext():
                return save_changes(customer, changes, at=at)
        except IntegrityError:
            continue
    raise Conflict("Other requests are changing this user at the same time. Send the request again.", field="user_id")


def is_email_proved(identity: Identity, *, source: Source) -> bool:
    """Return whether the email is proved. A browser proves its user_id if it has one, and else its email."""
    return not source.is_browser or not identity.user_id


def lookups(rows: CustomerQuerySet, identity: Identity, *, source: Source) -> dict[str, CustomerQuerySet]:
    """Return the queries that find an identity, in order, restricted to the rows the source has proved.

    A browser that proves only an email cannot be a customer with a user_id: the user_id is their proof.
    """
    if source.is_browser and not (identity.id or identity.user_id):
        rows = rows.filter(user_id=None)
    return candidates(rows, identity, is_email_proved=is_email_proved(identity, source=source))


def lock_customer(identity: Identity, *, source: Source) -> tuple[Customer, str]:
    """Return the row, locked, and the identifier that found it; an unsaved row and "" if there is none."""
    rows = Customer.objects.select_for_update(no_key=True)
    for name, meant in lookups(rows, identity, source=source).items():
        if name == "email":
            lock_email(str(identity.email))
        found = meant.first()
        # The remains of an erased customer must not be filled again.
        if found and not (name == "id" and found.is_erased):
            return found, name
        if name == "id":
            raise Unknown(f"No such id[{identity.id}]", field="id")
    return Customer(), ""


def lock_email(email: str) -> None:
    """Wait for other requests that look up this email, before any row is locked.

    No constraint prevents two requests from creating two customers with it, one with a user_id and one without.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [Lock.EMAIL, email])


def check_identity_conflict(customer: Customer, identity: Identity) -> None:
    """Raise Conflict if the id belongs to one customer, and the user_id or email to another."""
    if customer.pk is None or not identity.id:
        return
    others = Customer.objects.exclude(pk=customer.pk)
    if identity.user_id and others.filter(user_id=identity.user_id).exists():
        raise Conflict(f"id {customer.pk} and user_id {identity.user_id} belong to different users.", field="user_id")
    alone = not (identity.user_id or customer.user_id)
    known = others.filter(email=identity.email, user_id=None, email_is_said=False)
    if alone and identity.email and known.exists():
        raise Conflict(f"id {customer.pk} and email {identity.email} belong to different users.", field="email")


def changes_to(
    customer: Customer, sent: CustomerFacts, *, found_by: str, source: Source, at: datetime
) -> dict[str, Any]:
    """Return the columns that change, with their new values."""
    wanted = dict(sent.columns)
    if sent.identity.user_id:
        wanted["user_id"] = sent.identity.user_id
    if sent.identity.user_id or found_by in ("", "email"):
        wanted["role"] = Role.USER
    # An address that only identifies the customer does not prove that it is theirs.
    if wanted.get("email") and found_by != "email" and is_email_proved(sent.identity, source=source):
        wanted["email_is_said"] = False
    elif wanted.get("email") not in (None, customer.email):
        wanted["email_is_said"] = True
    if wanted.get("last_seen_at") and customer.first_seen_at is None:
        wanted["first_seen_at"] = wanted["last_seen_at"]
    if sent.new_session:
        wanted |= {"session_count": customer.session_count + 1, "session_started_at": at}
    wanted["unsubscribed_from_emails"] = resolve_opt_out(customer, said=sent.unsubscribed, source=source)
    if sent.unsubscribed:
        wanted["opt_out_is_of_address"] = False
    wanted["details"] = merge_values(customer.details, sent.details)
    wanted["attributes"] = merge_values(customer.attributes, sent.attributes)
    wanted["archived_at"] = None
    return {column: value for column, value in wanted.items() if getattr(customer, column) != value}


def small_changes_to(
    customer: Customer, sent: CustomerFacts, *, found_by: str, source: Source, at: datetime
) -> dict[str, Any] | None:
    """Return the columns that change; None if an identifier changes or webhooks are due."""
    changes = changes_to(customer, sent, found_by=found_by, source=source, at=at)
    return None if changes.keys() & UNIQUE_COLUMNS or changed_topics(customer, changes) else changes


def resolve_opt_out(customer: Customer, *, said: bool | None, source: Source) -> bool:
    """Return whether the customer is opted out: any source may opt out, only REST may undo what REST did."""
    is_own = customer.unsubscribed_by_customer_at is not None or customer.opt_out_is_of_address
    if said is False and source is Source.REST and not is_own:
        return False
    return said is True or customer.unsubscribed_from_emails


def save_changes(customer: Customer, changes: Mapping[str, Any], *, at: datetime) -> Customer:
    """Save the changes, if any, and write their webhooks."""
    topics = [customer_topic(customer, what) for what in changed_topics(customer, changes)]
    for column, value in changes.items():
        setattr(customer, column, value)
    if customer.pk is None:
        customer.created_at = customer.updated_at = at
        customer.save(force_insert=True)
    elif changes:
        customer.updated_at = at
        customer.save(update_fields=[*changes, "updated_at"])
    # Triggers decide about these columns: by the suppression list, and by the address that is confirmed.
    if customer.email and changes.keys() & {"email", "unsubscribed_from_emails"}:
        customer.refresh_from_db(fields=[*FLAG_COLUMNS, "opted_in_at"])
    if "email" in changes:
        ask_new_address(customer, at=at)
    for topic in topics:
        if topic is not None:
            announce(topic, customer=customer, at=at)
    return customer


def changed_topics(customer: Customer, changes: Mapping[str, Any]) -> list[str]:
    """Return the webhook topics of the changes, without the prefix “user.” or “contact.”."""
    if customer.pk is None:
        return ["created"]
    is_lead = customer.role == Role.LEAD
    found = {
        "added_email" if is_lead else "email.updated": changes.get("email"),
        "unsubscribed": changes.get("unsubscribed_from_emails"),
        "signed_up": is_lead and changes.get("role") == Role.USER,
    }
    return [what for what, is_so in found.items() if is_so]
