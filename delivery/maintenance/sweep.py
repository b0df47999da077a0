"""Minute sweep: repairs everything that a lost nudge may have left undone."""

import logging
from collections.abc import Callable
from datetime import datetime

from django.db.models import Q

from delivery.matching import launch_job, lifecycle, ongoing, rounds, verification
from delivery.models import Status
from delivery.reporting import counters
from delivery.sending import settle
from messaging.models import Channel, Message, NotReady, State, WrongState

log = logging.getLogger(__name__)


def sweep(*, at: datetime) -> None:
    """Run all steps of the sweep. A step that fails does not stop the others."""
    for step in STEPS:
        try:
            step(at)
        except Exception:
            log.exception("a step of the sweep failed")


def withdraw_rest_of_stopped(_at: datetime) -> None:
    """Withdraw the records of stopped messages that still wait."""
    for message in Message.objects.filter(state=State.STOPPED, records__status=Status.WAITING).distinct():
        lifecycle.withdraw_stopped(message)


def match_unmatched(*, at: datetime) -> None:
    """Match the live ongoing messages whose first round, or first round after a resume, has not run."""
    waiting = Message.objects.live().ongoing().exclude(channel=Channel.IN_APP)
    for message in waiting.filter(Q(last_matched_at=None) | Q(recheck_before__isnull=False)):
        ongoing.match_safely(message, at=at)


def launch_scheduled(*, at: datetime) -> None:
    """Launch the scheduled one-offs that are due. One that cannot launch stays, with an alarm (behaviour 4.9)."""
    for message in Message.objects.filter(state=State.SCHEDULED, scheduled_for__lte=at, launching_at=None):
        try:
            launch_job.request_launch(message, at=at, among=(State.SCHEDULED,))
            launch_job.launch(message.pk, at=at)
        except NotReady as reason:
            Message.objects.filter(pk=message.pk).update(problem=" ".join(reason.messages))
        except WrongState:
            continue  # Another process launched it first.
        except Exception:
            log.exception("message %s cannot be launched", message.pk)


STEPS: tuple[Callable[[datetime], object], ...] = (
    lambda at: settle.recover_from_journals(at=at),
    lambda at: settle.expire_leases(at=at),
    lambda at: launch_job.run_requested_launches(at=at),
    lambda at: launch_scheduled(at=at),
    withdraw_rest_of_stopped,
    lambda at: match_unmatched(at=at),
    lambda _at: lifecycle.finish_one_offs(),
    lambda _at: counters.fold_changes(),
    lambda at: rounds.run_prompt_round(at=at),
    lambda at: verification.verify_next_slice(at=at),
    lambda _at: rounds.truncate_unread_entries(),
)
