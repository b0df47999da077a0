"""Visits: match messages for the customer who is present, and return their in-app messages.

One transaction with a locked customer row does all of it, with the last-seen value from before the visit (behaviour
4.5, 4.6). One prepared statement matches all live messages (behaviour 5).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg
from django.db import connection, transaction
from django.db.utils import OperationalError
from psycopg.types.json import Jsonb

from audiences.locks import Lock
from audiences.models import Company, Customer, Topic, Workspace
from audiences.transactions import retried
from audiences.webhook_outbox import announce
from delivery import process, rendering
from delivery.channels.in_app import Shown
from delivery.eligibility import live_messages
from delivery.eligibility.frequency_cap import GIVE_UP_AFTER, Limit
from delivery.eligibility.live_messages import LiveMessages
from delivery.models import DeliveryRecord
from delivery.rendering import Copy
from delivery.visits import fast_path, statement
from delivery.visits.fast_path import Arrival, ClaimedIdentity, NeedsFullVisit
from delivery.visits.statement import Row
from messaging.content import ContentError
from messaging.models import Channel, Format, MessageVersion

log = logging.getLogger(__name__)

CHECK_INTERVAL = timedelta(minutes=15)
# A matching round locks a customer's key while it inserts a slice, and matches that customer itself (behaviour 5).
LOCK_TIMEOUT, NO_LOCK_TIMEOUT = "150ms", "0"


@dataclass(frozen=True, slots=True)
class Visit:
    """The result of a visit: the in-app messages to show, and the number of new records."""

    customer: Customer
    shown: Sequence[Shown]
    matched: int


def visit(customer: Customer, *, at: datetime, company: Company | None = None) -> Visit:
    """Record a visit and return all in-app messages that are neither opened nor dismissed.

    `customer` was saved by intake in the same transaction; `company` is the company that the visit names. The last-seen
    values move after the matching, so that a "last seen" rule sees the time before this visit.
    """
    return visit_identified(lambda: (customer, company), at=at)


def visit_identified(
    identified: Callable[[], tuple[Customer, Company | None]], *, at: datetime, expected: ClaimedIdentity | None = None
) -> Visit:
    """Identify the customer and record the visit, in one transaction, which is repeated after a deadlock.

    With an `expected` identity the fast path is tried first; it takes at most three statements.
    """
    if expected is not None:
        with suppress_locked_out(), suppress(NeedsFullVisit):
            return fast_visit(expected, at=at, among=Channel, lock_timeout=LOCK_TIMEOUT)
    with suppress_locked_out():
        return full_visit(identified, at=at, among=Channel, lock_timeout=LOCK_TIMEOUT)
    # A matching round is inserting records for this customer, so emails and pushes are not lost. Rounds insert no
    # in-app messages, so matching only these needs no lock timeout.
    return full_visit(identified, at=at, among=[Channel.IN_APP], lock_timeout=NO_LOCK_TIMEOUT)


@retried
def fast_visit(expected: ClaimedIdentity, *, at: datetime, among: Iterable[Channel], lock_timeout: str) -> Visit:
    """Record a visit by the fast path; raise NeedsFullVisit if it does not apply."""
    visit = finish_visit(
        fast_path.update_known_customer(expected, at=at, lock_timeout=lock_timeout), at=at, among=among
    )
    if visit is None:
        raise NeedsFullVisit
    return visit


@retried
def full_visit(
    identified: Callable[[], tuple[Customer, Company | None]],
    *,
    at: datetime,
    among: Iterable[Channel],
    lock_timeout: str,
) -> Visit:
    """Record any visit, with one query after another."""
    customer, company = identified()
    live, cap = lock_customer(customer, lock_timeout=lock_timeout)
    fast_path.write_customer_changes(customer, {}, at=at)
    while (visit := finish_visit(Arrival(customer, company, live, cap), at=at, among=among)) is None:
        live = newest_live_messages()
    return visit


@contextmanager
def suppress_locked_out() -> Iterator[None]:
    """Leave the block if another transaction holds a key of this customer for longer than LOCK_TIMEOUT."""
    try:
        yield
    except (OperationalError, psycopg.errors.LockNotAvailable) as locked:
        if not isinstance(locked.__cause__ or locked, psycopg.errors.LockNotAvailable):
            raise


def finish_visit(arrival: Arrival, *, at: datetime, among: Iterable[Channel]) -> Visit | None:
    """Do the rest of a visit in the order of behaviour 4.6; return None as `match_live_messages` does."""
    rows = match_live_messages(arrival, at=at, among=among, visiting=True)
    if rows is None:
        return None
    arrival.customer.last_seen_at = at
    return Visit(
        arrival.customer,
        render_shown(arrival.customer, rows, live=arrival.live, at=at),
        sum(row.is_new for row in rows),
    )


def check(customer: Customer, *, at: datetime, then: Callable[[], object] | None = None) -> datetime | None:
    """Match emails and pushes for one customer, at most once per 15 minutes, also with concurrent callers.

    Return None if matching ran, else the next time it may run. A matching that fails does not count (behaviour 4.7).
    `then` is called after the commit if there were new records.
    """
    with suppress_locked_out():
        if check_one("id", customer.pk, at=at, then=then) is None:
            checked_at = Customer.objects.values_list("checked_at", flat=True).get(pk=customer.pk)
            return (checked_at or at) + CHECK_INTERVAL
        return None
    return at


def check_user(user_id: str, *, at: datetime, then: Callable[[], object] | None = None) -> Customer | None:
    """Like `check`, by user_id and without a lookup before. Return None if matching did not run.

    Only the key, the time zone and the last-seen value of the returned customer are loaded.
    """
    with suppress_locked_out():
        return check_one("user_id", user_id, at=at, then=then)
    return None


@retried
def check_one(by: str, key: object, *, at: datetime, then: Callable[[], object] | None) -> Customer | None:
    with statement.raw_cursor() as cursor:
        known = live_messages.cached_live_messages(database=connection.settings_dict["NAME"])
        values = [at, key, at - CHECK_INTERVAL, Lock.VISITS, LOCK_TIMEOUT, known.keys if known else []]
        cursor.execute(CHECK_STATEMENTS[by], values, prepare=True)
        row = cursor.fetchone()
    if row is None:
        return None
    generation, had, pk, timezone, last_seen_at, *_ = row
    customer = Customer(pk=pk, timezone=timezone, last_seen_at=last_seen_at)
    database = connection.settings_dict["NAME"]
    live = (
        newest_live_messages()
        if generation is None
        else live_messages.live_messages(generation=generation, database=database)
    )
    # The frequency cap for emails and pushes applies when they are claimed.
    arrival = Arrival(customer, None, live, None, frozenset(had or ()))
    while (rows := match_live_messages(arrival, at=at, among=Channel, visiting=False)) is None:
        arrival = replace(arrival, live=newest_live_messages())
    if rows and then is not None:
        transaction.on_commit(then)
    return customer


# Takes the row lock first and the shared advisory lock second, as `lock_customer` does.
CHECK_STATEMENTS: dict[str, bytes] = {
    by: (
        "WITH turn AS (UPDATE audiences_customer SET checked_at = $1::timestamptz"
        f" WHERE {who} AND (checked_at IS NULL OR checked_at <= $3::timestamptz) RETURNING id, timezone, last_seen_at)"
        " SELECT ours.*, pg_advisory_xact_lock_shared($4::bigint), set_config('lock_timeout', $5::text, true)"
        f" FROM (SELECT w.generation, {statement.RECEIVED_MESSAGES.format(customer='turn.id', live='$6')},"
        " turn.* FROM turn"
        " LEFT JOIN audiences_workspace w ON TRUE OFFSET 0) AS ours"
    ).encode()
    for by, who in {"id": "id = $2::bigint", "user_id": "user_id = $2::text AND archived_at IS NULL"}.items()
}


def lock_customer(customer: Customer, *, lock_timeout: str) -> tuple[LiveMessages, Limit | None]:
    """Lock and refresh the customer's row; return the current live messages and the frequency cap.

    The shared advisory lock shows which visits are in progress, so that pausing a message can wait for them. It is
    taken after the row lock, so a visit that waits for its row does not count. The timeout applies to all later
    statements.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ours.*, pg_advisory_xact_lock_shared(%(lock)s), set_config('lock_timeout', %(timeout)s, true)"
            " FROM (SELECT c.last_seen_at, c.present_since_at, c.session_started_at, c.session_count, c.first_seen_at,"
            " w.generation, w.cap_messages, w.cap_days"
            " FROM audiences_customer c CROSS JOIN audiences_workspace w"
            " WHERE c.id = %(customer)s FOR NO KEY UPDATE OF c) AS ours",
            {"customer": customer.pk, "lock": Lock.VISITS, "timeout": lock_timeout},
        )
        row = cursor.fetchone()
    if row is None:
        Workspace.current()
        return lock_customer(customer, lock_timeout=lock_timeout)
    last_seen_at, present_since_at, started_at, sessions, first_seen_at, generation, most, days, *_ = row
    customer.last_seen_at, customer.present_since_at = last_seen_at, present_since_at
    customer.session_started_at = started_at
    customer.session_count, customer.first_seen_at = sessions, first_seen_at
    live = live_messages.live_messages(generation=generation, database=connection.settings_dict["NAME"])
    return live, Limit.from_settings(most, days)


def newest_live_messages() -> LiveMessages:
    generation = Workspace.current().generation
    return live_messages.live_messages(generation=generation, database=connection.settings_dict["NAME"])


def match_live_messages(
    arrival: Arrival, *, at: datetime, among: Iterable[Channel], visiting: bool
) -> list[Row] | None:
    """Match all live messages for one customer in one statement; return new records and the in-app messages to show.

    For a visit it also moves the last-seen values. Return None, and write nothing, if the arrival's live messages are
    outdated.
    """
    customer, company, live, cap = arrival.customer, arrival.company, arrival.live, arrival.cap
    channels = set(among)
    opening = {m.pk: m.opening(customer.timezone, workspace=live.zone, at=at) for m in live.ongoing if m.window.spans}
    judged = [
        m.pk
        for m in live.ongoing
        if m.channel in channels
        and m.pk not in arrival.had
        # Outside its delivery window, an in-app message is not shown; an email waits for the window.
        and (m.channel != Channel.IN_APP or (visiting and opening.get(m.pk, at) <= at and not m.has_ended(at=at)))
    ]
    if not judged and not visiting:
        return []
    came = [
        m.pk
        for m in live.one_off_in_app
        if not m.has_ended(at=at) and m.opening(customer.timezone, workspace=live.zone, at=at) <= at
    ]
    sql, places = statement.statement(live, is_capped=cap is not None)
    values = {
        "cap": cap and cap.most,
        "capped_after": cap and at - cap.within,
        "give_up_before": at - GIVE_UP_AFTER,
        "now": at,
        "customer": customer.pk,
        "judged": judged,
        "in_app": live.in_app,
        "came": came if visiting else [],
        "visiting": visiting,
        "openings": Jsonb({str(pk): when.isoformat() for pk, when in opening.items() if when > at}),
        "company": company and company.pk,
        "company_last_seen": company and company.last_seen_before(at, customer=customer),
        "generation": live.generation,
        "values": Jsonb(rendering.variable_values(live.names, customer=customer, company=None) if visiting else {}),
    }
    with statement.raw_cursor() as cursor:
        cursor.execute(sql, [values[place] for place in places], prepare=True)
        rows = cursor.fetchall()
    if not rows or not rows[0][0]:
        return None
    return [Row.from_database(row[1:]) for row in rows if row[1] is not None]


def render_shown(customer: Customer, rows: list[Row], *, live: LiveMessages, at: datetime) -> list[Shown]:
    """Render the in-app messages to show, and store the variables of those that are shown for the first time."""
    in_app = [row for row in rows if row.sent_at is not None]
    texts: list[tuple[Row, Copy]] = []
    for row in sorted(in_app, key=lambda row: (row.sent_at, row.pk)):
        try:
            texts.append((row, copy_of(row)))
        except ContentError:
            log.warning("record %s cannot be shown", row.pk, exc_info=True)
    # The statement stored the variables of these messages; company variables differ from record to record.
    known = {message.pk for message in live.all() if message.names}
    unfilled = [(row, copy) for row, copy in texts if row.is_new and copy.names and row.message not in known]
    now_filled = fill_variables(unfilled, customer=customer)
    shown = []
    for row, copy in texts:
        filled = now_filled.get(row.pk, row.filled)
        if row.is_new and row.is_to_one:
            topic = Topic.CONVERSATION_ADMIN_SINGLE_CREATED
            announce(topic, customer=customer, at=at, conversation=row.conversation)
        if message := render_row(row, copy, filled):
            shown.append(message)
    return shown


def fill_variables(unfilled: Sequence[tuple[Row, Copy]], *, customer: Customer) -> dict[int, dict[str, object]]:
    """Store the values of the records' own variables, in two statements for any number of companies."""
    companies = Company.objects.in_bulk({row.company for row, _ in unfilled if row.company})
    filled = {
        row.pk: rendering.variable_values(copy.names, customer=customer, company=companies.get(row.company or 0))
        for row, copy in unfilled
    }
    DeliveryRecord.objects.bulk_update(
        [DeliveryRecord(pk=pk, variables=it) for pk, it in filled.items()], ["variables"]
    )
    return filled


def copy_of(row: Row) -> Copy:
    """Return the content of a record's message, cached in the process."""
    assert row.version is not None  # noqa: S101 - what was sent has one
    kept = process.renderings.get((row.version, False))
    return kept or rendering.copy_of(MessageVersion.objects.get(pk=row.version), channel=Channel.IN_APP)


def render_row(row: Row, copy: Copy, filled: Mapping[str, object]) -> Shown | None:
    """Render an in-app message with the values of its first showing; return None if its content cannot be rendered."""
    assert row.sent_at is not None  # noqa: S101 - it was sent
    try:
        read = copy.render(filled, record_id=row.pk)
    except ContentError:
        log.warning("record %s cannot be shown", row.pk, exc_info=True)
        return None
    return Shown(
        record=row.pk,
        message=row.message,
        format=row.format or Format.CHAT,
        subject="" if row.format == Format.CHAT else read.subject,
        body=read.html,
        sender=row.sender or "",
        sent_at=row.sent_at,
    )
