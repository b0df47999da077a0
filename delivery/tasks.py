"""What Celery runs. Tasks read the clock and call one function; losing one loses nothing (behaviour 5, nudges)."""

import logging
import time
from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from audiences import intake
from audiences.intake import csv_import
from delivery import metrics, shutdown
from delivery.conversations import answer_emails, threads
from delivery.maintenance import attribute_kinds, retention
from delivery.maintenance import sweep as maintenance_sweep
from delivery.matching import launch_job, ongoing
from delivery.monitoring import health
from delivery.sending import dispatcher as sending_dispatcher
from delivery.webhooks import dispatcher
from messaging.models import Message

log = logging.getLogger(__name__)

# How long one task hands over before it makes room for others; the next nudge or sweep goes on. Longer than a minute,
# so that the next sweep comes before it ends.
A_WHILE = timedelta(seconds=65)
# And how long the round of a day may take; the next day's goes on.
AN_HOUR = timedelta(hours=1)
# A broker that could not be reached is left alone for so many seconds, so that not every request waits for it.
LEFT_ALONE_FOR = 10.0
left_alone_until = 0.0


@shared_task
def match_ongoing_messages(**_later: object) -> None:
    """Match every live ongoing email and push, and hand over what that brings. Every hour."""
    ongoing.match_ongoing(at=timezone.now())
    nudge()


@shared_task
def match_message(message_id: int, **_later: object) -> None:
    """Match one ongoing message: its first round, or the one after it was resumed."""
    message = Message.objects.live().filter(pk=message_id).first()
    if message is not None:
        ongoing.match(message, at=timezone.now())
        nudge()


@shared_task
def launch_message(message_id: int, **_later: object) -> None:
    """Set a message with a large audience live, or send it to the rest."""
    launch_job.launch(message_id, at=timezone.now())
    match_message(message_id)
    nudge()


@shared_task
def go_on_importing(import_id: int, **_later: object) -> None:
    """Go on with an import for a while, and make room for others before going on."""
    if csv_import.go_on(import_id, clock=timezone.now, until=timezone.now() + A_WHILE):
        nudge_import(import_id)


@shared_task
def change_kind(change_id: int, **_later: object) -> None:
    """Change the kind of an attribute that very many have."""
    attribute_kinds.carry_out(change_id, at=timezone.now())


@shared_task
def hand_over_due(**_later: object) -> None:
    """Hand over what is due."""
    sending_dispatcher.dispatch(clock=timezone.now, until=timezone.now() + A_WHILE)


@shared_task
def sweep(**_later: object) -> None:
    """Make sure of what a nudge may have missed. Every minute."""
    at = timezone.now()
    maintenance_sweep.sweep(at=at)
    nudge()
    threads.wake_snoozed(at=at)
    nudge_answers()
    dispatcher.delete_old_notifications(at=at)
    nudge_to_tell()
    for import_id in csv_import.under_way():
        nudge_import(import_id)
    for change_id in attribute_kinds.under_way():
        nudge_kind(change_id)
    nudge_jobs()
    metrics.forget_dead(now=time.time())
    health.swept(at=timezone.now())


@shared_task
def forget_old(**_later: object) -> None:
    """Delete what was kept long enough. Once a day."""
    at = timezone.now()
    until = at + AN_HOUR
    csv_import.forget_old(at=at)
    retention.delete_expired(at=at, go_on=lambda: timezone.now() < until and not shutdown.asked())


@shared_task
def tell_subscribers(**_later: object) -> None:
    """Tell subscribers what happened."""
    dispatcher.dispatch(clock=timezone.now, until=timezone.now() + A_WHILE)


@shared_task
def forward_answers(**_later: object) -> None:
    """Mail teammates' answers to customers who have not been back."""
    answer_emails.send_due_answer_emails(clock=timezone.now, until=timezone.now() + A_WHILE)


@shared_task
def work_off_jobs(**_later: object) -> None:
    """Write down what bulk jobs brought."""
    until = timezone.now() + A_WHILE
    intake.work_off(clock=timezone.now, go_on=lambda: timezone.now() < until and not shutdown.asked())


def nudge() -> None:
    """Have a worker hand over what is due; with the broker down, the minute sweep will."""
    enqueue_task(hand_over_due)


def nudge_match(message: Message) -> None:
    """Have a worker match a message now."""
    enqueue_task(match_message, message.pk)


def nudge_to_tell() -> None:
    """Have a worker tell subscribers what happened."""
    enqueue_task(tell_subscribers)


def nudge_answers() -> None:
    """Have a worker mail the answers that are due."""
    enqueue_task(forward_answers)


def nudge_jobs() -> None:
    """Have a worker write down what bulk jobs brought."""
    enqueue_task(work_off_jobs)


def nudge_launch(message: Message) -> None:
    """Have a worker set a message live now; with the broker down, the minute sweep will."""
    enqueue_task(launch_message, message.pk)


def nudge_import(import_id: int) -> None:
    """Have a worker go on with an import."""
    enqueue_task(go_on_importing, import_id)


def nudge_kind(change_id: int) -> None:
    """Have a worker change the kind of an attribute."""
    enqueue_task(change_kind, change_id)


def enqueue_task(task: object, *args: object) -> None:
    """Queue a task. What it is for is committed already, so for want of a broker nothing fails, nor waits for long."""
    global left_alone_until
    if time.monotonic() < left_alone_until:
        return
    try:
        task.apply_async(args, retry=False, expires=3600)  # type: ignore[attr-defined]
    except Exception:
        left_alone_until = time.monotonic() + LEFT_ALONE_FOR
        log.warning("the broker cannot be reached; the sweep will do it", exc_info=True)
