"""Celery tasks. Each reads the clock and calls one function; a lost task loses no work (behaviour 5, nudges).

The clock is the database's, because leases are set and judged by it on all machines.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import ParamSpec

from celery import current_app, shared_task

from audiences import intake
from audiences.clock import DatabaseClock, database_clock
from audiences.intake import csv_import
from delivery import process, reservation
from delivery.conversations import answer_emails, threads
from delivery.maintenance import attribute_kinds, retention
from delivery.maintenance import sweep as maintenance_sweep
from delivery.matching import date_indexes, launch_job, ongoing, recheck, rounds
from delivery.models import Reason
from delivery.monitoring import domain_checks, health, reputation
from delivery.sending import dispatcher as sending_dispatcher
from delivery.sending.urgent import dispatcher as urgent_dispatcher
from delivery.sending.urgent.confirmation_emails import CONFIRMATION_EMAILS
from delivery.telemetry import metrics
from delivery.webhooks import dispatcher
from messaging.models import Message

log = logging.getLogger(__name__)

# How long one task runs before it makes room for others; the next nudge or sweep continues. Longer than a minute, so
# that the next sweep comes before it ends.
TASK_TIME_LIMIT = timedelta(seconds=65)
# How long an import runs before it looks for tasks that wait.
SHORT_STEP = timedelta(seconds=1)
# How long a process helps with a backlog at a time. While it lasts, the dispatchers ask again.
HELP_TIME_LIMIT = timedelta(seconds=5)
# How long the daily task runs; the next day continues.
RETENTION_TIME_LIMIT = timedelta(hours=1)
# In seconds. An unreachable broker is not tried again sooner, so that not every request waits for it.
BROKER_RETRY_INTERVAL = 10.0


# Emails that are sent one by one, in the order in which they are claimed.
URGENT_EMAILS = (answer_emails.ANSWER_EMAILS, CONFIRMATION_EMAILS)

P = ParamSpec("P")


def in_turn(run: Callable[P, None]) -> Callable[P, None]:
    """Run a task if the worker has a place for it, else queue it again: one process is reserved for sending."""

    @wraps(run)
    def wrapper(*args: P.args, **later: P.kwargs) -> None:
        name = f"{run.__module__}.{run.__name__}"
        with reservation.hold_place() as is_free:
            if is_free:
                reservation.clear_mark(f"{name} {args}")
                return run(*args, **later)
        if reservation.mark_waiting(f"{name} {args}", asks_again="asks_again" in later):
            task = current_app.tasks[name]
            enqueue_task(task, *args, after=reservation.ASK_INTERVAL, asks_again=True)
        return None

    return wrapper


@shared_task
@in_turn
def match_ongoing_messages(**_later: object) -> None:
    """Match every live ongoing email and push, then send. Every hour."""
    rounds.match_ongoing(at=database_clock())
    enqueue_dispatch()
    date_indexes.update_indexes()


@shared_task
@in_turn
def match_message(message_id: int, **_later: object) -> None:
    """Match one ongoing message: its first round, or the one after it was resumed."""
    match_and_dispatch(message_id)


def match_and_dispatch(message_id: int) -> None:
    message = Message.objects.live().filter(pk=message_id).first()
    if message is not None:
        ongoing.match_safely(message, at=database_clock())
        enqueue_dispatch()


@shared_task
@in_turn
def launch_message(message_id: int, **_later: object) -> None:
    """Set a message with a large audience live, or send it to the rest."""
    launch_job.launch(message_id, at=database_clock())
    match_and_dispatch(message_id)
    enqueue_dispatch()


@shared_task
@in_turn
def go_on_importing(import_id: int, **_later: object) -> None:
    """Continue a CSV import for a while, then make room for other tasks."""
    mine = start_turn()
    clock = DatabaseClock()
    while csv_import.continue_import(import_id, clock=clock, until=clock() + SHORT_STEP):
        if not mine.may_continue():
            enqueue_task(go_on_importing, import_id, after=mine.away_for)
            return


@shared_task
@in_turn
def change_kind(change_id: int, **_later: object) -> None:
    """Change the kind of an attribute that many customers have."""
    attribute_kinds.apply_change(change_id, at=database_clock())


@shared_task
def hand_over_due(**_later: object) -> None:
    """Send due records."""
    clock = DatabaseClock()
    sending_dispatcher.dispatch(clock=clock, until=clock() + TASK_TIME_LIMIT, ask_for_another=enqueue_help)


@shared_task
def help_hand_over(**_later: object) -> None:
    """Help to send a backlog for a moment, beside other dispatchers, so that other tasks get their turn."""
    clock = DatabaseClock()
    sending_dispatcher.dispatch(clock=clock, until=clock() + HELP_TIME_LIMIT, ask_for_another=enqueue_help)


@shared_task
def sweep(**_later: object) -> None:
    """Do what a lost nudge may have left undone. Every minute."""
    at = database_clock()
    reputation.pause_messages()
    # A launch or a match may take minutes, and the sweep may run in the process that is reserved for sending.
    maintenance_sweep.sweep(
        at=at,
        queue_launch=lambda message: enqueue_task(launch_message, message.pk),
        queue_match=lambda message: enqueue_task(match_message, message.pk),
    )
    enqueue_dispatch()
    threads.wake_snoozed(at=at)
    enqueue_answer_emails()
    dispatcher.delete_old_notifications(at=at)
    enqueue_webhooks()
    for import_id in csv_import.active_imports():
        enqueue_import(import_id)
    for change_id in attribute_kinds.pending_changes():
        enqueue_kind_change(change_id)
    enqueue_bulk_jobs()
    metrics.delete_dead_process_files(now=time.time())
    health.record_sweep(at=database_clock())


@shared_task
@in_turn
def forget_old(**_later: object) -> None:
    """Delete data whose retention has ended. Once a day."""
    at = database_clock()
    mine = start_turn(RETENTION_TIME_LIMIT)
    csv_import.delete_old_files(at=at)
    retention.delete_expired(at=at, go_on=mine.may_continue)
    if mine.gave_way:
        enqueue_task(forget_old, after=mine.away_for)


@shared_task
@in_turn
def check_domains(**_later: object) -> None:
    """Check what the domains of senders publish for email. Once a day."""
    mine = start_turn()
    if not domain_checks.check_all(clock=database_clock, go_on=mine.may_continue):
        enqueue_task(check_domains, after=mine.away_for)


@shared_task
@in_turn
def judge_waiting(reason: str, **_later: object) -> None:
    """Judge the records that wait for this reason again, after a setting was changed."""
    if recheck.make_waiting_records_due(Reason(reason), at=database_clock()):
        enqueue_dispatch()


@shared_task
@in_turn
def tell_subscribers(**_later: object) -> None:
    """Deliver outgoing webhooks."""
    clock = DatabaseClock()
    dispatcher.dispatch(clock=clock, until=clock() + TASK_TIME_LIMIT)


@shared_task
def forward_answers(**_later: object) -> None:
    """Email teammates' answers to customers who have not been back, and ask leads to confirm their address."""
    clock = DatabaseClock()
    if urgent_dispatcher.send_due(URGENT_EMAILS, clock=clock, until=clock() + TASK_TIME_LIMIT):
        # A campaign may have given its only connection away.
        enqueue_dispatch()


@shared_task
@in_turn
def work_off_jobs(**_later: object) -> None:
    """Process bulk jobs for a while, then make room for other tasks."""
    mine = start_turn()
    intake.process_jobs(clock=DatabaseClock(), go_on=mine.may_continue)
    if not mine.may_continue():
        enqueue_task(work_off_jobs, after=mine.away_for)


def start_turn(limit: timedelta = TASK_TIME_LIMIT) -> reservation.Turn:
    """Start the turn of a task that can stop at any time."""
    return reservation.Turn(limit, is_sending_due=lambda: health.oldest_due(at=database_clock()) is not None)


def enqueue_dispatch() -> None:
    """Queue the sending of due records. If the broker is down, the minute sweep does it."""
    enqueue_task(hand_over_due)


def enqueue_help() -> None:
    """Queue one more dispatcher, for a worker process that is free."""
    enqueue_task(help_hand_over)


def enqueue_match(message: Message) -> None:
    enqueue_task(match_message, message.pk)


def enqueue_sweep() -> None:
    enqueue_task(sweep)


def enqueue_webhooks() -> None:
    enqueue_task(tell_subscribers)


def enqueue_answer_emails() -> None:
    enqueue_task(forward_answers)


def enqueue_bulk_jobs() -> None:
    enqueue_task(work_off_jobs)


def enqueue_launch(message: Message) -> None:
    """Queue a launch. If the broker is down, the minute sweep does it."""
    enqueue_task(launch_message, message.pk)


def enqueue_import(import_id: int) -> None:
    enqueue_task(go_on_importing, import_id)


def enqueue_judging(reason: Reason) -> None:
    """Queue the judging of records that wait for this reason. If the broker is down, do it now."""
    if not enqueue_task(judge_waiting, reason.value):
        recheck.make_waiting_records_due(reason, at=database_clock())


def enqueue_kind_change(change_id: int) -> None:
    enqueue_task(change_kind, change_id)


def enqueue_task(task: object, *args: object, after: float = 0, asks_again: bool = False) -> bool:
    """Queue a task, to run after some seconds; `asks_again` if it found no place in its worker. Return whether it is.

    Its work is committed already, so an unreachable broker neither raises nor delays the caller.
    """
    if time.monotonic() < process.broker_retry_at:
        return False
    try:
        again = {"kwargs": {"asks_again": True}} if asks_again else {}
        later = {"countdown": after} if after else {}
        task.apply_async(args, retry=False, expires=3600, **again, **later)  # type: ignore[attr-defined]
    except Exception:
        process.broker_retry_at = time.monotonic() + BROKER_RETRY_INTERVAL
        log.warning("the broker cannot be reached; the minute sweep takes over", exc_info=True)
        return False
    return True
