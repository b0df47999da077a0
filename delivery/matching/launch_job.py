"""Large launches: asked for by a click, carried out by a worker, done whole or not at all.

Counting and freezing a million people takes longer than a request may. The message stays what it was, marked as going
live, until the worker's one transaction is committed; a worker that dies leaves the mark, and the minute sweep begins
again. Until then it can be called off: the worker looks between two slices whether somebody does.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import psycopg
from django.db import connection, transaction
from django.db.utils import OperationalError

from audiences.locks import Lock
from audiences.models import Workspace
from audiences.rules import RuleError
from delivery import locks
from delivery.matching import forecast
from delivery.matching import launch as matching_launch
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, NotReady, State, WrongState

log = logging.getLogger(__name__)

# From so many people on a worker freezes them; below, the request does.
LAUNCH_IN_REQUEST_LIMIT = 10_000
LAUNCHABLE_STATES = (State.DRAFT, State.SCHEDULED, State.SAMPLED)
# What a worker calls its session while it writes down: others can read that, and nothing else before the commit.
NAME = "launching {message}: {made} of {all}"


class LaunchCancelled(Exception):
    """Somebody calls off the launch in hand."""


@dataclass(frozen=True, slots=True)
class LaunchProgress:
    """How many a launch has written down, of how many."""

    made: int
    of: int


def request_launch(message: Message, *, at: datetime, sample: int | None = None, reviewed: int | None = None) -> None:
    """Have a worker set it live, or send it to the rest; NotReady and WrongState where it cannot go.

    The worker counts, and goes no further where those who match are no longer about the `reviewed`.
    """
    if problems := authoring.problems(message):
        raise NotReady(problems)
    among = Message.objects.filter(pk=message.pk, state__in=LAUNCHABLE_STATES, launching_at=None)
    changed: dict[str, object] = {"launching_at": at, "launching_sample": sample}
    # A scheduled one keeps what was seen when it was scheduled, and its trouble until it is over.
    if reviewed is not None:
        changed["reviewed_count"] = reviewed
    if message.state != State.SCHEDULED:
        changed["trouble"] = ""
    if not among.update(**changed):
        raise WrongState(f"“{message}” is on its way already.")
    message.launching_at, message.launching_sample = at, sample


def cancel_launch(message: Message, *, at: datetime) -> None:
    """Take it back, even from a worker that has begun; WrongState where it went already.

    Nobody begins it again before the caller's transaction ends. One whose time has come is a draft again.
    """
    key = message.pk % 2**31
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{locks.LOCK_TIMEOUT}s"])
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [Lock.CALLING_OFF, key])
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [Lock.LAUNCH, key])
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    except OperationalError as wrong:
        if not isinstance(wrong.__cause__, psycopg.errors.LockNotAvailable):
            raise
        raise WrongState(f"“{message}” could not be called off at once. Try again in a moment.") from wrong
    found = Message.objects.filter(pk=message.pk, launching_at__isnull=False)
    if not found.update(launching_at=None, launching_sample=None):
        raise WrongState(f"“{message}” can no longer be called off. Stop it once it is live.")
    message.launching_at = None
    if message.state == State.SCHEDULED and message.scheduled_for and message.scheduled_for <= at:
        message_lifecycle.unschedule(message)


def launch_progress(message: Message) -> LaunchProgress | None:
    """How many the worker has written down by now; None where it does not say, as before it begins to."""
    like, _, _ = NAME.partition("{made}")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT substring(application_name FROM '(\\d+) of'), substring(application_name FROM 'of (\\d+)')"
            " FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, %s) LIMIT 1",
            [like.format(message=message.pk)],
        )
        row = cursor.fetchone()
    return LaunchProgress(int(row[0]), int(row[1])) if row else None


def progress_reporter(message: Message) -> Callable[[int, int], None]:
    """Between two slices: give up a launch that somebody calls off, and say how far it is."""

    def go_on(made: int, found: int) -> None:
        with connection.cursor() as cursor:
            key = [Lock.CALLING_OFF, message.pk % 2**31]
            # Taken for no longer than it takes to see that it can be.
            cursor.execute(
                "SELECT CASE WHEN pg_try_advisory_lock_shared(%s, %s) THEN pg_advisory_unlock_shared(%s, %s) END",
                key * 2,
            )
            if not cursor.fetchone()[0]:
                raise LaunchCancelled
            name = NAME.format(message=message.pk, made=made, all=found)
            cursor.execute("SELECT set_config('application_name', %s, true)", [name])

    return go_on


def has_drifted(now: int, *, since: int) -> bool:
    """Whether so many who match are no longer about as many as there were, as the workspace has it."""
    return abs(now - since) * 100 > Workspace.current().drift_percent * since


def check_drift(message: Message, *, at: datetime) -> None:
    """NotReady with both numbers, where the audience changed since the review by more than the workspace allows."""
    if message.reviewed_count is None:
        return
    now = forecast.forecast(message, at=at).people
    if has_drifted(now, since=message.reviewed_count):
        raise NotReady(
            f"{message.reviewed_count:,} people matched at the review, {now:,} match now. Review it and try again."
        )


def launch(message_id: int, *, at: datetime) -> bool:
    """Do what was asked for; False where another worker has it in hand, or nothing is left to do.

    Where it cannot go after all, it stays what it was, and its trouble says why.
    """
    message = Message.objects.filter(pk=message_id, launching_at__isnull=False).first()
    if message is None:
        return False
    with locks.message_lock(message, Lock.LAUNCH, lock="advisory_lock") as mine:
        if not mine or not (there := Message.objects.filter(pk=message_id, launching_at__isnull=False).first()):
            return False
        try:
            with transaction.atomic():
                go_on = progress_reporter(there)
                if there.launching_sample is None:
                    check_drift(there, at=at)
                if there.state == State.SAMPLED:
                    matching_launch.send_to_rest(there, at=at, progress=go_on)
                else:
                    matching_launch.launch(there, at=at, sample=there.launching_sample, progress=go_on)
                Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None)
        except LaunchCancelled:
            log.info("message %s was called off", message_id)
        except WrongState as late:
            # Somebody set it live meanwhile, which is no trouble of the message's.
            log.info("message %s is not launched: %s", message_id, late)
            Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None)
        except (NotReady, RuleError) as no:
            words = " ".join(getattr(no, "messages", [str(no)]))
            Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None, trouble=words)
    return True


def run_requested_launches(*, at: datetime) -> None:
    """Carry out every launch that was asked for and is in nobody's hands; one that goes wrong holds up no other."""
    for pk in Message.objects.filter(launching_at__isnull=False).values_list("pk", flat=True):
        try:
            launch(pk, at=at)
        except Exception:
            log.exception("message %s cannot be launched", pk)
