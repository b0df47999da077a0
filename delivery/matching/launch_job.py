"""Large launches: requested in the console, carried out by a worker, done completely or not at all.

Counting and inserting a million customers takes longer than a request may. The message keeps its state, marked as
launching, until the worker's one transaction is committed. If the worker dies the mark stays, and the minute sweep
starts again. Until the commit the launch can be cancelled: the worker checks between two slices.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.utils import InterfaceError, OperationalError

from audiences.locks import Lock
from audiences.models import Workspace
from audiences.rules import RuleError
from delivery import locks
from delivery.matching import forecast
from delivery.matching import launch as matching_launch
from delivery.models import LaunchProgress
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import NOT_YET_LIVE, Message, NotReady, State, WrongState

log = logging.getLogger(__name__)

# Above so many customers a worker launches; below, the request does.
LAUNCH_IN_REQUEST_LIMIT = 10_000
LAUNCHABLE_STATES = (*NOT_YET_LIVE, State.SAMPLED)
STORE_PROGRESS = (
    "INSERT INTO delivery_launchprogress (message_id, made, total) VALUES (%s, %s, %s)"
    " ON CONFLICT (message_id) DO UPDATE SET made = excluded.made, total = excluded.total"
)


class LaunchCancelled(Exception):
    """The launch in progress is being cancelled."""


def request_launch(
    message: Message,
    *,
    at: datetime,
    among: Collection[State] = LAUNCHABLE_STATES,
    sample: int | None = None,
    reviewed: int | None = None,
) -> None:
    """Have a worker set a message live, or send a sampled one to the rest. NotReady if it is incomplete.

    WrongState unless it is in one of the states `among`. The worker counts, and stops if the number of customers has
    drifted from `reviewed`.
    """
    if problems := authoring.launch_problems_by_field(message, at=at):
        raise NotReady(problems)
    launchable = Message.objects.filter(pk=message.pk, state__in=among, launching_at=None)
    changed: dict[str, object] = {"launching_at": at, "launching_sample": sample}
    # A scheduled message keeps the count of its review, and its problem until it is solved.
    if reviewed is not None:
        changed["reviewed_count"] = reviewed
    if message.state != State.SCHEDULED:
        changed["problem"] = ""
    if not launchable.update(**changed):
        raise WrongState(f"“{message}” is already being launched, or is live.")
    # A worker that was killed leaves its progress behind.
    LaunchProgress.objects.filter(message=message).delete()
    message.launching_at, message.launching_sample = at, sample


def cancel_launch(message: Message, *, at: datetime) -> None:
    """Cancel a launch, even one in progress; WrongState if it is done already.

    No worker starts it again before the caller's transaction ends. An overdue scheduled message becomes a draft.
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
        raise WrongState(f"“{message}” could not be cancelled right now. Try again in a moment.") from wrong
    found = Message.objects.filter(pk=message.pk, launching_at__isnull=False)
    if not found.update(launching_at=None, launching_sample=None):
        raise WrongState(f"“{message}” can no longer be cancelled. Stop it once it is live.")
    LaunchProgress.objects.filter(message=message).delete()
    message.launching_at = None
    if message.state == State.SCHEDULED and message.scheduled_for and message.scheduled_for <= at:
        message_lifecycle.unschedule(message)


def launch_progress(message: Message) -> LaunchProgress | None:
    """Return the progress of a launch; None if no worker has begun it."""
    return LaunchProgress.objects.filter(message=message).first()


@contextmanager
def progress_reporter(message: Message) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call between slices: it stops a cancelled launch and stores the progress.

    The progress goes over a second connection, as others see nothing of the launch before its commit. If the server
    refuses it, the launch goes on without progress.
    """
    second = connection.copy()
    is_stored = True

    def report(made: int, found: int) -> None:
        nonlocal is_stored
        with connection.cursor() as cursor:
            key = [Lock.CALLING_OFF, message.pk % 2**31]
            # Released at once: it only shows whether a cancellation holds the lock.
            cursor.execute(
                "SELECT CASE WHEN pg_try_advisory_lock_shared(%s, %s) THEN pg_advisory_unlock_shared(%s, %s) END",
                key * 2,
            )
            if not cursor.fetchone()[0]:
                raise LaunchCancelled
        if not is_stored:
            return
        try:
            with second.cursor() as cursor:
                cursor.execute(STORE_PROGRESS, [message.pk, made, found])
        except (OperationalError, InterfaceError):
            is_stored = False
            log.warning("the launch of message %s goes on without progress", message.pk, exc_info=True)

    try:
        yield report
    finally:
        try:
            if second.connection is not None:
                with second.cursor() as cursor:
                    cursor.execute("DELETE FROM delivery_launchprogress WHERE message_id = %s", [message.pk])
        except (OperationalError, InterfaceError):
            log.warning("the progress of message %s cannot be deleted", message.pk, exc_info=True)
        finally:
            second.close()


def has_drifted(now: int, *, since: int) -> bool:
    """Return whether the number of matching customers changed by more than the workspace's limit."""
    return abs(now - since) * 100 > Workspace.current().drift_percent * since


def drift_sentence(now: int, *, since: int) -> str:
    return f"{since:,} people matched at the review, {now:,} match now. Review it and try again."


def check_drift(message: Message, *, at: datetime) -> None:
    """Raise NotReady if the audience has drifted since the review."""
    if message.reviewed_count is None:
        return
    now = forecast.forecast(message, at=at).people
    if has_drifted(now, since=message.reviewed_count):
        raise NotReady(drift_sentence(now, since=message.reviewed_count))


def launch(message_id: int, *, at: datetime) -> bool:
    """Carry out a requested launch. Return False if another worker does, or none is requested.

    If the message cannot go live, its state stays and its `problem` says why.
    """
    message = Message.objects.filter(pk=message_id, launching_at__isnull=False).first()
    if message is None:
        return False
    with locks.message_lock(message, Lock.LAUNCH, lock="advisory_lock") as mine:
        if not mine or not (there := Message.objects.filter(pk=message_id, launching_at__isnull=False).first()):
            return False
        try:
            with progress_reporter(there) as report, transaction.atomic():
                if there.launching_sample is None:
                    check_drift(there, at=at)
                if there.state == State.SAMPLED:
                    matching_launch.send_to_rest(there, at=at, progress=report)
                else:
                    matching_launch.launch(there, at=at, sample=there.launching_sample, progress=report)
                Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None)
        except LaunchCancelled:
            log.info("the launch of message %s was cancelled", message_id)
        except WrongState as late:
            # A teammate set it live meanwhile, which is not an error.
            log.info("message %s is not launched: %s", message_id, late)
            Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None)
        except (NotReady, RuleError) as no:
            words = " ".join(getattr(no, "messages", [str(no)]))
            Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None, problem=words)
    return True


def requested_launches() -> QuerySet[Message]:
    """Return the messages whose launch is requested and not carried out."""
    return Message.objects.filter(launching_at__isnull=False)
