"""Visits: a customer is here, so what they match now is matched, and their in-app messages are shown.

Everything happens in one transaction with the customer's row locked, and is judged by the last-seen of before the
visit (behaviour 4.5, 4.6). All live messages are judged in one prepared statement (behaviour 5).
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

CHECK_EVERY = timedelta(minutes=15)
# A round holds a customer's key for as long as a slice takes; who is locked out is being matched anyway (behaviour 5).
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


def visit_of(
    identified: Callable[[], tuple[Customer, Company | None]], *, at: datetime, expected: ClaimedIdentity | None = None
) -> Visit:
    """Do the same for whom `identified` finds: who it is and the visit are one transaction, begun again if need be.

    Somebody `expected` of whom little is new takes three statements at most: who they are, what changed, and all else.
    """
    if expected is not None:
        with suppress_locked_out(), suppress(NeedsFullVisit):
            return short_visit(expected, at=at, among=Channel, lock_timeout=LOCK_TIMEOUT)
    with suppress_locked_out():
        return long_visit(identified, at=at, among=Channel, lock_timeout=LOCK_TIMEOUT)
    # A round is writing down this very customer, so what it brings is not lost by answering without it. Rounds leave
    # in-app messages to visits: for those nobody is waited for.
    return long_visit(identified, at=at, among=[Channel.IN_APP], lock_timeout=NONE)


@retried
def short_visit(expected: ClaimedIdentity, *, at: datetime, among: Iterable[Channel], lock_timeout: str) -> Visit:
    """The visit of somebody known; LongWay where it cannot be short."""
    visit = arrive(fast_path.meet(expected, at=at, lock_timeout=lock_timeout), at=at, among=among)
    if visit is None:
        raise NeedsFullVisit
    return visit


@retried
def long_visit(
    identified: Callable[[], tuple[Customer, Company | None]],
    *,
    at: datetime,
    among: Iterable[Channel],
    lock_timeout: str,
) -> Visit:
    """The visit of anybody, asking for one thing after the other."""
    customer, company = identified()
    live, cap = lock(customer, lock_timeout=lock_timeout)
    fast_path.write(customer, {}, at=at)
    while (visit := arrive(Arrival(customer, company, live, cap), at=at, among=among)) is None:
        live = newest()
    return visit


@contextmanager
def suppress_locked_out() -> Iterator[None]:
    """Go on after the block where another transaction held a key of this customer for longer than LOCK_TIMEOUT."""
    try:
        yield
    except (OperationalError, psycopg.errors.LockNotAvailable) as locked:
        if not isinstance(locked.__cause__ or locked, psycopg.errors.LockNotAvailable):
            raise


def arrive(met: Arrival, *, at: datetime, among: Iterable[Channel]) -> Visit | None:
    """Do the rest of a visit in the order of behaviour 4.6; None as `judge_live_messages`."""
    rows = judge_live_messages(met, at=at, among=among, visiting=True)
    if rows is None:
        return None
    met.customer.last_seen_at = at
    return Visit(met.customer, show(met.customer, rows, live=met.live, at=at), sum(row.is_new for row in rows))


def check(customer: Customer, *, at: datetime, then: Callable[[], object] | None = None) -> datetime | None:
    """Run matching of emails and pushes for one customer, at most once per 15 minutes however many ask at once.

    Returns None if it ran, else when it next may. A match that fails uses nothing up (behaviour 4.7). `then` is called
    once what was matched is committed.
    """
    with suppress_locked_out():
        if check_one("id", customer.pk, at=at, then=then) is None:
            checked_at = Customer.objects.values_list("checked_at", flat=True).get(pk=customer.pk)
            return (checked_at or at) + CHECK_EVERY
        return None
    return at


def check_user(user_id: str, *, at: datetime, then: Callable[[], object] | None = None) -> Customer | None:
    """Do the same for a user_id without looking who that is before; None where it did not run, for whatever reason.

    Of the customer that is returned only the key is known.
    """
    with suppress_locked_out():
        return check_one("user_id", user_id, at=at, then=then)
    return None


@retried
def check_one(by: str, key: object, *, at: datetime, then: Callable[[], object] | None) -> Customer | None:
    """Match for whom this names, if it is their turn."""
    with statement.prepared() as cursor:
        known = live_messages.cached_live_messages(database=connection.settings_dict["NAME"])
        values = [at, key, at - CHECK_EVERY, Lock.VISITS, LOCK_TIMEOUT, known.keys if known else []]
        cursor.execute(CHECK[by], values, prepare=True)
        row = cursor.fetchone()
    if row is None:
        return None
    generation, had, pk, timezone, last_seen_at, *_ = row
    customer = Customer(pk=pk, timezone=timezone, last_seen_at=last_seen_at)
    database = connection.settings_dict["NAME"]
    live = newest() if generation is None else live_messages.live_messages(generation=generation, database=database)
    # Emails and pushes meet the cap when they are claimed.
    met = Arrival(customer, None, live, None, frozenset(had or ()))
    while (rows := judge_live_messages(met, at=at, among=Channel, visiting=False)) is None:
        met = replace(met, live=newest())
    if rows and then is not None:
        transaction.on_commit(then)
    return customer


# Takes the turn and the lock visits share, in this order, as `lock` does.
CHECK: dict[str, bytes] = {
    by: (
        "WITH turn AS (UPDATE audiences_customer SET checked_at = $1::timestamptz"
        f" WHERE {who} AND (checked_at IS NULL OR checked_at <= $3::timestamptz) RETURNING id, timezone, last_seen_at)"
        " SELECT ours.*, pg_advisory_xact_lock_shared($4::bigint), set_config('lock_timeout', $5::text, true)"
        f" FROM (SELECT w.generation, {statement.HAD.format(customer='turn.id', live='$6')},"
        " turn.* FROM turn"
        " LEFT JOIN audiences_workspace w ON TRUE OFFSET 0) AS ours"
    ).encode()
    for by, who in {"id": "id = $2::bigint", "user_id": "user_id = $2::text AND archived_at IS NULL"}.items()
}


def lock(customer: Customer, *, lock_timeout: str) -> tuple[LiveMessages, Limit | None]:
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
            {"customer": customer.pk, "lock": Lock.VISITS, "timeout": lock_timeout},
        )
        row = cursor.fetchone()
    if row is None:
        Workspace.current()
        return lock(customer, lock_timeout=lock_timeout)
    last_seen_at, started_at, sessions, first_seen_at, generation, most, days, *_ = row
    customer.last_seen_at, customer.session_started_at = last_seen_at, started_at
    customer.session_count, customer.first_seen_at = sessions, first_seen_at
    live = live_messages.live_messages(generation=generation, database=connection.settings_dict["NAME"])
    return live, Limit.from_settings(most, days)


def newest() -> LiveMessages:
    """The live messages as of this moment."""
    generation = Workspace.current().generation
    return live_messages.live_messages(generation=generation, database=connection.settings_dict["NAME"])


def judge_live_messages(met: Arrival, *, at: datetime, among: Iterable[Channel], visiting: bool) -> list[Row] | None:
    """Judge all live messages for one customer in one statement; returns the records made and the in-app to show.

    Of a visit it moves the last-seens, too. None, and nothing done, where what was met is no longer what is live.
    """
    customer, company, live, cap = met.customer, met.company, met.live, met.cap
    channels = set(among)
    opening = {m.pk: m.opening(customer.timezone, workspace=live.zone, at=at) for m in live.ongoing if m.window.spans}
    judged = [
        m.pk
        for m in live.ongoing
        if m.channel in channels
        and m.pk not in met.had
        # Outside the window nothing in-app is shown; a mail waits for it.
        and ((m.channel != Channel.IN_APP) or (visiting and opening.get(m.pk, at) <= at))
    ]
    if not judged and not visiting:
        return []
    came = [m.pk for m in live.one_off_in_app if m.opening(customer.timezone, workspace=live.zone, at=at) <= at]
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
        "company_last_seen": company and company.last_seen_at,
        "generation": live.generation,
        "values": Jsonb(rendering.variable_values(live.names, customer=customer, company=None) if visiting else {}),
    }
    with statement.prepared() as cursor:
        cursor.execute(sql, [values[place] for place in places], prepare=True)
        rows = cursor.fetchall()
    if not rows or not rows[0][0]:
        return None
    return [Row.read(row[1:]) for row in rows if row[1] is not None]


def show(customer: Customer, rows: list[Row], *, live: LiveMessages, at: datetime) -> list[Shown]:
    """Finish what is shown for the first time, and return all in-app messages as they read to the customer."""
    in_app = [row for row in rows if row.sent_at is not None]
    texts: list[tuple[Row, Copy]] = []
    for row in sorted(in_app, key=lambda row: (row.sent_at, row.pk)):
        try:
            texts.append((row, copy_of(row)))
        except ContentError:
            log.warning("record %s cannot be shown", row.pk, exc_info=True)
    # What a company's variables stand for is not the same for all its messages.
    known = {message.pk for message in live.all() if message.names}
    unfilled = [(row, copy) for row, copy in texts if row.is_new and copy.names and row.message not in known]
    now_filled = fill_variables(unfilled, customer=customer)
    shown = []
    for row, copy in texts:
        filled = now_filled.get(row.pk, row.filled)
        if row.is_new and row.is_to_one:
            topic = Topic.CONVERSATION_ADMIN_SINGLE_CREATED
            announce(topic, customer=customer, at=at, conversation=row.conversation)
        if message := rendered(row, copy, filled):
            shown.append(message)
    return shown


def fill_variables(unfilled: Sequence[tuple[Row, Copy]], *, customer: Customer) -> dict[int, dict[str, object]]:
    """Fill in what these records' own variables stand for; two statements, however many companies they are about."""
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
    """The text of a record's message, read once in a process."""
    assert row.version is not None  # noqa: S101 - what was sent has one
    kept = process.renderings.get((row.version, False))
    return kept or rendering.copy_of(MessageVersion.objects.get(pk=row.version), channel=Channel.IN_APP)


def rendered(row: Row, copy: Copy, filled: Mapping[str, object]) -> Shown | None:
    """One in-app message as it read to the customer when it was first shown; None where its text cannot be made."""
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
