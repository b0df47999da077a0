"""Match: who a message goes to, written down as delivery records.

Ongoing: a round adds whoever matches and has no record, and takes up again whom it had withdrawn. One-off: the
people who match at go-live, frozen in one transaction (DESIGN 4.1, 5). Over 120 lines because launch, round and
judging again are the same SELECT put to three uses, and are best read side by side.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Coalesce
from django.db.utils import OperationalError
from psycopg.types.json import Jsonb

from audiences.compiler import View
from audiences.models import Company, Customer
from audiences.rules import RuleError
from audiences.transactions import retried
from delivery import locks
from delivery.eligibility import conditions
from delivery import metrics
from delivery.models import IN_AN_INBOX, UNDONE, DeliveryRecord, Reason, Status
from messaging.models import RUNNING, Channel, Message, NotReady, SendType, State

log = logging.getLogger(__name__)

SLICE = 20_000
LARGE = 50_000
# How many customers an estimate asks.
SAMPLED = 20_000

NO_RECORD = (
    "NOT EXISTS (SELECT FROM delivery_deliveryrecord r WHERE r.message_id = %(message)s::bigint"
    " AND r.customer_id = c.id AND r.company_id {company})"
)
DUE = "coalesce((%(openings)s::jsonb ->> c.timezone)::timestamptz, %(opening)s::timestamptz)"
INSERT = (
    "INSERT INTO delivery_deliveryrecord (message_id, customer_id, company_id, status, reason, due_at, matched_at,"
    " judged_last_seen_at, judged_company_last_seen_at, detail, attempts, provider_id, filled)"
)
REST = "'', 0, '', '{}'::jsonb"
A_SLICE = "WHERE place > %(start)s AND place <= %(end)s ORDER BY place ON CONFLICT DO NOTHING"

Progress = Callable[[int], object]
# Told around each slice of a launch: how many are written down, of how many. What it raises gives the launch up.
Going = Callable[[int, int], object]


def quiet(*_counts: int) -> None:
    """Show no progress."""


def execute(sql: str, params: dict[str, Any]) -> int:
    """Run one statement and return how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.rowcount


# Before it goes live


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What setting a message live would do right now: people and copies, and who gets none by reason."""

    people: int
    copies: int
    left_out: dict[Reason, int]
    # False for an estimate from a sample of the customers.
    exact: bool = True


def forecast_soon(message: Message, *, at: datetime, within: timedelta) -> Forecast:
    """Count who matches now; where that takes longer than `within`, estimate it from about 20,000 customers."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, true)", [f"{within // timedelta(milliseconds=1)}"]
            )
            found = forecast(message, at=at)
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError as wrong:
        if not isinstance(wrong.__cause__, psycopg.errors.QueryCanceled):
            raise
        return forecast(message, at=at, of_every=max(1, customers_about() // SAMPLED))
    return found


def customers_about() -> int:
    """How many customers there are, as the planner believes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = 'audiences_customer'::regclass")
        return int(cursor.fetchone()[0])


def forecast(message: Message, *, at: datetime, of_every: int = 1) -> Forecast:
    """Count who matches now, and how many copies that makes; RuleError where a rule makes no sense.

    Of a sampled message those count who have no record: the rest. With `of_every` above 1, one in so many customers
    is asked, and the numbers stand for all.
    """
    condition = conditions.condition_of(message)
    per_company = message.goes_per_company
    no_company = f"WHEN k.id IS NULL THEN '{Reason.NO_COMPANY}'" if per_company else "WHEN FALSE THEN NULL"
    pairs = condition.pairs(
        per_company=per_company,
        columns=(
            f", coalesce({conditions.blocked(message)}, CASE {no_company} END) AS blocked,"
            f" {conditions.inbox(message)} AS inbox"
        ),
        where=no_record(per_company) if message.state == State.SAMPLED else "TRUE",
        sample=f" TABLESAMPLE SYSTEM ({100 / of_every:f})" if of_every > 1 else "",
    )
    if conditions.inbox(message) != conditions.NO_INBOX:
        pairs = one_to_each_inbox(pairs, some_have_it=message.state == State.SAMPLED)
    people = "count(DISTINCT customer_id)" if per_company else "count(*)"
    sql = (
        f"SELECT blocked, {people}, count(*), GROUPING(blocked) FROM ({pairs}) AS pairs"
        " GROUP BY GROUPING SETS ((blocked), ())"
    )
    # A few are looked up one by one; all of them are read through.
    with transaction.atomic(), nullcontext() if of_every > 1 else hashed(), connection.cursor() as cursor:
        # What it saves in the rows it costs many times over in compiling.
        cursor.execute("SET LOCAL jit = off")
        cursor.execute(sql, {**condition.params, "now": at, "message": message.pk})
        rows = cursor.fetchall()
    total = next(row[1] for row in rows if row[3])
    groups = [row for row in rows if not row[3]]
    return Forecast(
        people=total * of_every,
        copies=of_every * sum(copies for blocked, _, copies, _ in groups if blocked is None),
        left_out={Reason(blocked): people * of_every for blocked, people, _, _ in groups if blocked is not None},
        exact=of_every == 1,
    )


def one_to_each_inbox(pairs: str, *, some_have_it: bool) -> str:
    """SQL that has all but the first of those who share an inbox blocked, as they are when their turn comes."""
    another = "row_number() OVER (PARTITION BY blocked IS NULL, inbox, company_id ORDER BY customer_id) > 1"
    statuses = ", ".join(f"'{status}'" for status in IN_AN_INBOX)
    has_it = (
        f"{some_have_it} AND EXISTS (SELECT FROM delivery_deliveryrecord r WHERE r.message_id = %(message)s::bigint"
        f" AND r.inbox = o.inbox AND r.company_id IS NOT DISTINCT FROM o.company_id AND r.status IN ({statuses}))"
    )
    return (
        "SELECT customer_id, company_id,"
        f" CASE WHEN blocked IS NULL AND ({another} OR ({has_it})) THEN '{Reason.SAME_INBOX}' ELSE blocked END"
        f" AS blocked FROM ({pairs}) AS o"
    )


# Going live


def launch(message: Message, *, at: datetime, sample: int | None = None, progress: Going = quiet) -> int:
    """Set a message live. A one-off's people are frozen in the same transaction; returns how many records it made.

    An ongoing one only goes live: its first round is `match`. NotReady where nobody matches a one-off.
    """
    made = 0

    def freeze() -> None:
        nonlocal made
        made = write_down_all(message, at=at, sample=sample, progress=progress)
        if not made:
            raise NotReady("Nobody matches right now, so this one-off would reach nobody.")

    is_frozen = message.send_type == SendType.ONE_OFF and not message.to_customer_id
    message.set_live(at=at, sample=sample, before=freeze if is_frozen else lambda: None)
    analyze_after(made)
    return made


def send_to_rest(message: Message, *, at: datetime, progress: Going = quiet) -> int:
    """Launch a sampled one-off for the second and last time: who matches now and has no record (DESIGN 4.10)."""
    with transaction.atomic():
        # Who opens or follows a copy of the sample refers to the message meanwhile, and is not kept waiting.
        Message.objects.select_for_update(no_key=True).get(pk=message.pk)
        made = write_down_all(message, at=at, progress=progress)
        message.send_to_rest(at=at)
    analyze_after(made)
    return made


def write_down_all(message: Message, *, at: datetime, sample: int | None = None, progress: Going = quiet) -> int:
    """Insert a record for everyone who matches a one-off and has none: waiting, or skipped with the reason.

    The rules are asked once and all is one transaction; the slices are there to be told of, and to be given up between.
    """
    condition = conditions.condition_of(message)
    per_company = message.goes_per_company
    no_company = f"WHEN k.id IS NULL THEN '{Reason.NO_COMPANY}'" if per_company else ""
    in_app = message.channel == Channel.IN_APP
    waits = f"'{Reason.VISIT}'" if in_app else waiting_reason()
    where = no_record(per_company)
    if sample is not None:
        drawn = condition.pairs(
            per_company=per_company, where=f"{conditions.reachable(message.channel)}{known(per_company)}"
        )
        where += (
            f" AND c.id IN (SELECT customer_id FROM ({drawn}) AS reachable GROUP BY customer_id"
            " ORDER BY md5(customer_id::text || %(seed)s::text), customer_id LIMIT %(sample)s)"
        )
    pairs = condition.pairs(
        per_company=per_company,
        where=where,
        columns=(
            f", coalesce({conditions.blocked(message)}, CASE {no_company or 'WHEN FALSE THEN NULL'} END) AS blocked"
            f", {'NULL::timestamptz' if in_app else DUE} AS due_at, c.last_seen_at AS last_seen"
        ),
    )
    sql = (
        f"{INSERT} SELECT %(message)s, customer_id, company_id,"
        f" CASE WHEN blocked IS NULL THEN '{Status.WAITING}' ELSE '{Status.SKIPPED}' END,"
        f" coalesce(blocked, {waits}), CASE WHEN blocked IS NULL THEN due_at END, %(now)s, last_seen, NULL, {REST}"
        f" FROM matched {A_SLICE}"
    )
    params = {**condition.params, **facts(message, at=at), "seed": f"sample of {message.pk}", "sample": sample}
    made = 0
    with transaction.atomic():
        found = find(pairs, params)
        # Whom a record is of is looked up at each slice, and not for all of them at the commit, which nobody can stop.
        execute("SET CONSTRAINTS ALL IMMEDIATE", {})
        progress(made, found)
        for start in range(0, found, SLICE):
            made += execute(sql, {**params, "start": start, "end": start + SLICE})
            progress(made, found)
        execute("SET CONSTRAINTS ALL DEFERRED", {})
        execute("DROP TABLE matched", {})
        Message.objects.filter(pk=message.pk).update(audience_count=Coalesce(F("audience_count"), 0) + made)
    return made


def find(pairs: str, params: dict[str, Any]) -> int:
    """Keep the pairs in a table `matched` of this session, with their places in customer order; returns how many."""
    with transaction.atomic(), hashed():
        found = execute(
            "CREATE TEMPORARY TABLE matched AS"
            " SELECT row_number() OVER (ORDER BY customer_id, company_id) AS place, * FROM"
            f" ({pairs}) AS pairs ORDER BY place",
            params,
        )
        if found > SLICE:
            execute("CREATE INDEX ON matched USING brin (place) WITH (pages_per_range = 8)", {})
    return found


def waiting_reason() -> str:
    """SQL for why a matched record waits: queued, or the window."""
    return f"CASE WHEN due_at > %(now)s THEN '{Reason.WINDOW}' ELSE '{Reason.QUEUED}' END"


def no_record(per_company: bool) -> str:  # noqa: FBT001 - a fact of the message, not a mode
    """SQL that leaves out the pairs that have a record; said so that the planner can estimate it."""
    return NO_RECORD.format(company="IS NOT DISTINCT FROM k.id" if per_company else "IS NULL")


def known(per_company: bool) -> str:  # noqa: FBT001 - a fact of the message, not a mode
    """SQL that leaves out the customer in no company where the message goes once per company."""
    return " AND k.id IS NOT NULL" if per_company else ""


@contextmanager
def hashed() -> Iterator[None]:
    """Keep the planner from looping over records while statistics lag (measured: minutes; DESIGN 5).

    A round reads most of the table, so it is not led down an index either, as a server set up for SSDs would be.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off; SET LOCAL random_page_cost = 4; SET LOCAL work_mem = '64MB'")
        yield
        cursor.execute(
            "SET LOCAL enable_nestloop = on; SET LOCAL random_page_cost TO DEFAULT; SET LOCAL work_mem TO DEFAULT"
        )


def analyze_after(made: int) -> None:
    """Have the planner know of a large launch, once it is committed."""
    if made >= LARGE:
        transaction.on_commit(lambda: execute("ANALYZE delivery_deliveryrecord", {}))


# Rounds of ongoing messages


def match_ongoing(*, at: datetime, progress: Progress = quiet) -> int:
    """Run a round of every live ongoing email and push; returns how many records it made or took up again.

    In-app messages are matched by visits, which leave out what cannot be read: here somebody is told.
    """
    total = 0
    for message in Message.objects.live().ongoing().order_by("pk"):
        if message.channel == Channel.IN_APP:
            check_rules(message)
            continue
        total += match_whatever_happens(message, at=at, progress=progress)
    return total


def check_rules(message: Message) -> None:
    """Write on the message whether its rules make no sense any more, or do again."""
    try:
        conditions.condition_of(message)
        trouble = ""
    except RuleError as wrong:
        trouble = str(wrong)
    Message.objects.filter(pk=message.pk).exclude(trouble=trouble).update(trouble=trouble)


def match_whatever_happens(message: Message, *, at: datetime, progress: Progress = quiet) -> int:
    """Run one round of a message; where that goes wrong, its trouble says so, and no other message waits for it."""
    try:
        return match(message, at=at, progress=progress)
    except Exception:
        log.exception("message %s cannot be matched", message.pk)
        Message.objects.filter(pk=message.pk).update(trouble="Matching it failed. The server's log says why.")
        return 0


def match(message: Message, *, at: datetime, progress: Progress = quiet) -> int:
    """Run one round of an ongoing message, committed in slices; in-app ones are matched by visits alone.

    Rules that no longer make sense are written on the message as its trouble, and the round goes on to the others.
    """
    if message.channel == Channel.IN_APP or message.send_type != SendType.ONGOING:
        return 0
    began = time.perf_counter()
    with locks.one_round_at_a_time(message) as mine:
        if not mine:
            return 0
        try:
            judge_held_again(message, at=at)
            made = take_up_again(message, at=at) + write_down_new(message, at=at, progress=progress)
        except RuleError as wrong:
            Message.objects.filter(pk=message.pk).update(trouble=str(wrong))
            return 0
        Message.objects.filter(pk=message.pk).update(last_matched_at=at, trouble="")
    analyze_after(made)
    metrics.took("match", began, message.pk)
    return made


def facts(message: Message, *, at: datetime) -> dict[str, Any]:
    """The parameters every statement of a round takes beside the rules' own."""
    opening, by_zone = conditions.openings(message.parsed_window, message.window_zone, at=at)
    return {"now": at, "message": message.pk, "opening": opening, "openings": Jsonb(by_zone)}


def still_live(message: Message) -> bool:
    """Whether the message is live by the rules it was read with; until the transaction ends, whoever pauses it waits.

    A round may outlast a pause, an edit of the rules and the resume: what it found by the old ones is let go.
    """
    rules = message.audience.rules if message.audience else None
    values: list[Any] = [Jsonb(rules), message.pk, list(RUNNING)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.rules = %s::jsonb FROM messaging_message m JOIN audiences_audience a ON a.id = m.audience_id"
            " WHERE m.id = %s AND m.state = ANY(%s) FOR SHARE OF m",
            values,
        )
        row = cursor.fetchone()
        return bool(row and row[0])


@retried
def take_up_again(message: Message, *, at: datetime) -> int:
    """Have the withdrawn records of those who match again wait again."""
    if not message.records.filter(status=Status.WITHDRAWN).exclude(reason=Reason.STOPPED).exists():
        return 0
    condition = conditions.condition_of(message)
    withdrawn = (
        " JOIN delivery_deliveryrecord r ON r.customer_id = c.id AND r.message_id = %(message)s::bigint"
        f" AND r.status = '{Status.WITHDRAWN}' AND r.reason <> '{Reason.STOPPED}'"
    )
    same_company = "r.company_id = k.id" if message.per_company else "TRUE"
    pairs = condition.pairs(
        per_company=message.per_company,
        joins=withdrawn,
        where=f"{conditions.reachable(message.channel)} AND {same_company}",
        columns=f", r.id AS record_id, {DUE} AS due_at, c.last_seen_at AS last_seen",
    )
    sql = (
        f"WITH pairs AS MATERIALIZED ({pairs}), locked AS MATERIALIZED (SELECT r.id FROM delivery_deliveryrecord r"
        f" WHERE r.id IN (SELECT record_id FROM pairs) AND r.status = '{Status.WITHDRAWN}'"
        " ORDER BY r.id FOR NO KEY UPDATE)"
        f" UPDATE delivery_deliveryrecord r SET status = '{Status.WAITING}', reason = {waiting_reason()},"
        " due_at = pairs.due_at, matched_at = %(now)s, judged_last_seen_at = last_seen, attempts = 0,"
        " judged_company_last_seen_at = NULL FROM pairs JOIN locked ON locked.id = pairs.record_id"
        " WHERE r.id = locked.id"
    ).replace("CASE WHEN due_at", "CASE WHEN pairs.due_at")
    if not still_live(message):
        return 0
    return execute(sql, {**condition.params, **facts(message, at=at)})


def write_down_new(message: Message, *, at: datetime, progress: Progress = quiet) -> int:
    """Insert a record for everyone who matches and has none, in slices of at most SLICE, in customer order.

    The rules are asked once; the slices are written from what they answered, so that no transaction is long.
    """
    condition = conditions.condition_of(message)
    pairs = condition.pairs(
        per_company=message.per_company,
        where=(
            f"{conditions.reachable(message.channel)}{known(message.per_company)} AND {no_record(message.per_company)}"
        ),
        columns=f", {DUE} AS due_at, c.last_seen_at AS last_seen",
    )
    params = {**condition.params, **facts(message, at=at)}
    found = find(pairs, params)
    try:
        made = 0
        for start in range(0, found, SLICE):
            new = write_slice(message, {**params, "start": start, "end": start + SLICE})
            if new is None:
                break
            made += new
            progress(made)
    finally:
        execute("DROP TABLE IF EXISTS matched", {})
    return made


@retried
def write_slice(message: Message, params: dict[str, Any]) -> int | None:
    """Insert a slice of the records of a round; None, and nothing inserted, if the message is no longer live."""
    if not still_live(message):
        return None
    sql = (
        f"{INSERT} SELECT %(message)s, customer_id, company_id, '{Status.WAITING}', {waiting_reason()},"
        f" due_at, %(now)s, last_seen, NULL, {REST} FROM matched {A_SLICE}"
    )
    return execute(sql, params)


# Judging again


def judge_due_again(message: Message, *, at: datetime) -> int:
    """Judge again what waited for the window or the cap, where it is ongoing; returns how many were withdrawn (4.8)."""
    waited = f"r.reason IN ('{Reason.WINDOW}', '{Reason.CAP}') AND r.due_at <= %(now)s"
    return judge_again(message, at=at, view=conditions.AS_MATCHED, among=waited, matched_at="r.matched_at", due="%(now)s")


def judge_held_again(message: Message, *, at: datetime) -> int:
    """Judge what a pause held as of now, after the message was resumed; returns how many were withdrawn."""
    if message.rejudge_before is None:
        return 0
    # Whoever resumed it may have a clock ahead of ours.
    matched_at = "greatest(%(now)s::timestamptz, %(held)s)"
    withdrawn = judge_again(
        message, at=at, view=conditions.TODAY, among="r.matched_at < %(held)s", matched_at=matched_at, due=DUE
    )
    # What another worker is judging at this moment still stands as it was; that worker, or a later one, sees the end.
    still_held = message.records.filter(status=Status.WAITING, matched_at__lt=message.rejudge_before)
    done = Message.objects.filter(pk=message.pk, rejudge_before=message.rejudge_before).exclude(Exists(still_held))
    done.update(rejudge_before=None)
    return withdrawn


def judge_again(message: Message, *, at: datetime, view: View, among: str, matched_at: str, due: str) -> int:
    """Put waiting records back in the queue where they still match, and withdraw the rest, in slices."""
    condition = conditions.condition_of(message, view=view)
    waiting = f"r.message_id = %(message)s::bigint AND r.status = '{Status.WAITING}' AND {among}"
    same_company = "r.company_id = k.id" if message.per_company else "TRUE"
    pairs = condition.pairs(
        per_company=message.per_company,
        joins=" JOIN slice r ON r.customer_id = c.id",
        where=f"{conditions.reachable(message.channel)} AND {same_company}",
        columns=f", r.id AS record_id, {due} AS due_at",
    )
    sql = (
        f"WITH slice AS MATERIALIZED (SELECT r.* FROM delivery_deliveryrecord r WHERE {waiting}"
        " ORDER BY r.due_at, r.id LIMIT %(slice)s FOR UPDATE SKIP LOCKED),"
        f" pairs AS MATERIALIZED ({pairs}),"
        " judged AS (SELECT r.id, p.record_id IS NOT NULL AS holds, p.due_at FROM slice r"
        " LEFT JOIN pairs p ON p.record_id = r.id)"
        " UPDATE delivery_deliveryrecord r SET"
        f" status = CASE WHEN holds THEN '{Status.WAITING}' ELSE '{Status.WITHDRAWN}' END,"
        f" reason = CASE WHEN NOT holds AND {conditions.has_left()} THEN '{Reason.LEFT_COMPANY}'"
        f" WHEN NOT holds THEN '{Reason.NO_LONGER_MATCHES}'"
        f" WHEN judged.due_at > %(now)s THEN '{Reason.WINDOW}' ELSE '{Reason.QUEUED}' END,"
        f" due_at = judged.due_at, matched_at = {matched_at} FROM judged WHERE judged.id = r.id"
        " RETURNING holds"
    )
    params = {**condition.params, **facts(message, at=at), "slice": SLICE, "held": message.rejudge_before}
    withdrawn = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql, params)
            rows = cursor.fetchall()
        withdrawn += sum(not holds for (holds,) in rows)
        if len(rows) < SLICE:
            return withdrawn


# To one person


def write_to(customer: Customer, message: Message, *, at: datetime, company: Company | None = None) -> DeliveryRecord:
    """Write down the one record of a message to one person, that it may be handed over at once (DESIGN 4.12)."""
    in_app = message.channel == Channel.IN_APP
    return DeliveryRecord.objects.create(
        message=message,
        customer=customer,
        company=company,
        status=Status.WAITING,
        reason=Reason.VISIT if in_app else Reason.QUEUED,
        due_at=None if in_app else at,
        matched_at=at,
        judged_last_seen_at=customer.last_seen_at,
    )


# Ending


@retried
def pause(message: Message) -> None:
    """Pause a message: once this is committed and returns, nothing new is matched, handed over or shown."""
    locks.hold_back_batches_and_rounds(message)
    message.pause()
    transaction.on_commit(locks.wait_for_visits)


@retried
def stop(message: Message) -> None:
    """Stop a message for good and withdraw what waits; the sweep goes on where there is more than a slice."""
    locks.hold_back_batches_and_rounds(message)
    message.stop()
    withdraw_stopped(message)
    transaction.on_commit(locks.wait_for_visits)


@retried
def withdraw_stopped(message: Message) -> int:
    """Withdraw a slice of what still waits for a stopped message."""
    waiting = message.records.filter(status=Status.WAITING).select_for_update(no_key=True).order_by("pk")[:SLICE]
    return DeliveryRecord.objects.filter(pk__in=waiting.values("pk")).withdraw(reason=Reason.STOPPED)


def finish_one_offs() -> int:
    """Call every live one-off sent that has nothing waiting, sending or uncertain left."""
    still = [Exists(DeliveryRecord.objects.filter(message=OuterRef("pk"), status=status)) for status in UNDONE]
    return Message.objects.one_off().filter(~still[0], ~still[1], ~still[2], state=State.LIVE).update(state=State.SENT)
