"""Celery tasks. Each reads the clock and calls one function; a lost task loses no work (behaviour 5, nudges)."""

import logging
import time
from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from audiences import intake
from audiences.intake import csv_import
from delivery import metrics, process, shutdown
from delivery.conversations import answer_emails, threads
from delivery.maintenance import attribute_kinds, retention
from delivery.maintenance import sweep as maintenance_sweep
from delivery.matching import launch_job, ongoing
from delivery.monitoring import health
from delivery.sending import dispatcher as sending_dispatcher
from delivery.webhooks import dispatcher
from messaging.models import Message

log = logging.getLogger(__name__)

# How long one task runs before it makes room for others; the next nudge or sweep continues. Longer than a minute, so
# that the next sweep comes before it ends.
TASK_TIME_LIMIT = timedelta(seconds=65)
# How long a process helps with a backlog at a time. While it lasts, the dispatchers ask again.
HELP_TIME_LIMIT = timedelta(seconds=5)
# How long the daily task runs; the next day continues.
RETENTION_TIME_LIMIT = timedelta(hours=1)
# In seconds. An unreachable broker is not tried again sooner, so that not every request waits for it.
BROKER_RETRY_INTERVAL = 10.0


@shared_task
def match_ongoing_messages(**_later: object) -> None:
    """Match every live ongoing email and push, then send. Every hour."""
    ongoing.match_ongoing(at=timezone.now())
    enqueue_dispatch()


@shared_task
def match_message(message_id: int, **_later: object) -> None:
    """Match one ongoing message: its first round, or the one after it was resumed."""
    message = Message.objects.live().filter(pk=message_id).first()
    if message is not None:
        ongoing.match(message, at=timezone.now())
        enqueue_dispatch()


@shared_task
def launch_message(message_id: int, **_later: object) -> None:
    """Set a message with a large audience live, or send it to the rest."""
    launch_job.launch(message_id, at=timezone.now())
    match_message(message_id)
    enqueue_dispatch()


@shared_task
def go_on_importing(import_id: int, **_later: object) -> None:
    """Continue a CSV import for a while, then make room for other tasks."""
    if csv_import.continue_import(import_id, clock=timezone.now, until=timezone.now() + TASK_TIME_LIMIT):
        enqueue_import(import_id)


@shared_task
def change_kind(change_id: int, **_later: object) -> None:
    """Change the kind of an attribute that many customers have."""
    attribute_kinds.apply_change(change_id, at=timezone.now())


@shared_task
def hand_over_due(**_later: object) -> None:
    """Send due records."""
    sending_dispatcher.dispatch(
        clock=timezone.now, until=timezone.now() + TASK_TIME_LIMIT, ask_for_another=enqueue_help
    )


@shared_task
def help_hand_over(**_later: object) -> None:
    """Help to send a backlog for a moment, beside other dispatchers, so that other tasks get their turn."""
    sending_dispatcher.dispatch(
        clock=timezone.now, until=timezone.now() + HELP_TIME_LIMIT, ask_for_another=enqueue_help
    )


@shared_task
def sweep(**_later: object) -> None:
    """Do what a lost nudge may have left undone. Every minute."""
    at = timezone.now()
    maintenance_sweep.sweep(at=at)
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
    health.record_sweep(at=timezone.now())


@shared_task
def forget_old(**_later: object) -> None:
    """Delete data whose retention has ended. Once a day."""
    at = timezone.now()
    until = at + RETENTION_TIME_LIMIT
    csv_import.delete_old_files(at=at)
    retention.delete_expired(at=at, go_on=lambda: timezone.now() < until and not shutdown.is_requested())


@shared_task
def tell_subscribers(**_later: object) -> None:
    """Deliver outgoing webhooks."""
    dispatcher.dispatch(clock=timezone.now, until=timezone.now() + TASK_TIME_LIMIT)


@shared_task
def forward_answers(**_later: object) -> None:
    """Email teammates' answers to customers who have not been back."""
    answer_emails.send_due_answer_emails(clock=timezone.now, until=timezone.now() + TASK_TIME_LIMIT)


@shared_task
def work_off_jobs(**_later: object) -> None:
    """Process bulk jobs."""
    until = timezone.now() + TASK_TIME_LIMIT
    intake.process_jobs(clock=timezone.now, go_on=lambda: timezone.now() < until and not shutdown.is_requested())


def enqueue_dispatch() -> None:
    """Queue the sending of due records. If the broker is down, the minute sweep does it."""
    enqueue_task(hand_over_due)


def enqueue_help() -> None:
    """Queue one more dispatcher, for a worker process that is free."""
    enqueue_task(help_hand_over)


def enqueue_match(message: Message) -> None:
    enqueue_task(match_message, message.pk)


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


def enqueue_kind_change(change_id: int) -> None:
    enqueue_task(change_kind, change_id)


def enqueue_task(task: object, *args: object) -> None:
    """Queue a task. Its work is committed already, so an unreachable broker neither raises nor delays the caller."""
    if time.monotonic() < process.broker_retry_at:
        return
    try:
        task.apply_async(args, retry=False, expires=3600)  # type: ignore[attr-defined]
    except Exception:
        process.broker_retry_at = time.monotonic() + BROKER_RETRY_INTERVAL
        log.warning("the broker cannot be reached; the minute sweep takes over", exc_info=True)
