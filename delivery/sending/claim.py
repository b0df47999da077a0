"""Claim: take a few due records of one message in hand, committed as sending (behaviour 5).

What cannot go now is settled in passing: whoever cannot be reached, whose window closed, who has had enough messages,
whose address has it already. Over 120 lines because the statement and what is done with its rows belong together.
"""

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from django.conf import settings
from django.db import connection, transaction
from django.db.utils import IntegrityError, OperationalError
from psycopg.types.json import Jsonb, JsonbLoader

from audiences.models import Workspace
from delivery import rendering
from delivery.eligibility import conditions, frequency_cap
from delivery.eligibility.frequency_cap import Cap
from delivery.models import IN_AN_INBOX, DeliveryRecord, Reason, Status
from messaging import delivery_window
from messaging.models import RUNNING, Channel, Message, SendType

UTC = ZoneInfo("UTC")
# How long a worker is believed to be alive with a batch in hand.
LEASE = timedelta(minutes=5)
# How much of it may pass before a worker says that it lives, as one does that waits for a slow server.
RENEWED_AFTER = timedelta(minutes=1)
# How soon to ask again after a copy to the same address that is in other hands, or a customer whose row is.
SOON = timedelta(seconds=5)
CLAIM_TRIES = 5
# What staff may have edited of a live message since it was read.
EDITED = ("window", "window_zone", "same_inbox_once", "sender", "updated_at")
PEOPLE = (
    *("name", "email", "user_id", "phone", "country", "city", "timezone", "language", "browser", "os"),
    *("session_count", "signed_up_at", "first_seen_at", "last_seen_at", "last_contacted_at", "last_heard_from_at"),
    "attributes",
)
COMPANIES = (
    *("name", "company_id", "plan", "size", "industry", "website", "monthly_spend"),
    *("remote_created_at", "last_seen_at", "attributes"),
)

FACTS = ", ".join(f"c.{name}" for name in PEOPLE) + ", " + ", ".join(f"k.{name}" for name in COMPANIES)
# A push goes to the devices that have none of it yet.
DEVICES = (
    "(SELECT array_agg(v.token ORDER BY v.id) FROM audiences_device v"
    " WHERE v.customer_id = c.id AND v.retired_at IS NULL AND NOT EXISTS"
    " (SELECT FROM delivery_devicecopy d WHERE d.record_id = r.id AND d.device_id = v.id))"
)
IS_ON_A_DEVICE = "EXISTS (SELECT FROM delivery_devicecopy d WHERE d.record_id = r.id)"
# How many columns come before the facts.
HEAD_COLUMNS = 13
# What waited for one of these is judged again before it may go, where the message is ongoing.
NEEDS_RECHECK = f"r.reason IN ('{Reason.WINDOW}', '{Reason.CAP}')"
MARK_SENDING = (
    "UPDATE delivery_deliveryrecord r SET status = 'sending', reason = '', detail = '', attempts = r.attempts + 1,"
    " claim = %(claim)s, leased_until = %(until)s, taken_at = %(now)s, version_id = %(version)s,"
    " variables = given.variables, address = given.address"
    " FROM unnest(%(ids)s::bigint[], %(variables)s::jsonb[], %(addresses)s::text[]) AS given(id, variables, address)"
    " WHERE r.id = given.id"
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """One record in hand: who it goes to, and the values its text is filled with."""

    pk: int
    attempts: int
    to: tuple[str, ...]
    variables: dict[str, object]
    address: str | None = None
    company: int | None = None


@dataclass(slots=True)
class Batch:
    """What one claim brought: records in hand until a moment, and how many were found that cannot go now."""

    message: Message
    copy: rendering.Copy | None
    claim: uuid.UUID
    records: list[Claimed]
    until: datetime
    passed_over: int = 0
    # Whether its message is to be left alone for a while, as its sender is refused.
    rests: bool = False

    def __bool__(self) -> bool:
        return bool(self.records or self.passed_over)

    def is_ours(self, *, at: datetime) -> bool:
        """Whether it is still in our hands; before that is over, we say that we live."""
        if at >= self.until - LEASE + RENEWED_AFTER:
            mine = DeliveryRecord.objects.filter(claim=self.claim, status=Status.SENDING)
            if not mine.update(leased_until=at + LEASE):
                return False
            self.until = at + LEASE
        return True


@dataclass(slots=True)
class Row:
    """A due record as the statement found it."""

    pk: int
    attempts: int
    customer: int
    company: int | None
    capped_since: datetime | None
    blocked: str | None
    address: str | None
    to: list[str] | None  # None: every device of theirs has it, or no further one may get it.
    facts: list[Any]

    @property
    def copy_key(self) -> tuple[str | None, int | None]:
        """What one copy goes to: an inbox, for each company where it goes per company."""
        return self.address, self.company


@dataclass(slots=True)
class Claim:
    """A claim in the making: which rows are taken, and what becomes of the others."""

    message: Message
    at: datetime
    copy: rendering.Copy
    window: delivery_window.Window
    # The workspace's, by which the window goes where the customer's own does not decide.
    zone: ZoneInfo
    cap: Cap | None
    # The customers whose rows are ours, where they are counted; None where nobody counts.
    ours: set[int] | None
    # Who has it already, by inbox and company; looked up only once the database has said that somebody has.
    twins: dict[tuple[str | None, int | None], DeliveryRecord]
    taken: list[Claimed] = field(default_factory=list)
    inboxes: set[tuple[str | None, int | None]] = field(default_factory=set)
    passed_over: int = 0

    def decide_row(self, row: Row) -> None:
        """Take a row, or settle why it cannot go."""
        person = dict(zip(PEOPLE, row.facts[: len(PEOPLE)], strict=True))
        if row.blocked:
            self.give_up_on(row, reason=Reason(row.blocked))
        elif (opening := self.opening(person["timezone"], at=self.at)) > self.at:
            self.wait(row, reason=Reason.WINDOW, due_at=opening)
        elif row.address is not None and (twin := self.twins.get(row.copy_key)) is not None:
            self.leave_to(twin, row)
        elif row.address is not None and row.copy_key in self.inboxes:
            return  # Whether they get it is seen once the other of this batch did.
        elif self.ours is not None and row.customer not in self.ours:
            return  # Somebody has the customer's row: a visit, or another message's worker. It is due all the same.
        elif self.cap is not None and (free_at := self.cap.free_at(row.customer)) > self.at:
            self.hold(row, person["timezone"], free_at=free_at)
        else:
            self.take_row(row, person)

    def opening(self, zone_name: str, *, at: datetime) -> datetime:
        """When it may go to a customer of that zone; `at` where it may now."""
        return conditions.next_opening(self.window, self.message.window_zone, zone_name, workspace=self.zone, at=at)

    def take_row(self, row: Row, person: dict[str, Any]) -> None:
        """Take it in hand."""
        company = dict(zip(COMPANIES, row.facts[len(PEOPLE) :], strict=True)) if row.company else None
        variables = rendering.variable_values(self.copy.names, customer=person, company=company)
        self.taken.append(Claimed(row.pk, row.attempts + 1, tuple(row.to or ()), variables, row.address, row.company))
        if row.address is not None:
            self.inboxes.add(row.copy_key)
        if self.cap is not None:
            self.cap.count_message(row.customer)

    def give_up_on(self, row: Row, *, reason: Reason) -> None:
        """Settle whoever cannot be reached: for good, unless the message goes on matching them."""
        self.passed_over += 1
        record = DeliveryRecord.objects.filter(pk=row.pk)
        if self.message.send_type == SendType.ONGOING:
            record.withdraw(reason=reason)
        else:
            record.skip(reason=reason)

    def wait(self, row: Row, *, reason: Reason, due_at: datetime) -> None:
        """Have it wait, and say for what."""
        self.passed_over += 1
        DeliveryRecord.objects.filter(pk=row.pk).update(reason=reason, due_at=due_at)

    def leave_to(self, twin: DeliveryRecord, row: Row) -> None:
        """Skip it for the one its address has, named; where that is only on its way, wait for what becomes of it."""
        if twin.status == Status.SENDING:
            self.wait(row, reason=Reason.QUEUED, due_at=self.at + SOON)
            return
        self.passed_over += 1
        DeliveryRecord.objects.filter(pk=row.pk).skip(reason=Reason.SAME_INBOX, detail=str(twin.customer))

    def hold(self, row: Row, zone_name: str, *, free_at: datetime) -> None:
        """Have it wait until the customer may have one more; a one-off gives up after a while."""
        if self.cap is not None and row.customer in self.cap.expecting:
            self.wait(row, reason=Reason.QUEUED, due_at=self.at + SOON)
            return
        since = row.capped_since or self.at
        if self.message.send_type == SendType.ONE_OFF and self.at - since >= frequency_cap.GIVE_UP_AFTER:
            self.give_up_on(row, reason=Reason.CAP)
            return
        if self.message.send_type == SendType.ONE_OFF:
            free_at = min(free_at, since + frequency_cap.GIVE_UP_AFTER)
        self.wait(row, reason=Reason.CAP, due_at=self.opening(zone_name, at=free_at))
        DeliveryRecord.objects.filter(pk=row.pk).update(capped_since=since)


def claim(message: Message, *, at: datetime, token: uuid.UUID, most: int | None = None) -> Batch:
    """Take up to so many due records in hand (None: IN_FLIGHT), committed as sending under this token.

    The message's row is share-locked until the commit, so whoever pauses it waits that long and no longer. That nobody
    at one address gets two is the database's promise; only once it had to keep it, it is asked who has it already.
    """
    limit = settings.IN_FLIGHT if most is None else min(most, settings.IN_FLIGHT)
    for attempt in range(CLAIM_TRIES):
        try:
            return claim_once(message, at=at, token=token, limit=limit, asks_for_twins=attempt > 0)
        except (IntegrityError, OperationalError) as wrong:
            # Another worker may have taken one of them since they were asked for.
            if attempt == CLAIM_TRIES - 1 or not is_about_an_inbox(wrong):
                raise
    raise AssertionError("A claim is made, or fails.")


def is_about_an_inbox(wrong: Exception) -> bool:
    """Whether a copy to one address met another: the index said so, or two workers would have waited for each other."""
    cause = wrong.__cause__
    if isinstance(cause, psycopg.errors.UniqueViolation):
        return cause.diag.constraint_name == "same_inbox_once"
    return isinstance(cause, psycopg.errors.DeadlockDetected)


def claim_once(message: Message, *, at: datetime, token: uuid.UUID, limit: int, asks_for_twins: bool) -> Batch:
    """Do a claim in one transaction."""
    params = {"message": message.pk, "now": at, "running": list(RUNNING), "limit": limit}
    until = at + LEASE
    with transaction.atomic(), prepared() as cursor:
        asked = claim_sql(message)
        cursor.execute(asked, params, prepare=True)
        found = cursor.fetchall()
        if not found:
            return Batch(message, None, token, [], until)
        if message.updated_at != found[0][4]:
            message.refresh_from_db(fields=EDITED)
            # What is one inbox, and when a copy may go, is in the statement: of the same rows, which are ours, anew.
            if claim_sql(message) != asked:
                cursor.execute(claim_sql(message), params, prepare=True)
                found = cursor.fetchall()
        version_id, most, days, tracked, _ = found[0][:5]
        rows = [Row(*(*row[5:HEAD_COLUMNS], list(row[HEAD_COLUMNS:]))) for row in found]
        if message.version is None or message.version_id != version_id:
            message.version = message.versions.get(pk=version_id)
        customers = {row.customer for row in rows}
        counts = most is not None and message.to_customer_id is None
        ours = frequency_cap.lock_customers(customers) if counts else None
        made = Claim(
            message=message,
            at=at,
            copy=rendering.copy_of(message.version, channel=message.channel, tracked=tracked),
            window=message.parsed_window,
            zone=Workspace.current().tz if message.window else UTC,
            ours=ours,
            cap=frequency_cap.cap_of(ours, most=most, days=days, at=at) if ours is not None else None,
            twins=twins_of(message, rows) if asks_for_twins else {},
        )
        for row in rows:
            made.decide_row(row)
        if made.taken:
            cursor.execute(
                MARK_SENDING,
                {
                    "claim": token,
                    "now": at,
                    "until": until,
                    "version": version_id,
                    "ids": [record.pk for record in made.taken],
                    "variables": [Jsonb(record.variables) for record in made.taken],
                    "addresses": [record.address for record in made.taken],
                },
                prepare=True,
            )
    return Batch(message, made.copy, token, made.taken, until, made.passed_over)


def claim_sql(message: Message) -> str:
    """SQL for the due records of a message, locked, with all that is asked of each."""
    held = ""
    if message.send_type == SendType.ONGOING:
        # What waited for the window or the cap, or was held by a pause, is judged again before it may go.
        held = f" AND NOT {NEEDS_RECHECK} AND (m.rejudge_before IS NULL OR r.matched_at >= m.rejudge_before)"
    return (
        "SELECT m.version_id, w.cap_messages, w.cap_days,"
        f" m.channel = '{Channel.EMAIL}' AND coalesce(w.track_emails, TRUE), m.updated_at,"
        " r.id, r.attempts, r.customer_id, r.company_id,"
        f" r.capped_since, {give_up_reason_sql(message)}, {conditions.inbox_sql(message)},"
        f" {recipients_sql(message)}, {FACTS}"
        " FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
        " JOIN audiences_customer c ON c.id = r.customer_id LEFT JOIN audiences_company k ON k.id = r.company_id"
        " LEFT JOIN audiences_workspace w ON TRUE"
        f" WHERE r.message_id = %(message)s AND r.status = '{Status.WAITING}' AND r.due_at <= %(now)s"
        f" AND m.state = ANY(%(running)s){held} ORDER BY r.due_at, r.id LIMIT %(limit)s"
        " FOR UPDATE OF r SKIP LOCKED FOR SHARE OF m SKIP LOCKED"
    )


def blocked_reason_sql(message: Message) -> str:
    """SQL for the reason nothing may go to a customer: unreachable, or no longer in the company the record is about."""
    left = f"CASE WHEN {conditions.has_left_sql()} THEN '{Reason.LEFT_COMPANY}' END"
    return f"coalesce({conditions.unreachable_reason_sql(message)}, {left})"


def give_up_reason_sql(message: Message) -> str:
    """SQL for the reason a record is given up; never one of a push that a device has already, which counts as sent."""
    if message.channel == Channel.PUSH:
        return f"(CASE WHEN NOT {IS_ON_A_DEVICE} THEN {blocked_reason_sql(message)} END)"
    return blocked_reason_sql(message)


def recipients_sql(message: Message) -> str:
    """SQL for the addresses of a copy; a push goes to no further device once nothing more may go to the customer."""
    if message.channel == Channel.PUSH:
        return f"(CASE WHEN {blocked_reason_sql(message)} IS NULL THEN {DEVICES} END)"
    return "array[c.email]"


def records_of_left_companies(records: Collection[int]) -> set[int]:
    """Return the records among these whose customer is no longer in the company they are about."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT r.id FROM delivery_deliveryrecord r WHERE r.id = ANY(%s) AND {conditions.has_left_sql()}",
            [list(records)],
        )
        return {pk for (pk,) in cursor.fetchall()}


def twins_of(message: Message, rows: list[Row]) -> dict[tuple[str | None, int | None], DeliveryRecord]:
    """Who has it already at these addresses, or may have."""
    asked = {row.address for row in rows} - {None}
    found = message.records.filter(address__in=asked, status__in=IN_AN_INBOX).select_related("customer")
    return {(record.address, record.company_id): record for record in found}


@contextmanager
def prepared() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor of the driver itself, which can prepare; in the transaction Django has open, with Django's errors."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        # Django's connection leaves JSON as text, for its own fields to read; custom attributes are variables here.
        cursor.adapters.register_loader("jsonb", JsonbLoader)
        yield cursor
