"""Hourly rounds: insert records for customers who match an ongoing message.

A round adds each customer who matches and has no record, and requeues withdrawn records of customers who match again
(behaviour 4.1, 5).
"""

import logging
import time
from datetime import datetime
from typing import Any

from django.db import connection
from psycopg.types.json import Jsonb

from audiences.compiler import Condition
from audiences.rules import RuleError
from audiences.transactions import retried
from delivery import locks, metrics
from delivery.eligibility import conditions
from delivery.matching import recheck, sql
from delivery.models import Reason, Status
from messaging.models import RUNNING, Channel, Message, SendType

log = logging.getLogger(__name__)


def match_ongoing(*, at: datetime, progress: sql.Progress = sql.no_progress) -> int:
    """Match every live ongoing email and push. Return how many records were inserted or requeued.

    In-app messages are matched by visits, which skip invalid rules; here the error is written on the message.
    """
    total = 0
    for message in Message.objects.live().ongoing().order_by("pk"):
        if message.channel == Channel.IN_APP:
            check_rules(message)
            continue
        total += match_safely(message, at=at, progress=progress)
    return total


def check_rules(message: Message) -> None:
    """Write on the message whether its rules are valid."""
    try:
        conditions.condition_of(message)
        problem = ""
    except RuleError as wrong:
        problem = str(wrong)
    Message.objects.filter(pk=message.pk).exclude(problem=problem).update(problem=problem)


def match_safely(message: Message, *, at: datetime, progress: sql.Progress = sql.no_progress) -> int:
    """Match a message. If that fails, write it on the message and return 0, so that other messages go on."""
    try:
        return match(message, at=at, progress=progress)
    except Exception:
        log.exception("message %s cannot be matched", message.pk)
        Message.objects.filter(pk=message.pk).update(problem="Matching failed. See the server’s log.")
        return 0


def match(message: Message, *, at: datetime, progress: sql.Progress = sql.no_progress) -> int:
    """Run one round of an ongoing message, committed in slices. In-app messages are matched by visits only.

    If the rules are no longer valid, the message's `problem` says so and nothing is matched.
    """
    if message.channel == Channel.IN_APP or message.send_type != SendType.ONGOING:
        return 0
    began = time.perf_counter()
    with locks.round_lock(message) as mine:
        if not mine:
            return 0
        try:
            condition = conditions.condition_of(message)
            recheck.recheck_held(message, at=at, condition=condition)
            made = requeue_withdrawn(message, condition, at=at)
            made += insert_new_records(message, condition, at=at, progress=progress)
        except RuleError as wrong:
            Message.objects.filter(pk=message.pk).update(problem=str(wrong))
            return 0
        Message.objects.filter(pk=message.pk).update(last_matched_at=at, problem="")
    sql.analyze_after(made)
    metrics.observe_duration("match", began, message.pk)
    return made


def is_still_live(message: Message) -> bool:
    """Return whether the message is live with unchanged rules; a pause waits until the transaction ends.

    A round may outlast a pause, an edit of the rules and the resume: results of the old rules are dropped.
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
def requeue_withdrawn(message: Message, condition: Condition, *, at: datetime) -> int:
    """Requeue the withdrawn records of customers who match again."""
    if not message.records.filter(status=Status.WITHDRAWN).exclude(reason=Reason.STOPPED).exists():
        return 0
    withdrawn = (
        " JOIN delivery_deliveryrecord r ON r.customer_id = c.id AND r.message_id = %(message)s::bigint"
        f" AND r.status = '{Status.WITHDRAWN}' AND r.reason <> '{Reason.STOPPED}'"
    )
    same_company = "r.company_id = k.id" if message.per_company else "TRUE"
    pairs = condition.pairs(
        per_company=message.per_company,
        joins=withdrawn,
        where=f"{conditions.reachable_sql(message.channel)} AND {same_company}",
        columns=f", r.id AS record_id, {sql.DUE} AS due_at, c.last_seen_at AS last_seen",
    )
    statement = (
        f"WITH pairs AS MATERIALIZED ({pairs}), locked AS MATERIALIZED (SELECT r.id FROM delivery_deliveryrecord r"
        f" WHERE r.id IN (SELECT record_id FROM pairs) AND r.status = '{Status.WITHDRAWN}'"
        " ORDER BY r.id FOR NO KEY UPDATE)"
        f" UPDATE delivery_deliveryrecord r SET status = '{Status.WAITING}',"
        f" reason = {sql.waiting_reason('pairs.due_at')},"
        " due_at = pairs.due_at, matched_at = %(now)s, judged_last_seen_at = last_seen, attempts = 0,"
        " judged_company_last_seen_at = NULL FROM pairs JOIN locked ON locked.id = pairs.record_id"
        " WHERE r.id = locked.id"
    )
    if not is_still_live(message):
        return 0
    return sql.execute(statement, {**condition.params, **sql.round_params(message, at=at)})


def insert_new_records(
    message: Message, condition: Condition, *, at: datetime, progress: sql.Progress = sql.no_progress
) -> int:
    """Insert a record for every customer who matches and has none, in slices of at most SLICE, in customer order.

    The rules are evaluated once and the slices are read from the result, so that no transaction is long.
    """
    pairs = condition.pairs(
        per_company=message.per_company,
        where=(
            f"{conditions.reachable_sql(message.channel)}{sql.exclude_without_company(message.per_company)}"
            f" AND {sql.no_record(message.per_company)}"
        ),
        columns=f", {sql.DUE} AS due_at, c.last_seen_at AS last_seen",
    )
    params = {**condition.params, **sql.round_params(message, at=at)}
    found = sql.store_matches(pairs, params)
    try:
        made = 0
        for start in range(0, found, sql.SLICE):
            new = insert_slice(message, {**params, "start": start, "end": start + sql.SLICE})
            if new is None:
                break
            made += new
            progress(made)
    finally:
        sql.execute("DROP TABLE IF EXISTS matched", {})
    return made


@retried
def insert_slice(message: Message, params: dict[str, Any]) -> int | None:
    """Insert one slice of records. Return None, and insert nothing, if the message is no longer live."""
    if not is_still_live(message):
        return None
    statement = (
        f"{sql.INSERT} SELECT %(message)s, customer_id, company_id, '{Status.WAITING}',"
        f" {sql.waiting_reason()},"
        f" due_at, %(now)s, last_seen, NULL, {sql.COLUMN_DEFAULTS} FROM matched {sql.WHERE_IN_SLICE}"
    )
    return sql.execute(statement, params)
