"""Rounds: match every live ongoing email and push, by changes where possible, else in full (behaviour 4.20).

A message is matched by changes if everyone was judged before with the same rules and the log of changes since then is
complete. Both ways match the same people.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from django.conf import settings
from django.db import connection
from django.db.models import Min, Q, QuerySet

from audiences import change_log
from audiences.models import Workspace
from audiences.rules import RuleError
from audiences.transactions import is_outage
from delivery import locks
from delivery.eligibility import conditions, live_messages
from delivery.eligibility.live_messages import Live, LiveMessages
from delivery.matching import changes, hits, ongoing, sql
from delivery.matching.changes import Followed
from delivery.matching.dependencies import Dependencies, dependencies_of
from delivery.matching.logins import condition_with_logins
from delivery.models import MatchState
from delivery.models.match_state import key_array
from delivery.telemetry import tracing
from messaging.models import Channel, Checking, Message
from messaging.models.message import MessageQuerySet

log = logging.getLogger(__name__)

# Larger if no round has run for long; a few days of a busy site.
MAX_LOG_BYTES = 4 * 1024**3
# A customer is matched promptly after so long without a further change, and at the latest so long after the first one.
QUIET, UNQUIET_AT_MOST = timedelta(seconds=1), timedelta(seconds=10)
# Up to so many changed customers are judged promptly, even if that is a large share: during an import, for example.
MANY_CHANGED = 200_000
# How long after its last full match a message that is checked as soon as something changes may have the next one.
FULL_MATCH_INTERVAL = timedelta(minutes=10)


class Facts(NamedTuple):
    """The fields of a message that decide how it is matched. The others are read only if it has people to add."""

    pk: int
    channel: str
    problem: str
    recheck_before: datetime | None
    last_matched_at: datetime | None


class Read(NamedTuple):
    """The fields of a match state that decide whether its message can be matched by changes."""

    message_id: int
    horizon: int
    at: datetime
    cluster: str
    fingerprint: str


@dataclass(slots=True)
class Round:
    """The result of a round: new or requeued records, and how each message was matched."""

    made: int = 0
    candidates: int = 0
    by_changes: list[int] = field(default_factory=list)
    in_full: list[int] = field(default_factory=list)


def match_ongoing(*, at: datetime, progress: sql.Progress = sql.no_progress) -> int:
    """Run a round. Return how many records were inserted or requeued.

    In-app messages are matched by visits, which skip invalid rules; here the error is written on the message.
    """
    return run_round(at=at, progress=progress).made


def run_round(*, at: datetime, progress: sql.Progress = sql.no_progress) -> Round:
    """Run a round and return its result."""
    with tracing.start_span("round") as span:
        result = judge_messages(at=at, progress=progress)
        span.set(
            records=result.made,
            candidates=result.candidates,
            messages_by_changes=len(result.by_changes),
            messages_in_full=len(result.in_full),
        )
    log.info(
        "round: %s messages by changes (%s candidates), %s in full, %s records",
        *(len(result.by_changes), result.candidates, len(result.in_full), result.made),
    )
    return result


def judge_messages(*, at: datetime, progress: sql.Progress) -> Round:
    """Match every live ongoing email and push, by changes or in full."""
    # Before anything is read: later changes are judged by the next round.
    horizon = change_log.current_horizon()
    compiled = compiled_messages()
    result = Round()
    live = Message.objects.live().ongoing()
    every = facts_of(live)
    in_app = [message for message in every if message.channel == Channel.IN_APP]
    doubtful = [message.pk for message in in_app if message.problem or message.pk not in compiled]
    for message in with_audiences(live.filter(pk__in=doubtful)):
        check_rules(message)
    messages = [message for message in every if message.channel != Channel.IN_APP]
    followed = followed_messages(messages, compiled, horizon=horizon, at=at)
    if not followed or not match_by_changes(followed, result, at=at, horizon=horizon, progress=progress):
        followed = []
    unmatched = {message.pk for message in messages} - {one.live.pk for one in followed}
    for message in with_audiences(live.filter(pk__in=unmatched)):
        result.in_full.append(message.pk)
        result.made += ongoing.match_safely(message, at=at, progress=progress)
    if settings.CHANGE_DRIVEN_MATCHING:
        truncate_read_entries()
    return result


def with_audiences(messages: MessageQuerySet) -> MessageQuerySet:
    """Return whole messages, oldest first."""
    return messages.select_related("audience").order_by("pk")


def compiled_messages() -> dict[int, tuple[Live, Dependencies]]:
    """Return the live ongoing messages with valid rules, from the cache of the process."""
    generation = Workspace.current().generation
    return messages_by_id(live_messages.live_messages(generation=generation, database=connection.settings_dict["NAME"]))


@lru_cache(maxsize=1)
def messages_by_id(found: LiveMessages) -> dict[int, tuple[Live, Dependencies]]:
    """Return the ongoing messages of one generation with their dependencies, which only a new generation changes."""
    return {live.pk: (live, dependencies_of(live)) for live in found.ongoing}


def facts_of(messages: MessageQuerySet) -> list[Facts]:
    return [Facts(*row) for row in messages.values_list(*Facts._fields)]


def followed_messages(
    messages: Sequence[Facts],
    compiled: Mapping[int, tuple[Live, Dependencies]],
    *,
    horizon: int,
    at: datetime,
) -> list[Followed]:
    """Return the messages that can be matched by changes."""
    if not settings.CHANGE_DRIVEN_MATCHING:
        # Whether the log is complete is not known when the setting is switched on again.
        MatchState.objects.all().delete()
        return []
    found = []
    cluster = change_log.cluster_id()
    facts_by_id = {facts.pk: facts for facts in messages}
    states = MatchState.objects.filter(message__in=key_array(facts_by_id)).order_by("pk")
    for state in (Read(*row) for row in states.values_list(*Read._fields)):
        facts = facts_by_id[state.message_id]
        # A database that was restored from a dump may be in another cluster, which counts other transactions.
        is_readable = state.horizon <= horizon and state.cluster == cluster
        if facts.pk not in compiled or facts.recheck_before is not None or not is_readable:
            continue
        live, dependencies = compiled[facts.pk]
        if dependencies.is_traceable and dependencies.fingerprint == state.fingerprint:
            condition = condition_with_logins(live, last_matched_at=facts.last_matched_at, at=at)
            found.append(Followed(live, condition, dependencies, state.horizon, state.at))
    return found


def match_by_changes(
    followed: list[Followed], result: Round, *, at: datetime, horizon: int, progress: sql.Progress
) -> bool:
    """Match messages for the customers who changed. Return False if everyone must be judged."""
    try:
        result.candidates = changes.store_candidates(followed, at=at)
        if changes.is_large_share(result.candidates):
            return False
        found = result.candidates
        result.made, done = match_candidates(followed, found=found, at=at, progress=progress)
    except Exception:
        # The rules of one message may fail for one customer. In full, each message is matched on its own.
        log.exception("messages cannot be matched by changes")
        return False
    finally:
        changes.drop_tables()
    MatchState.objects.move_forward(done, horizon=horizon, at=at)
    Message.objects.filter(pk__in=key_array(done)).update(last_matched_at=at, problem="")
    result.by_changes = sorted(one.live.pk for one in followed)
    return True


def match_candidates(
    followed: Sequence[Followed], *, found: int, at: datetime, progress: sql.Progress
) -> tuple[int, list[int]]:
    """Judge the stored candidates, if any. Return how many records were made, and the messages that are done.

    A message that another worker matches, maybe with older data, is not done.
    """
    done = {one.live.pk for one in followed}
    total = 0
    with_hits = hits.store_hits(followed, at=at) if found else ()
    for message in with_audiences(Message.objects.filter(pk__in=with_hits)):
        among = f"SELECT h.customer_id FROM {changes.HITS} h WHERE h.message_id = {message.pk}"
        made = ongoing.match_hits(message, at=at, hits=among, progress=progress)
        if made is None:
            done.remove(message.pk)
        total += made or 0
    return total, sorted(done)


def run_prompt_round(*, at: datetime) -> int:
    """Match the messages that are checked as soon as something changes. Return how many records were made.

    Customers who changed within the last second wait, so that several calls count as one change, but no longer than ten
    seconds. Boundaries are left to the hourly round.
    """
    horizon = change_log.current_horizon()
    messages = facts_of(prompt_messages())
    followed = followed_messages(messages, compiled_messages(), horizon=horizon, at=at) if messages else []
    if not followed:
        return 0
    with locks.prompt_round_lock() as mine:
        if not mine:
            return 0
        try:
            with tracing.start_span("prompt round", messages=len(followed)) as span:
                made = match_promptly(followed, at=at, horizon=horizon)
                span.set(records=made)
                return made
        except Exception as wrong:
            if is_outage(wrong):
                raise
            log.exception("messages cannot be matched promptly together")
        # The rules of one message may fail for one customer.
        return sum(match_promptly_alone(one, at=at, horizon=horizon) for one in followed)


def match_promptly(followed: Sequence[Followed], *, at: datetime, horizon: int) -> int:
    """Match messages for the customers who changed and are quiet. Return how many records were made.

    If very many changed, and a large share of the customers, the states are deleted, and a task judges everyone.
    """
    try:
        found = changes.store_candidates(followed, at=None)
        if found > MANY_CHANGED and changes.is_large_share(found):
            log.info("%s customers changed, so everyone is judged", found)
            MatchState.objects.filter(message__in=[one.live.pk for one in followed]).delete()
            return 0
        unread = changes.drop_unquiet_candidates(quiet=QUIET, at_most=UNQUIET_AT_MOST)
        horizon = horizon if unread is None else min(horizon, unread)
        made, done = match_candidates(followed, found=found, at=at, progress=sql.no_progress)
    finally:
        changes.drop_tables()
    MatchState.objects.move_forward(done, horizon=horizon, at=None)
    return made


def match_promptly_alone(one: Followed, *, at: datetime, horizon: int) -> int:
    """Match one message promptly. If that fails, write it on the message and return 0."""
    try:
        return match_promptly([one], at=at, horizon=horizon)
    except Exception as wrong:
        if is_outage(wrong):
            raise
        log.exception("message %s cannot be matched promptly", one.live.pk)
        ongoing.record_problem(one.live.pk, ongoing.MATCHING_FAILED)
        return 0


def prompt_messages() -> MessageQuerySet:
    """Return the live messages that are checked as soon as something changes."""
    return Message.objects.live().ongoing().filter(checking=Checking.AT_ONCE).exclude(channel=Channel.IN_APP)


def prompt_round_is_due() -> bool | None:
    """Return whether there are changes for a prompt round, a second old or more; None if no message asks for it."""
    if not settings.CHANGE_DRIVEN_MATCHING:
        return None
    states = MatchState.objects.filter(message__in=prompt_messages()).exclude(fingerprint="")
    oldest = states.aggregate(oldest=Min("horizon"))["oldest"]
    return None if oldest is None else change_log.has_entries(since=oldest, older_than=QUIET)


def unmatched_messages(*, at: datetime) -> MessageQuerySet:
    """Return the live messages that a task is to match in full before the next hourly round.

    Their first round, or the first one after a resume, has not run; or they are checked as soon as something changes,
    and everyone has to be judged before changes can be followed again.
    """
    waiting = Message.objects.live().ongoing().exclude(channel=Channel.IN_APP)
    asked = Q(last_matched_at=None) | Q(recheck_before__isnull=False)
    if settings.CHANGE_DRIVEN_MATCHING:
        asked |= Q(
            checking=Checking.AT_ONCE,
            match_state=None,
            problem="",
            last_matched_at__lt=at - FULL_MATCH_INTERVAL,
        )
    return waiting.filter(asked)


def has_stale_entries(*, older_than: timedelta) -> bool:
    """Return whether a live message has not read changes of so long ago."""
    oldest = read_states().aggregate(oldest=Min("horizon"))["oldest"]
    return oldest is not None and change_log.has_entries(since=oldest, older_than=older_than)


def read_states() -> QuerySet[MatchState]:
    """Return the states of live messages, which need the log."""
    return MatchState.objects.filter(message__in=Message.objects.live().ongoing().exclude(channel=Channel.IN_APP))


def truncate_read_entries() -> None:
    """Truncate the slots of the change log that every live message has read."""
    oldest = read_states().aggregate(oldest=Min("horizon"))["oldest"]
    changes.truncate_log(horizon=oldest if oldest is not None else change_log.current_horizon())


def truncate_unread_entries() -> None:
    """Truncate past slots, read or not, if matching by changes is off or the log has grown too large.

    Every message is then matched in full once.
    """
    if not settings.CHANGE_DRIVEN_MATCHING or change_log.size_in_bytes() > MAX_LOG_BYTES:
        changes.truncate_log(horizon=None)


def check_rules(message: Message) -> None:
    """Write on the message whether its rules are valid."""
    try:
        conditions.condition_of(message)
        problem = ""
    except RuleError as wrong:
        problem = str(wrong)
    Message.objects.filter(pk=message.pk).exclude(problem=problem).update(problem=problem)
