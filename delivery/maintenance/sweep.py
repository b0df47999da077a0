"""Minute sweep: repairs everything that a lost nudge may have left undone."""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from audiences import change_log
from delivery.matching import launch_job, lifecycle, ongoing, rounds, verification
from delivery.models import DeliveryRecord
from delivery.reporting import counters
from delivery.sending import settle, suppression
from messaging.models import RUNNING, Message, NotReady, State, WrongState

log = logging.getLogger(__name__)


# Queues the work of a message. Returns False if that is not possible, so that the sweep does the work.
Queue = Callable[[Message], bool]


def queue_nothing(_message: Message) -> bool:
    """Leave the work to the sweep."""
    return False


def sweep(*, at: datetime, queue_launch: Queue = queue_nothing, queue_match: Queue = queue_nothing) -> None:
    """Run all steps of the sweep. A step that fails does not stop the others."""
    steps: tuple[Callable[[], object], ...] = (
        lambda: settle.recover_from_journals(at=at),
        lambda: settle.expire_leases(at=at),
        lambda: suppression.repair_flags(at=at),
        lambda: launch_requested(at=at, queue=queue_launch),
        lambda: launch_scheduled(at=at, queue=queue_launch),
        lambda: stop_ended(at=at),
        withdraw_rest_of_stopped,
        lambda: match_unmatched(at=at, queue=queue_match),
        lifecycle.finish_one_offs,
        counters.fold_changes,
        lambda: rounds.run_prompt_round(at=at),
        change_log.delete_foreign_entries,
        lambda: verification.verify_next_slice(at=at),
        rounds.truncate_unread_entries,
    )
    for step in steps:
        try:
            step()
        except Exception:
            log.exception("a step of the sweep failed")


def stop_ended(*, at: datetime) -> None:
    """Stop the in-app messages whose time to be shown is over. Visits leave them out from that moment on."""
    states = (*RUNNING, State.PAUSED)
    for message in Message.objects.filter(state__in=states, shown_until__lte=at, launching_at=None):
        with suppress(WrongState):  # A teammate stopped it first.
            lifecycle.stop(message)


def withdraw_rest_of_stopped() -> None:
    """Withdraw the records of stopped messages that still wait."""
    stopped = Message.objects.filter(state=State.STOPPED).alias(waiting=DeliveryRecord.objects.first_waiting())
    for message in stopped.filter(waiting__isnull=False):
        lifecycle.withdraw_stopped(message)


def match_unmatched(*, at: datetime, queue: Queue = queue_nothing) -> None:
    """Match the messages that are to be matched in full before the next round."""
    for message in rounds.unmatched_messages(at=at):
        if not queue(message):
            ongoing.match_safely(message, at=at)


def launch_requested(*, at: datetime, queue: Queue = queue_nothing) -> None:
    """Carry out the requested launches that no worker has carried out. A failure does not hold up the others."""
    for message in launch_job.requested_launches():
        try:
            if not queue(message):
                launch_job.launch(message.pk, at=at)
        except Exception:
            log.exception("message %s cannot be launched", message.pk)


def launch_scheduled(*, at: datetime, queue: Queue = queue_nothing) -> None:
    """Launch the scheduled one-offs that are due. One that cannot launch stays, with an alarm (behaviour 4.9)."""
    for message in Message.objects.filter(state=State.SCHEDULED, scheduled_for__lte=at, launching_at=None):
        try:
            launch_job.request_launch(message, at=at, among=(State.SCHEDULED,))
            if not queue(message):
                launch_job.launch(message.pk, at=at)
        except NotReady as reason:
            Message.objects.filter(pk=message.pk).update(problem=" ".join(reason.messages))
        except WrongState:
            continue  # Another process launched it first.
        except Exception:
            log.exception("message %s cannot be launched", message.pk)
