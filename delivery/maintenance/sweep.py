"""The minute sweep: repairs everything that a lost nudge may have left undone."""

import logging
from collections.abc import Callable
from datetime import datetime

from django.db.models import Q

from delivery.matching import launch_job, lifecycle, ongoing
from delivery.models import Status
from delivery.reporting import counters
from delivery.sending import settle
from messaging.models import Channel, Message, NotReady, State, WrongState

log = logging.getLogger(__name__)


def sweep(*, at: datetime) -> None:
    """Make sure of everything a nudge may have missed; run every minute. A step that goes wrong holds up no other."""
    for step in STEPS:
        try:
            step(at)
        except Exception:
            log.exception("a step of the sweep went wrong")


def withdraw_rest_of_stopped(_at: datetime) -> None:
    """Go on withdrawing what still waits for messages that were stopped."""
    for message in Message.objects.filter(state=State.STOPPED, records__status=Status.WAITING).distinct():
        lifecycle.withdraw_stopped(message)


def match_unmatched(*, at: datetime) -> None:
    """Match the live ongoing messages whose first round, or the one after a resume, has not run."""
    waiting = Message.objects.live().ongoing().exclude(channel=Channel.IN_APP)
    for message in waiting.filter(Q(last_matched_at=None) | Q(rejudge_before__isnull=False)):
        ongoing.match_whatever_happens(message, at=at)


def launch_scheduled(*, at: datetime) -> None:
    """Set live the scheduled one-offs whose time has come; one drifted stays, and alarms (behaviour 4.9)."""
    for message in Message.objects.filter(state=State.SCHEDULED, scheduled_for__lte=at, launching_at=None):
        try:
            launch_job.ask_for(message, at=at)
            launch_job.launch(message.pk, at=at)
        except NotReady as reason:
            Message.objects.filter(pk=message.pk).update(trouble=" ".join(reason.messages))
        except WrongState:
            continue  # Somebody else was first.
        except Exception:
            log.exception("message %s cannot be launched", message.pk)


STEPS: tuple[Callable[[datetime], object], ...] = (
    lambda at: settle.recover_from_journals(at=at),
    lambda at: settle.expire_leases(at=at),
    lambda at: launch_job.launch_asked_for(at=at),
    lambda at: launch_scheduled(at=at),
    withdraw_rest_of_stopped,
    lambda at: match_unmatched(at=at),
    lambda _at: lifecycle.finish_one_offs(),
    lambda _at: counters.fold_changes(),
)
