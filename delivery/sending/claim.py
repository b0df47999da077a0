"""Claim: lock a few due records of one message and commit them as `sending` (behaviour 5).

Records that cannot go now are settled on the way: the customer is unreachable, the window is closed, the frequency cap
is reached, or the address already has the message.
"""

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from django.conf import settings
from django.db import connection, transaction
from django.db.utils import IntegrityError, OperationalError
from psycopg.types.json import Jsonb

from audiences.transactions import prepared
from delivery import rendering
from delivery.eligibility import conditions, frequency_cap
from delivery.eligibility.frequency_cap import Cap
from delivery.models import IN_AN_INBOX, DeliveryRecord, Reason, Status
from messaging import content, delivery_window
from messaging.models import RUNNING, Channel, Message, SendType

# How long a claim holds without renewal.
LEASE = timedelta(minutes=5)
# The lease is renewed after this long, as a server may be slow.
RENEWED_AFTER = timedelta(minutes=1)
# When to try again if a copy to the same address is being sent, or the row of the customer is locked.
SOON = timedelta(seconds=5)
CLAIM_TRIES = 5
# Columns of a live message that staff may have edited since it was read.
EDITED = ("window", "window_zone", "during_quiet_hours", "same_inbox_once", "sender", "updated_at")
PEOPLE = (
    *("name", "email", "user_id", "phone", "country", "city", "timezone", "language", "browser", "os"),
    *("session_count", "signed_up_at", "first_seen_at", "last_seen_at", "last_contacted_at", "last_heard_from_at"),
    "attributes",
)
COMPANIES = (
    *("name", "company_id", "plan", "size", "industry", "website", "monthly_spend"),
    *("remote_created_at", "last_seen_at", "attributes"),
)

# The devices of a customer that have no copy yet.
DEVICES = (
    "(SELECT array_agg(v.token ORDER BY v.id) FROM audiences_device v"
    " WHERE v.customer_id = c.id AND v.retired_at IS NULL AND NOT EXISTS"
    " (SELECT FROM delivery_devicecopy d WHERE d.record_id = r.id AND d.device_id = v.id))"
)
# The addresses of a copy for the customer `c`. In-app messages have none: a visit shows them.
RECIPIENTS: dict[Channel, str] = {Channel.EMAIL: "array[c.email]", Channel.PUSH: DEVICES}
# The numbers of columns of message and workspace, and before the facts.
SETTINGS_COLUMNS, HEAD_COLUMNS = 8, 16
# Records of an ongoing message that waited for these are rechecked before they are sent.
NEEDS_RECHECK = f"r.reason IN ('{Reason.WINDOW}', '{Reason.CAP}')"
MARK_SENDING = (
    "UPDATE delivery_deliveryrecord r SET status = 'sending', reason = '', detail = '', attempts = r.attempts + 1,"
    " claim = %(claim)s, leased_until = %(until)s, taken_at = %(now)s, version_id = %(version)s,"
    " variables = given.variables, address = given.address"
    " FROM jsonb_to_recordset(%(given)s) AS given(id bigint, variables jsonb, address text)"
    " WHERE r.id = given.id"
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed record: its recipients, and the values of the variables."""

    pk: int
    attempts: int
    to: tuple[str, ...]
    variables: dict[str, object]
    address: str | None = None
    company: int | None = None
    # The customer's time zone, "" if unknown.
    zone_name: str = ""


@dataclass(slots=True)
class Batch:
    """The result of a claim: records held until a moment, and how many others were settled or postponed."""

    message: Message
    copy: rendering.Copy | None
    claim: uuid.UUID
    records: list[Claimed]
    until: datetime
    passed_over: int = 0
    # Whether the message rests for a while, as no copy of it can be sent.
    rests: bool = False
    # `Claim.opening`, by which copies in hand are checked again; None without copies.
    opening: Callable[..., datetime] | None = None

    def __bool__(self) -> bool:
        return bool(self.records or self.passed_over)

    def is_ours(self, *, at: datetime) -> bool:
        """Return whether the lease still holds, and renew it when it is old."""
        if at >= self.until - LEASE + RENEWED_AFTER:
            mine = DeliveryRecord.objects.filter(claim=self.claim, status=Status.SENDING)
            if not mine.update(leased_until=at + LEASE):
                return False
            self.until = at + LEASE
        return True


@dataclass(slots=True)
class Row:
    """A due record as the statement returned it."""

    pk: int
    attempts: int
    customer: int
    company: int | None
    capped_since: datetime | None
    blocked: str | None
    address: str | None
    to: list[str] | None  # None: every device has it, or no further device may get it.
    person: dict[str, Any]
    organisation: dict[str, Any]

    @property
    def copy_key(self) -> tuple[str | None, int | None]:
        """The address, and the company if the message goes once per company: each gets one copy."""
        return self.address, self.company


@dataclass(slots=True)
class Claim:
    """A claim in progress: which rows it takes, and what happens to the others."""

    message: Message
    at: datetime
    copy: rendering.Copy
    window: delivery_window.Window
    # The workspace's, used unless the window follows the customer's zone.
    zone: ZoneInfo
    cap: Cap | None
    # The customers whose rows this claim has locked for the cap; None without a cap.
    ours: set[int] | None
    # Records that have these addresses; looked up only after the database refused a claim.
    twins: dict[tuple[str | None, int | None], DeliveryRecord]
    taken: list[Claimed] = field(default_factory=list)
    inboxes: set[tuple[str | None, int | None]] = field(default_factory=set)
    passed_over: int = 0

    def decide_row(self, row: Row) -> None:
        """Take a row, or settle why it cannot go."""
        zone_name = row.person["timezone"]
        if row.blocked:
            self.give_up_on(row, reason=Reason(row.blocked))
        elif (opening := self.opening(zone_name, at=self.at)) > self.at:
            self.wait(row, reason=Reason.WINDOW, due_at=opening)
        elif row.address is not None and (twin := self.twins.get(row.copy_key)) is not None:
            self.leave_to(twin, row)
        elif row.address is not None and row.copy_key in self.inboxes:
            return  # Decided after the other copy of this batch.
        elif self.ours is not None and row.customer not in self.ours:
            return  # A visit or another worker has locked the customer. The record stays due.
        elif self.cap is not None and (free_at := self.cap.free_at(row.customer)) > self.at:
            self.hold(row, zone_name, free_at=free_at)
        else:
            self.take_row(row)

    def opening(self, zone_name: str, *, at: datetime) -> datetime:
        """Return when the message may go to a customer in that zone; `at` if it may now."""
        return conditions.next_opening(self.window, self.message.window_zone, zone_name, workspace=self.zone, at=at)

    def take_row(self, row: Row) -> None:
        company = row.organisation if row.company else None
        variables = rendering.variable_values(self.copy.names, customer=row.person, company=company)
        self.taken.append(
            Claimed(
                *(row.pk, row.attempts + 1, tuple(row.to or ()), variables, row.address, row.company),
                zone_name=row.person["timezone"],
            )
        )
        if row.address is not None:
            self.inboxes.add(row.copy_key)
        if self.cap is not None:
            self.cap.count_message(row.customer)

    def give_up_on(self, row: Row, *, reason: Reason) -> None:
        """Skip a record that cannot be sent; an ongoing message withdraws it, as it may match again."""
        self.passed_over += 1
        record = DeliveryRecord.objects.filter(pk=row.pk)
        if self.message.send_type == SendType.ONGOING:
            record.withdraw(reason=reason)
        else:
            record.skip(reason=reason)

    def wait(self, row: Row, *, reason: Reason, due_at: datetime) -> None:
        """Postpone a record, with the reason."""
        self.passed_over += 1
        DeliveryRecord.objects.filter(pk=row.pk).update(reason=reason, due_at=due_at)

    def leave_to(self, twin: DeliveryRecord, row: Row) -> None:
        """Skip a record whose address already has the message. If that copy is being sent, wait for its outcome."""
        if twin.status == Status.SENDING:
            self.wait(row, reason=Reason.QUEUED, due_at=self.at + SOON)
            return
        self.passed_over += 1
        DeliveryRecord.objects.filter(pk=row.pk).skip(reason=Reason.SAME_INBOX, detail=str(twin.customer))

    def hold(self, row: Row, zone_name: str, *, free_at: datetime) -> None:
        """Postpone a record until the frequency cap allows it. A one-off gives up after a while."""
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
    """Claim up to `most` due records (None: IN_FLIGHT), committed as sending under this token.

    The message's row is share-locked until the commit, so a teammate who pauses it waits no longer than that. A unique
    index keeps an address from getting two copies; only after it refused a claim are the existing copies looked up.
    """
    limit = settings.IN_FLIGHT if most is None else min(most, settings.IN_FLIGHT)
    for attempt in range(CLAIM_TRIES):
        try:
            return claim_once(message, at=at, token=token, limit=limit, asks_for_twins=attempt > 0)
        except (IntegrityError, OperationalError) as wrong:
            # Another worker may have claimed one of them since.
            if attempt == CLAIM_TRIES - 1 or not is_about_an_inbox(wrong):
                raise
    raise AssertionError("A claim returns or raises.")


def is_about_an_inbox(wrong: Exception) -> bool:
    """Return whether two copies to one address met: the index refused one, or two workers deadlocked."""
    cause = wrong.__cause__
    if isinstance(cause, psycopg.errors.UniqueViolation):
        return cause.diag.constraint_name == "same_inbox_once"
    return isinstance(cause, psycopg.errors.DeadlockDetected)


def claim_once(message: Message, *, at: datetime, token: uuid.UUID, limit: int, asks_for_twins: bool) -> Batch:
    """Run one claim in one transaction."""
    params: dict[str, Any] = {"message": message.pk, "now": at, "running": list(RUNNING), "limit": limit}
    until = at + LEASE
    with transaction.atomic(), prepared() as cursor:
        # Once for the statement and its rows: another thread may render the version meanwhile.
        columns = fact_columns(message)
        asked = claim_sql(message, columns)
        cursor.execute(asked, params | {"updated_at": message.updated_at}, prepare=True)
        found = cursor.fetchall()
        if not found:
            return Batch(message, None, token, [], until)
        version_id, most, days, tracked, is_edited, zone, *quiet = found[0][:SETTINGS_COLUMNS]
        if is_edited:
            message.refresh_from_db(fields=EDITED)
        if message.version is None or message.version_id != version_id:
            message.version = message.versions.get(pk=version_id)
        new_columns = fact_columns(message)
        if (now_asked := claim_sql(message, new_columns)) != asked:
            # The statement depends on the edited fields, so it runs again, on the rows that are locked already.
            columns = new_columns
            cursor.execute(now_asked, params | {"updated_at": message.updated_at}, prepare=True)
            found = cursor.fetchall()
        people, companies = columns
        rows = [
            Row(
                *(
                    *row[SETTINGS_COLUMNS:HEAD_COLUMNS],
                    dict(zip(people, row[HEAD_COLUMNS:], strict=False)),
                    dict(zip(companies, row[HEAD_COLUMNS + len(people) :], strict=True)),
                )
            )
            for row in found
        ]
        customers = {row.customer for row in rows}
        counts = most is not None and message.to_customer_id is None
        ours = frequency_cap.lock_customers(customers) if counts else None
        made = Claim(
            message=message,
            at=at,
            copy=rendering.copy_of(message.version, channel=message.channel, tracked=tracked),
            window=message.open_window((quiet[0], quiet[1]) if quiet[0] is not None else None),
            zone=ZoneInfo(zone or "UTC"),
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
                    # One document: arrays are written value by value.
                    "given": Jsonb(
                        [
                            {"id": record.pk, "variables": record.variables, "address": record.address}
                            for record in made.taken
                        ]
                    ),
                },
                prepare=True,
            )
    return Batch(message, made.copy, token, made.taken, until, made.passed_over, opening=made.opening)


def fact_columns(message: Message) -> tuple[list[str], list[str]]:
    """Return the columns of the customer and of the company that the message's variables need."""
    names = rendering.known_variables(message.version) if message.version else None
    if names is None:
        return list(PEOPLE), list(COMPANIES)
    needed = content.needed_facts(names)
    return (
        [name for name in PEOPLE if name in needed or name == "timezone"],
        [name for name in COMPANIES if f"company.{name}" in needed],
    )


def claim_sql(message: Message, columns: tuple[list[str], list[str]]) -> str:
    """Return SQL that locks the due records of a message and reads the facts that decide about each."""
    people, companies = columns
    facts = ", ".join([*(f"c.{name}" for name in people), *(f"k.{name}" for name in companies)])
    held = ""
    if message.send_type == SendType.ONGOING:
        # Records held by the window, the cap or a pause are rechecked first.
        held = f" AND NOT {NEEDS_RECHECK} AND (m.recheck_before IS NULL OR r.matched_at >= m.recheck_before)"
    return (
        "SELECT m.version_id, w.cap_messages, w.cap_days,"
        f" m.channel = '{Channel.EMAIL}' AND coalesce(w.track_emails, TRUE),"
        " m.updated_at IS DISTINCT FROM %(updated_at)s, w.zone, w.quiet_from, w.quiet_to,"
        " r.id, r.attempts, r.customer_id, r.company_id,"
        f" r.capped_since, {give_up_reason_sql(message)}, {conditions.inbox_sql(message)},"
        f" {recipients_sql(message)}, {facts}"
        " FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
        " JOIN audiences_customer c ON c.id = r.customer_id LEFT JOIN audiences_company k ON k.id = r.company_id"
        " LEFT JOIN audiences_workspace w ON TRUE"
        f" WHERE r.message_id = %(message)s AND r.status = '{Status.WAITING}' AND r.due_at <= %(now)s"
        f" AND m.state = ANY(%(running)s){held} ORDER BY r.due_at, r.id LIMIT %(limit)s"
        " FOR UPDATE OF r SKIP LOCKED FOR SHARE OF m SKIP LOCKED"
    )


def blocked_reason_sql(message: Message) -> str:
    """Return SQL for why nothing may go to the customer: unreachable, or no longer in the company it is about."""
    left = f"CASE WHEN {conditions.has_left_sql()} THEN '{Reason.LEFT_COMPANY}' END"
    suppressed = conditions.suppressed_reason_sql(message)
    return f"coalesce({conditions.unreachable_reason_sql(message)}, {left}, {suppressed})"


def give_up_reason_sql(message: Message) -> str:
    """Return SQL for why a record is given up. A push that a device has is never given up: it counts as sent."""
    if message.channel == Channel.PUSH:
        return f"(CASE WHEN NOT {conditions.IS_ON_A_DEVICE} THEN {blocked_reason_sql(message)} END)"
    return blocked_reason_sql(message)


def recipients_sql(message: Message) -> str:
    """Return SQL for the recipients of a copy. A push goes to no further device once the customer is unreachable."""
    if message.channel == Channel.PUSH:
        return f"(CASE WHEN {blocked_reason_sql(message)} IS NULL THEN {RECIPIENTS[Channel.PUSH]} END)"
    return RECIPIENTS[Channel(message.channel)]


def unreachable_records(message: Message, records: Collection[int]) -> set[int]:
    """Return those of these records whose customer may not receive the message any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.id FROM delivery_deliveryrecord r JOIN audiences_customer c ON c.id = r.customer_id"
            f" WHERE r.id = ANY(%s) AND {blocked_reason_sql(message)} IS NOT NULL",
            [list(records)],
        )
        return {pk for (pk,) in cursor.fetchall()}


def twins_of(message: Message, rows: list[Row]) -> dict[tuple[str | None, int | None], DeliveryRecord]:
    """Return the records that have these addresses, or may have."""
    asked = {row.address for row in rows} - {None}
    found = message.records.filter(address__in=asked, status__in=IN_AN_INBOX).select_related("customer")
    return {(record.address, record.company_id): record for record in found}
