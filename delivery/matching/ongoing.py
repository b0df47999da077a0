"""Matching of one ongoing message: of all customers, or of the hits among the customers who changed.

It adds a record for each customer who matches and has none, and requeues withdrawn records of customers who match again
(behaviour 4.1, 5). `rounds` decides which of the two an hourly round needs.
"""

import logging
import time
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from psycopg.types.json import Jsonb

from audiences import change_log
from audiences.models import CustomAttribute, Workspace
from audiences.rules import RuleError
from audiences.transactions import is_outage, retried, with_index_lookups, without_nested_loops
from delivery import locks
from delivery.eligibility import live_messages, named_values
from delivery.eligibility.live_messages import Live
from delivery.matching import recheck, sql
from delivery.matching.dependencies import fingerprint_of
from delivery.matching.logins import condition_with_logins, judged_last_seen_sql
from delivery.models import MatchState, Reason, Status
from delivery.telemetry import metrics, tracing
from messaging.models import RUNNING, Channel, Message, SendType

log = logging.getLogger(__name__)

EVERYONE = "TRUE"
MATCHING_FAILED = "Matching failed. See the server’s log."


class NoLongerLive(Exception):
    """The message was paused, stopped or edited during the round, after `made` records."""

    def __init__(self, made: int = 0) -> None:
        super().__init__(made)
        self.made = made


def match_safely(message: Message, *, at: datetime, progress: sql.Progress = sql.no_progress) -> int:
    """Match a message. If that fails, write it on the message and return 0, so that other messages go on.

    An outage of the database is not the message's fault: it is matched once more, and otherwise by the next round.
    """
    try:
        return match_through_outage(message, at=at, progress=progress)
    except Exception as wrong:
        log.exception("message %s cannot be matched", message.pk)
        if is_outage(wrong):
            connection.close_if_unusable_or_obsolete()
        else:
            record_problem(message.pk, MATCHING_FAILED)
        return 0


def match_through_outage(message: Message, *, at: datetime, progress: sql.Progress) -> int:
    """Match a message, and once more if the database failed meanwhile: mostly a new connection is enough."""
    with tracing.start_span("full match", message=message.pk) as span:
        try:
            made = match(message, at=at, progress=progress)
        except Exception as wrong:
            if connection.in_atomic_block or not is_outage(wrong):
                raise
            log.warning("the database failed while message %s was matched; trying again", message.pk, exc_info=True)
            connection.close_if_unusable_or_obsolete()
            made = match(message, at=at, progress=progress)
        span.set(records=made)
        return made


def match(message: Message, *, at: datetime, progress: sql.Progress = sql.no_progress) -> int:
    """Judge every customer for an ongoing message, committed in slices. In-app messages are matched by visits only.

    If the rules are no longer valid, the message's `problem` says so and nothing is matched.
    """
    if message.channel == Channel.IN_APP or message.send_type != SendType.ONGOING:
        return 0
    began = time.perf_counter()
    with locks.round_lock(message) as mine:
        if not mine:
            return 0
        # Before anything is read: later changes are judged by the next round.
        horizon = change_log.current_horizon()
        if settings.CHANGE_DRIVEN_MATCHING:
            MatchState.begin_full_match(message, horizon=horizon, cluster=change_log.cluster_id(), at=at)
        try:
            live = compile_now(message)
        except RuleError as wrong:
            record_problem(message.pk, str(wrong))
            return 0
        recheck.recheck_held(message, at=at)
        made = 0
        try:
            made += requeue_withdrawn(message, live, at=at)
            made += insert_new_records(message, live, at=at, progress=progress)
        except NoLongerLive as ended:
            return made + ended.made
        if settings.CHANGE_DRIVEN_MATCHING:
            MatchState.record_full_match(message, horizon=horizon, at=at, fingerprint=fingerprint_of(live))
        Message.objects.filter(pk=message.pk).update(last_matched_at=at, problem="")
    sql.analyze_after(made)
    metrics.observe_duration("match", began, message.pk)
    return made


def match_hits(message: Message, *, at: datetime, hits: str, progress: sql.Progress = sql.no_progress) -> int | None:
    """Match a message for some customers, whose keys `hits` selects.

    Return None if not all of them were matched: another worker matches the message, or it is no longer live.
    """
    with locks.round_lock(message) as mine:
        if not mine:
            return None
        # The hits may have been found with rules that were edited meanwhile.
        live = compile_now(message)
        among = f"c.id IN ({hits})"
        try:
            made = requeue_withdrawn(message, live, at=at, among=among)
            made += insert_new_records(message, live, at=at, among=among, progress=progress)
        except NoLongerLive:
            return None
    sql.analyze_after(made)
    return made


def compile_now(message: Message) -> Live:
    """Compile a message with the current kinds and zone; RuleError if its rules are no longer valid."""
    catalogue, workspace = CustomAttribute.objects.catalogue(), Workspace.current()
    return live_messages.compile_message(message, catalogue=catalogue, workspace=workspace)


def record_problem(message: int, problem: str) -> None:
    """Write on the message why it cannot be matched. Everyone is judged once it can."""
    MatchState.objects.filter(message=message).delete()
    Message.objects.filter(pk=message).update(problem=problem)


def judged_values_sql(live: Live) -> tuple[str, dict[str, Any]]:
    """Return SQL for the values that the rules name of a matching pair, and its parameters."""
    return named_values.named_values_sql(live.compiled.leaves, per_company=live.per_company, prefix=f"v{live.pk}_")


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
def requeue_withdrawn(message: Message, live: Live, *, at: datetime, among: str = EVERYONE) -> int:
    """Requeue the withdrawn records of customers who match again; NoLongerLive if the message is paused."""
    if not message.records.filter(status=Status.WITHDRAWN).exclude(reason=Reason.STOPPED).exists():
        return 0
    withdrawn = (
        " JOIN delivery_deliveryrecord r ON r.customer_id = c.id AND r.message_id = %(message)s::bigint"
        f" AND r.status = '{Status.WITHDRAWN}' AND r.reason <> '{Reason.STOPPED}'"
    )
    same_company = "r.company_id = k.id" if message.per_company else "TRUE"
    condition = condition_with_logins(live, last_matched_at=message.last_matched_at, at=at)
    values, value_params = judged_values_sql(live)
    pairs = condition.pairs(
        per_company=message.per_company,
        joins=withdrawn,
        where=f"{live.reachable} AND {same_company} AND {among}",
        columns=(
            f", r.id AS record_id, {sql.DUE} AS due_at, {judged_last_seen_sql(live)} AS last_seen,"
            f" {values} AS judged_values"
        ),
    )
    statement = (
        f"WITH pairs AS MATERIALIZED ({pairs}), locked AS MATERIALIZED (SELECT r.id FROM delivery_deliveryrecord r"
        f" WHERE r.id IN (SELECT record_id FROM pairs) AND r.status = '{Status.WITHDRAWN}'"
        " ORDER BY r.id FOR NO KEY UPDATE)"
        f" UPDATE delivery_deliveryrecord r SET status = '{Status.WAITING}',"
        f" reason = {sql.waiting_reason('pairs.due_at')},"
        " due_at = pairs.due_at, matched_at = %(now)s, judged_last_seen_at = last_seen, attempts = 0,"
        " judged_company_last_seen_at = NULL, judged_values = pairs.judged_values"
        " FROM pairs JOIN locked ON locked.id = pairs.record_id"
        " WHERE r.id = locked.id"
    )
    if not is_still_live(message):
        raise NoLongerLive
    return sql.execute(statement, {**condition.params, **value_params, **sql.round_params(message, at=at)})


def insert_new_records(
    message: Message,
    live: Live,
    *,
    at: datetime,
    among: str = EVERYONE,
    progress: sql.Progress = sql.no_progress,
) -> int:
    """Insert a record for every customer who matches and has none, in slices of at most SLICE, in customer order.

    The rules are evaluated once and the slices are read from the result, so that no transaction is long. Raise
    NoLongerLive if the message is paused or edited before the last slice.
    """
    condition = condition_with_logins(live, last_matched_at=message.last_matched_at, at=at)
    values, value_params = judged_values_sql(live)
    pairs = condition.pairs(
        per_company=message.per_company,
        where=(
            f"{live.reachable}"
            f"{sql.exclude_without_company(message.per_company)}"
            f" AND {sql.no_record(message.per_company)} AND {among}"
        ),
        columns=f", {sql.DUE} AS due_at, {judged_last_seen_sql(live)} AS last_seen, {values} AS judged_values",
    )
    params = {**condition.params, **value_params, **sql.round_params(message, at=at)}
    planned = without_nested_loops if among == EVERYONE else with_index_lookups
    found = sql.store_matches(pairs, params, planned=planned)
    try:
        made = 0
        for start in range(0, found, sql.SLICE):
            new = insert_slice(message, {**params, "start": start, "end": start + sql.SLICE})
            if new is None:
                raise NoLongerLive(made)
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
        f" due_at, %(now)s, last_seen, NULL, judged_values, {sql.COLUMN_DEFAULTS} FROM matched {sql.WHERE_IN_SLICE}"
    )
    return sql.execute(statement, params)
