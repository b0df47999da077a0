"""Whoever is known comes back: one statement finds them, locks their row, and reads all else that a visit needs.

It is the short way of a visit, for those of whom nothing changes but what stands in their row. Everything else (who
is new, logs in, joins a company, or of whom subscribers are told) goes the long way, through `audiences.intake`.
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
from audiences.intake.attributes.custom_attributes import Unlearnt
from audiences.intake.attributes.fields import OnBadValue
from audiences.intake.customer_fields import Facts, read_facts
from audiences.intake.upsert import small_changes_to
from audiences.locks import Lock
from audiences.models import Company, Customer
from delivery.eligibility import live_messages
from delivery.eligibility.frequency_cap import Limit
from delivery.eligibility.live_messages import LiveMessages
from delivery.visits import statement as visit_statement

SESSION = timedelta(minutes=30)
LONGEST_SESSION = timedelta(hours=24)


class NeedsFullVisit(Exception):
    """More is to do than a short visit does; nothing was written yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedIdentity:
    """Who is said to be here, read and proved as far as this process can tell by itself."""

    facts: Facts
    by: str
    key: Any
    visitor: UUID | None
    company: str | None
    live: LiveMessages


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who is here, for which company, what is live, and which of it they have had, but for what was withdrawn."""

    customer: Customer
    company: Company | None
    live: LiveMessages
    cap: Limit | None
    had: frozenset[int] = frozenset()


def expect(
    facts: Mapping[str, Any],
    *,
    at: datetime,
    company: object,
    visitor: UUID | None,
    source: Source,
    on_bad_value: OnBadValue,
    is_proved: Callable[[tuple[str, bool]], bool],
) -> ClaimedIdentity | None:
    """Read what a page says of its user; None where this process cannot tell yet whether it is so.

    `company` is the company_id the page names for this visit.
    """
    live = live_messages.cached_live_messages(database=connection.settings_dict["NAME"])
    if live is None or not is_proved(live.identity):
        return None
    try:
        read = read_facts(facts, at=at, source=source, on_bad_value=on_bad_value, memory=live.kinds)
    except Unlearnt:
        return None
    found = {"user_id": read.identity.user_id, "email": read.identity.email, "visitor": visitor}
    by, key = next(((by, key) for by, key in found.items() if key), ("", None))
    if not by:
        return None
    named = next((one.company_id for one in read.companies if one.company_id == str(company)), None)
    return ClaimedIdentity(facts=read, by=by, key=key, visitor=visitor, company=named, live=live)


def meet(expected: ClaimedIdentity, *, at: datetime, lock_timeout: str) -> Arrival:
    """Lock and bring up to date who is here; LongWay where that is more than to write their row."""
    sent, live = expected.facts, expected.live
    sql, width = statement(expected.by)
    values = [
        *(expected.key, expected.visitor, [one.company_id for one in sent.companies], Lock.VISITS, lock_timeout),
        live.keys,
    ]
    with visit_statement.prepared() as cursor:
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
    # Who is in a company already, of which nothing is new.
    if any(
        one.remove or one.company_id not in companies or one.changes_to(companies[one.company_id])
        for one in sent.companies
    ):
        raise NeedsFullVisit
    changes = small_changes_to(customer, sent, found_by=FOUND_BY[expected.by], source=Source.BROWSER, at=at)
    if changes is None:
        raise NeedsFullVisit
    write(customer, changes, at=at)
    cap = Limit.from_settings(most, days)
    return Arrival(customer, companies.get(expected.company or ""), live, cap, frozenset(had or ()))


# What `intake` calls the ways to find somebody.
FOUND_BY = {"user_id": "user_id", "email": "email", "visitor": "id"}


def write(customer: Customer, changes: dict[str, Any], *, at: datetime) -> None:
    """Write what changed and, where one begins, the session, in one statement; nothing where nothing did."""
    wanted = changes | ({"updated_at": at} if changes else {})
    for column, value in wanted.items():
        setattr(customer, column, value)
    wanted |= begin_session(customer, at=at)
    if wanted:
        customer.save(force_update=True, update_fields=[*wanted])


def begin_session(customer: Customer, *, at: datetime) -> dict[str, Any]:
    """Count a web session where the last is over: 30 minutes of absence, 24 hours of presence (behaviour 6.3).

    Returns what that changes.
    """
    away = customer.last_seen_at is None or at - customer.last_seen_at > SESSION
    too_long = customer.session_started_at is not None and at - customer.session_started_at >= LONGEST_SESSION
    if not (away or too_long or customer.session_started_at is None):
        return {}
    customer.session_count += 1
    customer.session_started_at = at
    customer.first_seen_at = customer.first_seen_at or at
    return {name: getattr(customer, name) for name in ("session_count", "session_started_at", "first_seen_at")}


# By email only a customer without a user_id who is known by it, as `identify.ways_to` has it: at most one.
WHO: dict[str, str] = {
    "user_id": "c.user_id = $1::text",
    "email": "c.email = $1::text AND c.user_id IS NULL AND NOT c.email_is_said",
    "visitor": (
        "c.role = 'lead' AND c.archived_at IS NULL"
        " AND c.id = (SELECT o.customer_id FROM delivery_visitor o WHERE o.key = $1::uuid)"
    ),
}


@cache
def statement(by: str) -> tuple[bytes, int]:
    """The statement that finds somebody this way, and how many columns of it are the customer's.

    Whoever pauses a message knows by the shared lock which visits are under way. It is taken once the row is ours: a
    visit that waits its turn is none yet. The timeout is for what is asked after that.
    """
    of_customer, of_company = columns(Customer, "c"), columns(Company, "k")
    return (
        "SELECT ours.*, pg_advisory_xact_lock_shared($4::bigint), set_config('lock_timeout', $5::text, true) FROM ("
        "SELECT w.generation, w.cap_messages, w.cap_days, (SELECT l.id FROM delivery_visitor v JOIN audiences_customer"
        " l ON l.id = v.customer_id WHERE v.key = $2::uuid AND l.role = 'lead'"
        " AND l.archived_at IS NULL) AS lead,"
        f" {visit_statement.HAD.format(customer='c.id', live='$6')} AS had, m.id AS member,"
        f" {', '.join(of_customer + of_company)} FROM audiences_customer c CROSS JOIN audiences_workspace w"
        " LEFT JOIN audiences_membership m ON m.customer_id = c.id AND m.company_id IN"
        " (SELECT s.id FROM audiences_company s WHERE s.company_id = ANY($3::text[]))"
        f" LEFT JOIN audiences_company k ON k.id = m.company_id WHERE {WHO[by]} FOR NO KEY UPDATE OF c) AS ours"
    ).encode(), len(of_customer)


def columns(model: type[Model], alias: str) -> list[str]:
    """The columns of a table, each under a name of its own."""
    return [f"{alias}.{field.column} AS {alias}_{field.column}" for field in model._meta.concrete_fields]


def instance_from_row(model: type[Any], values: list[Any]) -> Any:
    """An instance of a row; JSON comes as text."""
    fields = model._meta.concrete_fields
    read = [
        json.loads(value) if isinstance(field, JSONField) and isinstance(value, str) else value
        for field, value in zip(fields, values, strict=True)
    ]
    return model.from_db(connection.alias, [field.attname for field in fields], read)
