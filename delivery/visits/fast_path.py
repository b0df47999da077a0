"""Fast path of a visit: one statement finds a known customer, locks the row and reads everything else a visit needs.

It covers visits that change only the customer's own row. Any other visit (a new customer, a login, a new company, or a
change that webhook subscribers receive) raises NeedsFullVisit and takes the full path through `audiences.intake`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import JSONField, Model

from audiences.intake import Source
from audiences.intake.attributes.custom_attributes import UndeclaredAttribute
from audiences.intake.attributes.fields import OnBadValue
from audiences.intake.customer_fields import CustomerFacts, read_facts
from audiences.intake.upsert import small_changes_to
from audiences.locks import Lock
from audiences.models import Company, Customer
from audiences.models.presence import SESSION_IDLE_TIMEOUT
from delivery.eligibility import live_messages
from delivery.eligibility.frequency_cap import Limit
from delivery.eligibility.live_messages import LiveMessages
from delivery.visits import statement as visit_statement

MAX_SESSION_DURATION = timedelta(hours=24)


class NeedsFullVisit(Exception):
    """The visit does more than the fast path can do; nothing was written yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedIdentity:
    """The identity a page claims, parsed and verified with what this process knows."""

    facts: CustomerFacts
    by: str
    key: Any
    visitor: UUID | None
    company: str | None
    live: LiveMessages


@dataclass(frozen=True, slots=True)
class Arrival:
    """The visiting customer, the company of the visit, the live messages, and the messages already received."""

    customer: Customer
    company: Company | None
    live: LiveMessages
    cap: Limit | None
    had: frozenset[int] = frozenset()


def read_claimed_identity(
    facts: Mapping[str, Any],
    *,
    at: datetime,
    company: object,
    visitor: UUID | None,
    source: Source,
    on_bad_value: OnBadValue,
    is_proved: Callable[[tuple[str, bool]], bool],
) -> ClaimedIdentity | None:
    """Parse and verify the identity a page claims; return None if this process cannot decide without the database.

    `company` is the company_id that the page names for this visit.
    """
    live = live_messages.cached_live_messages(database=connection.settings_dict["NAME"])
    if live is None or not is_proved(live.identity):
        return None
    try:
        read = read_facts(facts, at=at, source=source, on_bad_value=on_bad_value, memory=live.kinds)
    except UndeclaredAttribute:
        return None
    found = {"user_id": read.identity.user_id, "email": read.identity.email, "visitor": visitor}
    by, key = next(((by, key) for by, key in found.items() if key), ("", None))
    if not by:
        return None
    named = next((one.company_id for one in read.companies if one.company_id == str(company)), None)
    return ClaimedIdentity(facts=read, by=by, key=key, visitor=visitor, company=named, live=live)


def update_known_customer(expected: ClaimedIdentity, *, at: datetime, lock_timeout: str) -> Arrival:
    """Lock the customer's row and write the changes of this visit; raise NeedsFullVisit if more is to be written."""
    sent, live = expected.facts, expected.live
    sql, width = lookup_statement(expected.by)
    values = [
        *(expected.key, expected.visitor, [one.company_id for one in sent.companies], Lock.VISITS, lock_timeout),
        live.keys,
    ]
    with visit_statement.raw_cursor() as cursor:
        cursor.execute(sql, values, prepare=True)
        rows = cursor.fetchall()
    if not rows or rows[0][0] != live.generation:
        raise NeedsFullVisit
    _, most, days, lead, had, _, *columns = rows[0]
    customer = instance_from_row(Customer, columns[:width])
    if lead is not None and lead != customer.pk:
        raise NeedsFullVisit
    companies = {}
    for row in rows:
        if row[5] is not None:
            company = instance_from_row(Company, row[6 + width : -2])
            companies[company.company_id] = company
    # The customer must already be a member of each company, and no company may change.
    if any(
        one.remove or one.company_id not in companies or one.changes_to(companies[one.company_id])
        for one in sent.companies
    ):
        raise NeedsFullVisit
    changes = small_changes_to(customer, sent, found_by=INTAKE_KEYS[expected.by], source=Source.BROWSER, at=at)
    if changes is None:
        raise NeedsFullVisit
    write_customer_changes(customer, changes, at=at)
    cap = Limit.from_settings(most, days)
    return Arrival(customer, companies.get(expected.company or ""), live, cap, frozenset(had or ()))


# The names that `intake` uses for the same keys.
INTAKE_KEYS = {"user_id": "user_id", "email": "email", "visitor": "id"}


def write_customer_changes(customer: Customer, changes: dict[str, Any], *, at: datetime) -> None:
    """Write the changed columns and any new session in one statement; write nothing if nothing changed."""
    wanted = changes | ({"updated_at": at} if changes else {})
    for column, value in wanted.items():
        setattr(customer, column, value)
    wanted |= begin_session(customer, at=at)
    if wanted:
        customer.save(force_update=True, update_fields=[*wanted])


def begin_session(customer: Customer, *, at: datetime) -> dict[str, Any]:
    """Begin a web session if the last one is over; return the changed columns.

    A session ends after 30 minutes of absence or 24 hours (behaviour 6.3).
    """
    away = customer.last_seen_at is None or at - customer.last_seen_at > SESSION_IDLE_TIMEOUT
    too_long = customer.session_started_at is not None and at - customer.session_started_at >= MAX_SESSION_DURATION
    if not (away or too_long or customer.session_started_at is None):
        return {}
    customer.session_count += 1
    customer.session_started_at = at
    customer.first_seen_at = customer.first_seen_at or at
    return {name: getattr(customer, name) for name in ("session_count", "session_started_at", "first_seen_at")}


# An email identifies only a customer without a user_id and with a verified email, as in `audiences.intake`.
CUSTOMER_CONDITIONS: dict[str, str] = {
    "user_id": "c.user_id = $1::text",
    "email": "c.email = $1::text AND c.user_id IS NULL AND NOT c.email_is_said",
    "visitor": (
        "c.role = 'lead' AND c.archived_at IS NULL"
        " AND c.id = (SELECT o.customer_id FROM delivery_visitor o WHERE o.key = $1::uuid)"
    ),
}


@cache
def lookup_statement(by: str) -> tuple[bytes, int]:
    """Return the statement that finds a customer by this key, and the number of its customer columns.

    The shared advisory lock shows which visits are in progress, so that pausing a message can wait for them. It is
    taken after the row lock, so a visit that waits for its row does not count. The timeout applies to all later
    statements.
    """
    of_customer, of_company = aliased_columns(Customer, "c"), aliased_columns(Company, "k")
    return (
        "SELECT ours.*, pg_advisory_xact_lock_shared($4::bigint), set_config('lock_timeout', $5::text, true) FROM ("
        "SELECT w.generation, w.cap_messages, w.cap_days, (SELECT l.id FROM delivery_visitor v JOIN audiences_customer"
        " l ON l.id = v.customer_id WHERE v.key = $2::uuid AND l.role = 'lead'"
        " AND l.archived_at IS NULL) AS lead,"
        f" {visit_statement.RECEIVED_MESSAGES.format(customer='c.id', live='$6')} AS had, m.id AS member,"
        f" {', '.join(of_customer + of_company)} FROM audiences_customer c CROSS JOIN audiences_workspace w"
        " LEFT JOIN audiences_membership m ON m.customer_id = c.id AND m.company_id IN"
        " (SELECT s.id FROM audiences_company s WHERE s.company_id = ANY($3::text[]))"
        f" LEFT JOIN audiences_company k ON k.id = m.company_id WHERE {CUSTOMER_CONDITIONS[by]}"
        " FOR NO KEY UPDATE OF c) AS ours"
    ).encode(), len(of_customer)


def aliased_columns(model: type[Model], alias: str) -> list[str]:
    """Return the columns of a table, each with a unique alias."""
    return [f"{alias}.{field.column} AS {alias}_{field.column}" for field in model._meta.concrete_fields]


def instance_from_row(model: type[Any], values: list[Any]) -> Any:
    """Build a model instance from a row; JSON columns arrive as text."""
    fields = model._meta.concrete_fields
    read = [
        json.loads(value) if isinstance(field, JSONField) and isinstance(value, str) else value
        for field, value in zip(fields, values, strict=True)
    ]
    return model.from_db(connection.alias, [field.attname for field in fields], read)
