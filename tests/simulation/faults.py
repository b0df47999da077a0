"""Planted faults: guards that docs/behaviour.md names, each removed for a while. The simulation has to find each.

A name that a module imports from another one is replaced where it is used.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

from django.db import connection

from audiences import change_log
from audiences.intake.csv_import import upsert
from delivery import locks
from delivery.customers import erase
from delivery.eligibility import conditions, frequency_cap
from delivery.matching import lifecycle, ongoing, recheck, sql
from delivery.sending import batch, claim, dispatcher, journal, lane, settle
from delivery.visits import visit
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message, State

Fault = Callable[[], AbstractContextManager[object]]


def replaced(target: Any, name: str, value: Any) -> Fault:
    """Return the fault that something is replaced."""
    assert hasattr(target, name)
    return lambda: mock.patch.object(target, name, value)


def without_sql(module: Any, name: str, text: str, instead: str = "") -> Fault:
    """Return the fault that a constant, or the SQL that a function returns, lacks a part."""
    whole = getattr(module, name)
    if isinstance(whole, str):
        assert text in whole
        return replaced(module, name, whole.replace(text, instead))

    return replaced(module, name, lambda *given, **named: whole(*given, **named).replace(text, instead))


def nothing(*_given: Any, **_named: Any) -> int:
    return 0


def together(*faults: Fault) -> Fault:
    """Return several faults as one: guards that stand behind each other."""

    def plant() -> AbstractContextManager[object]:
        planted = ExitStack()
        for fault in faults:
            planted.enter_context(fault())
        return planted

    return plant


@contextmanager
def granted(*_given: Any, **_named: Any) -> Iterator[bool]:
    """Stand in for a lock that everyone gets at once."""
    yield True


def retry_uncertain(one: Any, answer: Any, outcome: Any, *, clock: Any) -> None:
    """Record an answer, and try a copy again that the channel may have received."""
    RECORD_ANSWER(one, answer, outcome, clock=clock)
    if outcome.uncertain:
        outcome.uncertain.clear()
        outcome.try_later(one, at=clock(), words="again")


def newest_transaction() -> int:
    """Return a horizon above transactions that are still open."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        return int(cursor.fetchone()[0])


def finish_all() -> int:
    return Message.objects.one_off().filter(state=State.LIVE).update(state=State.SENT)


def lock_nobody(customers: Any) -> set[int]:
    return set(customers)


def is_ours(self: Any, *, at: Any) -> bool:
    self.until = at + claim.LEASE
    return True


def claim_and_go_on(self: Any, message: Message) -> bool:
    """Claim a batch; go on with the others if that fails, also if the database was lost."""
    try:
        return bool(self.claim(message))
    except Exception:  # noqa: BLE001 - as the dispatcher did, whatever failed
        self.resting.add(message.pk)
        return False


RECORD_ANSWER = batch.record_answer

# By name: the guard that is missing, with its place in docs/behaviour.md.
FAULTS: dict[str, Fault] = {
    "3 an import writes into an erased row": without_sql(
        upsert, "LOOK_AGAIN", "AND (c.user_id = i.user_id) IS NOT TRUE", "AND FALSE"
    ),
    "3 an erasure keeps addresses": replaced(erase, "blank_addresses", nothing),
    "4.3 an address gets two copies": replaced(conditions, "inbox_sql", lambda _message: conditions.NO_INBOX),
    "4.7 a GET matches at any time": replaced(visit, "CHECK_INTERVAL", timedelta(0)),
    "4.8 the delivery window is not checked": replaced(conditions, "next_opening", lambda *_, at, **__: at),
    "4.9 a pause does not wait for copies": replaced(locks, "block_batches_and_rounds", nothing),
    "4.9 a copy does not hold up a pause": replaced(locks, "batch_lock", granted),
    # The dispatcher begins anew when a claim loses the database, and a check asks for the session that has the lock.
    "4.9 a batch goes on without its lock": together(
        replaced(dispatcher.Dispatcher, "claim_safely", claim_and_go_on),
        replaced(batch.OpenMessage, "may_continue", lambda self: locks.batch_may_continue(self.message)),
    ),
    "4.9 a pause does not wait for visits": replaced(locks, "wait_for_visits", nothing),
    "4.9 a round goes on although the message is paused": replaced(ongoing, "is_still_live", lambda _message: True),
    "4.9 a claim does not ask whether the message runs": without_sql(
        claim, "claim_sql", "AND m.state = ANY(%(running)s)", "AND (TRUE OR m.state = ANY(%(running)s))"
    ),
    # The dispatcher judges them before it claims, and a claim leaves out those that were not judged.
    "4.9 held records are not judged again": together(
        replaced(recheck, "recheck_slice", lambda _message, *, at: bool(at)),
        without_sql(claim, "claim_sql", "AND (m.recheck_before IS NULL OR r.matched_at >= m.recheck_before)"),
    ),
    "4.9 a stop leaves waiting records": replaced(lifecycle, "withdraw_stopped", nothing),
    "4.9 a one-off is finished too early": replaced(lifecycle, "finish_one_offs", finish_all),
    "4.9 the state is not checked when it changes": replaced(
        message_lifecycle, "launchable_states", lambda _sample: list(State)
    ),
    "4.11 a claim does not ask who is reachable": replaced(claim, "blocked_reason_sql", lambda _message: "NULL::text"),
    "4.11 no check of reachability before a copy begins": replaced(lane, "unreachable_records", lambda *_: set()),
    "4.13 an uncertain copy is sent again": replaced(batch, "record_answer", retry_uncertain),
    "4.15 membership is not checked": replaced(conditions, "has_left_sql", lambda _record="r": "FALSE"),
    "4.18 a push goes again to a device that has it": lambda: mock.patch.dict(
        claim.RECIPIENTS, {Channel.PUSH: claim.DEVICES.replace("d.device_id = v.id", "FALSE")}
    ),
    "4.18 a stop does not settle begun pushes": replaced(lifecycle, "settle_begun_pushes", nothing),
    "4.20 a round passes over open transactions": replaced(change_log, "current_horizon", newest_transaction),
    "4.29 quiet hours are not kept": replaced(Message, "keeps_quiet_hours", property(lambda _message: False)),
    "5 a claim locks no records": without_sql(
        claim, "claim_sql", " FOR UPDATE OF r SKIP LOCKED FOR SHARE OF m SKIP LOCKED"
    ),
    "5 a check never expires": replaced(batch, "CHECK_VALID_FOR", math.inf),
    "5 journals of living workers are read": lambda: mock.patch.object(
        journal, "fcntl", mock.Mock(LOCK_EX=0, LOCK_NB=0)
    ),
    "5 a journal does not name begun copies": replaced(journal.Journal, "sending", nothing),
    "5 journals are not read": replaced(settle, "recover_from_journals", nothing),
    "5 leases never end": replaced(settle, "expire_leases", nothing),
    "5 a worker goes on after its lease": replaced(claim.Batch, "is_ours", is_ours),
    "5 a worker settles what is not its own": without_sql(
        settle, "SETTLE_SENT", "AND r.status = 'sending' AND r.claim = given.claim "
    ),
    "5 two insertions meet": without_sql(sql, "WHERE_IN_SLICE", " ON CONFLICT DO NOTHING"),
    "5 the frequency cap is not counted": without_sql(
        frequency_cap, "RECENT_MESSAGES", "r.status = ANY(%s)", "r.status = ANY(%s) AND FALSE"
    ),
    "5 two workers count the frequency cap at once": replaced(frequency_cap, "lock_customers", lock_nobody),
}
