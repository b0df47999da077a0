"""Dispatcher: the loop that drains the outbox. A nudge starts it early; the minute sweep makes sure that it runs."""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from django.db import connection

from audiences.rules import RuleError
from delivery import shutdown
from delivery.matching import recheck
from delivery.matching.sql import Progress, no_progress
from delivery.models import ChannelOutage, Pace
from delivery.sending import batch as sending_batch
from delivery.sending import outcome, settle, throttle
from messaging.models import Message, SendType

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
# In seconds, if other workers hold every due record.
CONTENTION_PAUSE = 0.05
# In seconds, if the database is lost.
DATABASE_RETRY_PAUSE = 0.5
# How long one message goes on before limits, outages and other due messages are read again.
TURN_LENGTH = timedelta(seconds=2)


def dispatch(*, clock: Clock, until: datetime, progress: Progress = no_progress) -> int:
    """Send due records, a batch of each message in turn, until none is left or `until` has passed.

    Because messages take turns, a small one never waits behind a large one, and one that fails does not hold up the
    others. On SIGTERM the copy being sent is finished and the rest is put back.
    """
    total = 0
    resting: set[str | int] = set()
    with shutdown.graceful_shutdown():
        # First, as a sweep may wait behind this task: records that dead workers had not begun are sent too.
        settle_abandoned_batches(at=clock())
        while clock() < until and not shutdown.is_requested():
            try:
                resting |= ChannelOutage.unavailable_channels(at=clock())
                due = [m for m in sending_batch.messages_due(at=clock()) if not {m.channel, m.pk} & resting]
                limits = throttle.load_limits()
            except outcome.DATABASE_LOST:
                if connection.in_atomic_block:
                    raise
                log.warning("the database connection is lost; trying again", exc_info=True)
                connection.close()
                time.sleep(DATABASE_RETRY_PAUSE)
                continue
            if not due:
                break
            before = total
            for message in due:
                try:
                    total += send_turn(
                        message, clock=clock, until=until, alone=len(due) == 1, resting=resting, limits=limits
                    )
                except Exception:
                    log.exception("message %s cannot be sent", message.pk)
                    if not connection.in_atomic_block and not connection.is_usable():
                        break
                    resting.add(message.pk)
                progress(total)
                if clock() >= until or shutdown.is_requested():
                    break
            if total == before:
                time.sleep(CONTENTION_PAUSE)
    return total


def settle_abandoned_batches(*, at: datetime) -> None:
    """Settle the batches of dead workers. If that fails, log it and go on; the next run tries again."""
    try:
        settle.recover_from_journals(at=at)
    except Exception:
        log.exception("the batches of dead workers cannot be settled")


def send_turn(
    message: Message,
    *,
    clock: Clock,
    until: datetime,
    alone: bool,
    resting: set[str | int],
    limits: Mapping[str, Pace],
) -> int:
    """Send a few batches of one message before the next message has its turn; more if it is alone.

    Adds to `resting` what is to be skipped from now on: the message, or its channel if that is unavailable.
    """
    total, turns = 0, 0
    if message.send_type == SendType.ONGOING and not recheck_message(message, at=clock()):
        resting.add(message.pk)
        return 0
    until = min(until, clock() + TURN_LENGTH)
    while clock() < until and not shutdown.is_requested() and (turns < 10 or (alone and turns < 100)):
        batch = sending_batch.send_batch(message, clock=clock, pace=limits.get(message.channel))
        if batch is None:
            resting.add(message.channel)
            break
        if batch.rests:
            resting.add(message.pk)
            break
        if not batch:
            break
        total += len(batch.records)
        turns += 1
    return total


def recheck_message(message: Message, *, at: datetime) -> bool:
    """Recheck records held by the window, the cap or a pause. Return False if the rules are no longer valid."""
    try:
        recheck.recheck_held(message, at=at)
        recheck.recheck_due(message, at=at)
    except RuleError as wrong:
        Message.objects.filter(pk=message.pk).update(problem=str(wrong))
        return False
    return True
