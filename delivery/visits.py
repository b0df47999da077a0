"""Visits: a customer is here, so what they match now is matched, and their in-app messages are shown.

Everything happens in one transaction with the customer's row locked, and is judged by the last-seen of before the
visit (DESIGN 4.5, 4.6). All live messages are judged in one prepared statement (DESIGN 5).
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.utils import OperationalError
from psycopg.sql import Literal
from psycopg.types.json import Jsonb

from audiences.compiler import PLACE
from audiences.models import Company, Customer, Workspace
from delivery import capping, conversations, copies, judging, locks
from delivery.capping import Cap
from delivery.channels.in_app import Shown
from delivery.judging import Live, LiveMessages
from delivery.models import DeliveryRecord, Reason, Status
from messaging.content import ContentError
from messaging.models import Channel, Format

log = logging.getLogger(__name__)

SESSION = timedelta(minutes=30)
LONGEST_SESSION = timedelta(hours=24)
CHECK_EVERY = timedelta(minutes=15)
# A round holds a customer's key for as long as a slice takes; who is locked out is being matched anyway (DESIGN 5).
LOCK_TIMEOUT, NONE = "150ms", "0"


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visit brought: the in-app messages to show, and how many records were made."""

    customer: Customer
    shown: Sequence[Shown]
    matched: int


def visit(customer: Customer, *, at: datetime, company: Company | None = None) -> Visit:
    """Record that the customer is here, and return every in-app message not yet opened or dismissed.

    `customer` is as intake left it a moment ago, in the same transaction; `company` is the one the visit names.
    Last-seens move only after the matching, so that a "last seen" rule is about the time before this visit.
    """
    return visit_of(lambda: (customer, company), at=at)


def visit_of(identified: Callable[[], tuple[Customer, Company | None]], *, at: datetime) -> Visit:
    """Do the same for whom `identified` finds: who it is and the visit are one transaction, begun again if need be."""
    with suppress_locked_out(), transaction.atomic():
        customer, company = identified()
        return arrive(customer, at=at, company=company, among=Channel, lock_timeout=LOCK_TIMEOUT)
    # A round is writing down this very customer, so what it brings is not lost by answering without it. Rounds leave
    # in-app messages to visits: for those nobody is waited for.
    with transaction.atomic():
        customer, company = identified()
        return arrive(customer, at=at, company=company, among=[Channel.IN_APP], lock_timeout=NONE)


@contextmanager
def suppress_locked_out() -> Iterator[None]:
    """Go on after the block where another transaction held a key of this customer for longer than LOCK_TIMEOUT."""
    try:
        yield
    except (OperationalError, psycopg.errors.LockNotAvailable) as locked:
        if not isinstance(locked.__cause__ or locked, psycopg.errors.LockNotAvailable):
            raise


def arrive(
    customer: Customer, *, at: datetime, company: Company | None, among: Iterable[Channel], lock_timeout: str
) -> Visit:
    """Do a visit in the order of DESIGN 4.6, matching messages of some channels."""
    live, cap = lock(customer, lock_timeout=lock_timeout, at=at)
    begin_session(customer, at=at)
    judged_by = company.last_seen_at if company else None
    rows = judge(customer, live=live, cap=cap, at=at, judged_company_last_seen=judged_by, among=among, visiting=True)
    if rows or company:
        # What is left to do waits for no round, but maybe for a company's row, in which visits take turns.
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    shown = show(customer, rows, at=at)
    saw(customer, company, at=at)
    return Visit(customer, shown, sum(row.is_new for row in rows))


def check(customer: Customer, *, at: datetime) -> datetime | None:
    """Run matching of emails and pushes for one customer, at most once per 15 minutes however many ask at once.

    Returns None where it ran, else when it next may. A match that fails uses nothing up (DESIGN 4.7).
    """
    with suppress_locked_out(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audiences_customer SET checked_at = %(now)s WHERE id = %(customer)s"
            " AND (checked_at IS NULL OR checked_at <= %(before)s) RETURNING id",
            {"now": at, "before": at - CHECK_EVERY, "customer": customer.pk},
        )
        if cursor.fetchone() is None:
            checked_at = Customer.objects.values_list("checked_at", flat=True).get(pk=customer.pk)
            return (checked_at or at) + CHECK_EVERY
        live, cap = lock(customer, lock_timeout=LOCK_TIMEOUT, at=at)
        judge(customer, live=live, cap=cap, at=at, judged_company_last_seen=None, among=Channel, visiting=False)
        return None
    return at


def lock(customer: Customer, *, lock_timeout: str, at: datetime) -> tuple[LiveMessages, Cap | None]:
    """Lock the customer's row, read it as it is now, and return the live messages as of this moment, and any cap.

    By the shared lock, whoever pauses a message knows which visits are under way. It is taken once the row is ours:
    a visit that waits its turn is none yet. The timeout is for what is asked after that.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ours.*, pg_advisory_xact_lock_shared(%(lock)s), set_config('lock_timeout', %(timeout)s, true)"
            " FROM (SELECT c.last_seen_at, c.session_started_at, c.session_count, c.first_seen_at, w.generation,"
            " w.cap_messages, w.cap_days"
            " FROM audiences_customer c CROSS JOIN audiences_workspace w"
            " WHERE c.id = %(customer)s FOR NO KEY UPDATE OF c) AS ours",
            {"customer": customer.pk, "lock": locks.VISITS, "timeout": lock_timeout},
        )
        row = cursor.fetchone()
    if row is None:
        Workspace.current()
        return lock(customer, lock_timeout=lock_timeout, at=at)
    last_seen_at, started_at, sessions, first_seen_at, generation, most, days, *_ = row
    customer.last_seen_at, customer.session_started_at = last_seen_at, started_at
    customer.session_count, customer.first_seen_at = sessions, first_seen_at
    cap = None if most is None else capping.cap_of([customer.pk], most=most, days=days, at=at)
    return judging.live_messages(generation=generation, database=connection.settings_dict["NAME"]), cap


def begin_session(customer: Customer, *, at: datetime) -> None:
    """Count a web session where the last is over: 30 minutes of absence, 24 hours of presence (product.md 3.3)."""
    away = customer.last_seen_at is None or at - customer.last_seen_at > SESSION
    too_long = customer.session_started_at is not None and at - customer.session_started_at >= LONGEST_SESSION
    if away or too_long or customer.session_started_at is None:
        customer.session_count += 1
        customer.session_started_at = at
        customer.first_seen_at = customer.first_seen_at or at
        customer.save(update_fields=["session_count", "session_started_at", "first_seen_at"])


@dataclass(frozen=True, slots=True)
class Row:
    """A record the statement made or found: in-app ones are to be shown."""

    pk: int
    sent_at: datetime | None
    is_new: bool


def judge(
    customer: Customer,
    *,
    live: LiveMessages,
    cap: Cap | None,
    at: datetime,
    judged_company_last_seen: datetime | None,
    among: Iterable[Channel],
    visiting: bool,
) -> list[Row]:
    """Judge all live messages for one customer in one statement; returns the records made and the in-app to show."""
    channels = set(among)
    opening = {m.pk: m.opening(customer.timezone, workspace=live.zone, at=at) for m in live.ongoing if m.window.spans}
    judged = [
        m.pk
        for m in live.ongoing
        if m.channel in channels
        # Outside the window nothing in-app is shown; a mail waits for it.
        and ((m.channel != Channel.IN_APP) or (visiting and opening.get(m.pk, at) <= at))
    ]
    came = [m.pk for m in live.one_off_in_app if m.opening(customer.timezone, workspace=live.zone, at=at) <= at]
    room = None if cap is None else cap.left(customer.pk)
    if visiting and room is not None:
        came = capping.may_come(customer.pk, messages=came, room=room, at=at)
        room -= len(came)
    sql, places = statement(live)
    values = {
        # How many in-app ones the customer may still be shown for the first time; null for all there are.
        "room": room,
        "now": at,
        "customer": customer.pk,
        "judged": judged,
        "came": came if visiting else [],
        "visiting": visiting,
        "openings": Jsonb({str(pk): when.isoformat() for pk, when in opening.items() if when > at}),
        "company_last_seen": judged_company_last_seen,
    }
    with prepared() as cursor:
        cursor.execute(sql, [values[place] for place in places], prepare=True)
        return [Row(*row) for row in cursor.fetchall()]


def prepared() -> psycopg.RawCursor[Any]:
    """A cursor of the driver itself, which can prepare; it works in the transaction Django has open."""
    connection.ensure_connection()
    return psycopg.RawCursor(connection.connection)


# What is live is asked anew in the statement itself: a pause may have been committed since the compiled was kept.
MAKE = (
    "made AS (INSERT INTO delivery_deliveryrecord AS r (message_id, version_id, customer_id, company_id, status,"
    " reason, due_at, sent_at, matched_at, judged_last_seen_at, judged_company_last_seen_at, detail, attempts,"
    " provider_id, filled)"
    " SELECT message_id, CASE WHEN in_app THEN m.version_id END, customer_id, company_id,"
    f" CASE WHEN in_app THEN '{Status.SENT}' ELSE '{Status.WAITING}' END,"
    f" CASE WHEN in_app THEN '' WHEN opening IS NULL THEN '{Reason.QUEUED}' ELSE '{Reason.WINDOW}' END,"
    " CASE WHEN NOT in_app THEN coalesce(opening, %(now)s::timestamptz) END,"
    " CASE WHEN in_app THEN %(now)s::timestamptz END,"
    " %(now)s::timestamptz, last_seen, %(company_last_seen)s::timestamptz, '', 0, '', '{}'::jsonb"
    " FROM (SELECT *, row_number() OVER (PARTITION BY in_app ORDER BY message_id, company_id) AS place"
    " FROM matched WHERE record_id IS NULL) AS matched"
    " JOIN messaging_message m ON m.id = message_id AND m.state IN ('live', 'sampled')"
    " WHERE NOT in_app OR %(room)s::int IS NULL OR place <= %(room)s::int"
    " ORDER BY message_id, company_id ON CONFLICT DO NOTHING"
    " RETURNING r.id, r.sent_at)"
)
AGAIN = (
    f"again AS (UPDATE delivery_deliveryrecord r SET status = '{Status.WAITING}',"
    f" reason = CASE WHEN opening IS NULL THEN '{Reason.QUEUED}' ELSE '{Reason.WINDOW}' END,"
    " due_at = coalesce(opening, %(now)s::timestamptz), matched_at = %(now)s::timestamptz,"
    " judged_last_seen_at = last_seen, judged_company_last_seen_at = %(company_last_seen)s::timestamptz"
    " FROM matched JOIN messaging_message m ON m.id = matched.message_id AND m.state IN ('live', 'sampled')"
    " WHERE r.id = matched.record_id AND NOT in_app"
    " RETURNING r.id, r.sent_at)"
)
CAME = (
    f"came AS (UPDATE delivery_deliveryrecord r SET status = '{Status.SENT}', sent_at = %(now)s::timestamptz,"
    " reason = '', version_id = m.version_id FROM messaging_message m"
    " WHERE %(visiting)s::boolean AND m.id = r.message_id AND m.state IN ('live', 'sampled')"
    # Whatever is locked is being withdrawn.
    " AND r.id IN (SELECT w.id FROM delivery_deliveryrecord w WHERE w.customer_id = %(customer)s::bigint"
    f" AND w.status = '{Status.WAITING}' AND w.reason = '{Reason.VISIT}' FOR NO KEY UPDATE SKIP LOCKED)"
    " AND (m.to_customer_id = r.customer_id OR m.id = ANY(%(came)s::bigint[]))"
    " RETURNING r.id, r.sent_at)"
)
ANSWER = (
    "SELECT id, sent_at, TRUE FROM made"
    " UNION ALL SELECT id, sent_at, TRUE FROM again"
    " UNION ALL SELECT id, sent_at, TRUE FROM came"
    " UNION ALL SELECT r.id, r.sent_at, FALSE"
    " FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
    " WHERE %(visiting)s::boolean AND r.customer_id = %(customer)s::bigint"
    f" AND m.channel = '{Channel.IN_APP}' AND r.status = '{Status.SENT}'"
    " AND r.opened_at IS NULL AND r.dismissed_at IS NULL"
)
NOBODY = (
    "SELECT NULL::bigint AS message_id, NULL::bigint AS customer_id,"
    " NULL::bigint AS company_id, NULL::timestamptz AS last_seen, NULL::boolean AS in_app,"
    " NULL::timestamptz AS opening, NULL::bigint AS record_id WHERE FALSE"
)


@lru_cache(maxsize=4)
def statement(live: LiveMessages) -> tuple[bytes, list[str]]:
    """The one statement that judges all live messages, and what is put in its places $1, $2 …

    The values of rules stand in it as literals: they are the same for every visit, the planner knows what to expect,
    and each visit binds a handful of values instead of hundreds.
    """
    params: dict[str, Any] = {}
    branches = []
    for message in live.ongoing:
        assert message.condition is not None  # noqa: S101 - ongoing ones are compiled
        params |= message.condition.params
        branches.append(branch(message))
    matched = " UNION ALL ".join(branches) or NOBODY
    sql = f"WITH matched AS MATERIALIZED ({matched}), {MAKE}, {AGAIN}, {CAME} {ANSWER}"
    places: list[str] = []

    def written(place: re.Match[str]) -> str:
        name = place[1]
        if name in params:
            return Literal(params[name]).as_string(connection.connection)
        if name not in places:
            places.append(name)
        return f"${places.index(name) + 1}"

    return PLACE.sub(written, sql).encode(), places


def branch(message: Live) -> str:
    """SQL for what one ongoing message asks of the customer: its pairs that match, and their withdrawn records."""
    assert message.condition is not None  # noqa: S101 - ongoing ones are compiled
    company = "k.id" if message.per_company else "NULL::bigint"
    in_app = message.channel == Channel.IN_APP
    pairs = message.condition.pairs(
        per_company=message.per_company,
        joins=(
            f" LEFT JOIN delivery_deliveryrecord r ON r.message_id = {message.pk} AND r.customer_id = c.id"
            f" AND r.company_id IS NOT DISTINCT FROM {company}"
        ),
        where=(
            f"{message.pk} = ANY(%(judged)s::bigint[]) AND c.id = %(customer)s::bigint AND {message.reachable}"
            f" AND (r.id IS NULL OR (r.status = '{Status.WITHDRAWN}' AND r.reason <> '{Reason.STOPPED}'))"
            + (" AND k.id IS NOT NULL" if message.per_company else "")
        ),
        columns=", c.last_seen_at AS last_seen, r.id AS record_id",
    )
    return (
        f"SELECT {message.pk}::bigint AS message_id, customer_id, company_id, last_seen, {in_app} AS in_app,"
        f" (%(openings)s::jsonb ->> '{message.pk}')::timestamptz AS opening, record_id FROM ({pairs}) AS pairs"
    )


def show(customer: Customer, rows: list[Row], *, at: datetime) -> list[Shown]:
    """Finish what is shown for the first time, and return all in-app messages as they read to the customer."""
    in_app = [row for row in rows if row.sent_at is not None]
    if not in_app:
        return []
    records = {
        record.pk: record
        for record in DeliveryRecord.objects.filter(pk__in=[row.pk for row in in_app]).select_related(
            "message__sender", "version", "company"
        )
    }
    new = [records[row.pk] for row in in_app if row.is_new]
    for record in new:
        assert record.version is not None  # noqa: S101 - what was sent has one
        copy = copies.copy_of(record.version, channel=Channel.IN_APP)
        record.filled = copies.fill(copy.names, customer=customer, company=record.company)
    if new:
        DeliveryRecord.objects.bulk_update(new, ["filled"])
        conversations.begin(new, at=at)
        Customer.objects.filter(pk=customer.pk).update(last_contacted_at=at)
    ordered = sorted((records[row.pk] for row in in_app), key=lambda record: (record.sent_at, record.pk))
    return [message for record in ordered if (message := shown(record)) is not None]


def shown(record: DeliveryRecord) -> Shown | None:
    """One in-app message as it read to the customer when it was first shown; None where its text cannot be made."""
    try:
        rendered = copies.as_read(record)
    except ContentError:
        log.warning("record %s cannot be shown", record.pk, exc_info=True)
        return None
    assert rendered is not None and record.sent_at is not None  # noqa: S101, PT018 - it was sent
    message = record.message
    return Shown(
        record=record.pk,
        message=record.message_id,
        format=message.format or Format.CHAT,
        body=rendered.html,
        sender=message.sender.name if message.sender else "",
        sent_at=record.sent_at,
    )


def saw(customer: Customer, company: Company | None, *, at: datetime) -> None:
    """Move the last-seens, now that everything has been judged by the old ones."""
    customer.last_seen_at = at
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_customer SET last_seen_at = %s WHERE id = %s", [at, customer.pk])
    if company is not None:
        Company.objects.filter(pk=company.pk).update(last_seen_at=at)
