"""Dispatcher: the loop that drains the outbox. A nudge starts it early; the minute sweep makes sure that it runs.

One dispatcher per process claims, checks, hands out and settles; the threads of its pools send (`pool`). It claims
ahead, so that no thread waits for the database: at most as many records as it has connections, plus one batch. Before
it hands copies out, and every few moments until they begin, it checks that their message is not being paused and that
their customers can still be reached.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime

from django.db import connection

from delivery import shutdown
from delivery.matching import recheck
from delivery.matching.sql import Progress, no_progress
from delivery.models import ChannelOutage, Pace
from delivery.sending import batch as sending_batch
from delivery.sending import connections, settle, throttle
from delivery.sending import outcome as sending_outcome
from delivery.sending.batch import OpenBatch, OpenMessage
from delivery.sending.claim import Batch
from delivery.sending.lane import Lane, open_lane
from delivery.sending.outcome import Clock
from delivery.sending.throttle import Slots
from messaging.models import Channel as Name
from messaging.models import Message, SendType

log = logging.getLogger(__name__)

# In seconds, if other workers hold every due record.
CONTENTION_PAUSE = 0.05
# In seconds, if the database is lost.
DATABASE_RETRY_PAUSE = 0.5
# In seconds. How often due messages, limits and outages are read again: how long a direct message waits at most before
# it goes ahead of a large one.
REFRESH_INTERVAL = 0.25
# In seconds. How often the records of a message that its window, the cap or a pause held are rechecked.
RECHECK_INTERVAL = 2.0
# In seconds. How often another dispatcher is asked for during a backlog.
ASK_INTERVAL = 0.5
# In seconds. How long before the slots of a batch are used up the next ones are reserved.
SLOTS_AHEAD = 0.1
# In seconds. The longest wait for answers, and for how long they are collected before they are settled.
WAIT_INTERVAL, SETTLE_INTERVAL = 0.05, 0.1


def dispatch(
    *,
    clock: Clock,
    until: datetime,
    progress: Progress = no_progress,
    ask_for_another: Callable[[], object] | None = None,
) -> int:
    """Send due records, a batch of each message in turn, until none is left or `until` has passed.

    Because messages take turns, a small one never waits behind a large one, and one that fails does not hold up the
    others. On SIGTERM the copies being sent are finished and the rest is put back. `ask_for_another` is called while
    more records are due than this process has connections for, and no other dispatcher has been asked for. Return how
    many records were claimed.
    """
    with shutdown.graceful_shutdown():
        # First, as a sweep may wait behind this task: records that dead workers had not begun are sent too.
        settle.settle_abandoned_batches(at=clock())
        dispatcher = Dispatcher(clock=clock, progress=progress, ask_for_another=ask_for_another)
        try:
            dispatcher.run(until=until)
        except Exception:
            dispatcher.finish()
            raise
        finally:
            dispatcher.close()
    return dispatcher.total


class Dispatcher:
    """Sends due records over all channels until it is told to stop."""

    def __init__(
        self,
        *,
        clock: Clock,
        progress: Progress = no_progress,
        ask_for_another: Callable[[], object] | None = None,
    ) -> None:
        self.clock, self.progress, self.ask_for_another = clock, progress, ask_for_another
        # When another dispatcher may be asked for, by `time.monotonic`: not for a handful of records.
        self.ask_from = time.monotonic() + ASK_INTERVAL
        self.total = 0
        # What is skipped from now on: messages that cannot be sent, and channels that take nothing.
        self.resting: set[str | int] = set()
        # The messages whose claim lost the database once.
        self.lost_by: set[int] = set()
        self.due: list[Message] = []
        self.limits: dict[str, Pace] = {}
        self.lanes: dict[str, Lane] = {}
        self.messages: dict[int, OpenMessage] = {}
        # When the held records of a message were rechecked, and due messages were read, by `time.monotonic`.
        self.rechecked: dict[int, float] = {}
        self.refreshed_at = -math.inf

    @property
    def batches(self) -> list[OpenBatch]:
        """The open batches of all channels."""
        return [opened for lane in self.lanes.values() for opened in lane.batches]

    def run(self, *, until: datetime) -> None:
        """Claim, hand out and settle until no record is due or `until` has passed; then finish the open batches."""
        while True:
            try:
                if shutdown.is_requested():
                    self.put_back_unbegun()
                elif self.clock() < until:
                    self.claim_due()
                if not self.batches and (shutdown.is_requested() or self.clock() >= until or not self.due):
                    return
                self.step()
            except sending_outcome.DATABASE_LOST:
                if connection.in_atomic_block:
                    raise
                log.warning("the database connection is lost; trying again", exc_info=True)
                self.recover()

    def step(self) -> None:
        """Check and hand out copies, wait for answers, and settle them."""
        self.renew_shares()
        for lane in self.lanes.values():
            lane.check_batches(at=self.clock(), now=time.monotonic())
        self.hand_out()
        self.collect_answers()
        self.settle_answers()

    def renew_shares(self) -> None:
        """Renew the shares of connections. A channel with more dispatchers than connections is left to the others."""
        for lane in self.lanes.values():
            if not lane.renew_share():
                if lane.name not in self.resting:
                    log.info("channel %s has a dispatcher for each connection already", lane.name)
                self.resting.add(lane.name)
                # The others claim its records.
                for opened in lane.batches:
                    opened.gate.close()

    def recover(self) -> None:
        """Let no copy begin, and go on with a new connection. The locks of the lost one are gone."""
        for of in self.messages.values():
            of.gate.close()
        self.put_back_unbegun()
        self.collect_answers()
        at = self.clock()
        self.abandon_batches([opened for opened in self.batches if at >= opened.batch.until])
        for lane in self.lanes.values():
            for opened in [opened for opened in lane.batches if opened.is_abandoned and opened.is_complete]:
                lane.batches.remove(opened)
                opened.close_journal()
        if not connection.is_usable():
            connection.close()
        time.sleep(DATABASE_RETRY_PAUSE)

    def finish(self) -> None:
        """Put back the copies not begun, wait for the others, and settle all."""
        while self.batches:
            self.put_back_unbegun()
            self.collect_answers()
            self.settle_answers()

    def close(self) -> None:
        """Settle the known results and close the connections. The journals tell about copies still being sent."""
        with ExitStack() as ends:
            for of in self.messages.values():
                ends.callback(of.ends.close)
            for lane in self.lanes.values():
                ends.callback(lane.close)
            with suppress(*sending_outcome.DATABASE_LOST):
                self.put_back_unbegun()
                self.settle_answers(is_last=True)

    # Claiming

    def claim_due(self) -> None:
        """Claim a batch of each due message in turn while there is room."""
        is_fresh = time.monotonic() - self.refreshed_at >= REFRESH_INTERVAL or not (self.due or self.batches)
        if is_fresh:
            self.refresh()
        before = self.due
        waiting: list[Message] = []
        served: list[Message] = []
        has_claimed = False
        for message in self.due:
            if {message.channel, message.pk} & self.resting:
                continue
            if not self.lane_of(message).has_room_for(message):
                waiting.append(message)
            elif self.claim_safely(message):
                has_claimed = True
                served.append(message)
            else:
                # Nothing of it can be claimed right now. The next refresh shows whether records are due.
                self.rechecked.pop(message.pk, None)
        self.due = waiting + served
        self.ask_for_help(waiting)
        if not self.batches and not has_claimed:
            if is_fresh and before:
                # Other workers hold every due record, or the throttle gives no slot yet.
                time.sleep(CONTENTION_PAUSE)
            # Whether records are due is read again before this ends.
            self.due, self.refreshed_at = before, -math.inf

    def ask_for_help(self, waiting: list[Message]) -> None:
        """Ask for another dispatcher if records wait for connections, and not for the throttle."""
        now = time.monotonic()
        if self.ask_for_another is None or now < self.ask_from:
            return
        self.ask_from = now + ASK_INTERVAL
        for name in {Name(message.channel) for message in waiting}:
            if name not in self.limits and connections.may_ask_for_another(name):
                self.ask_for_another()

    def refresh(self) -> None:
        """Read again which messages are due, direct ones first, and which channels take nothing."""
        at = self.clock()
        self.refreshed_at = time.monotonic()
        self.resting |= ChannelOutage.unavailable_channels(at=at)
        self.limits = throttle.load_limits()
        turns = {message.pk: place for place, message in enumerate(self.due)}
        due = [m for m in sending_batch.messages_due(at=at) if not {m.channel, m.pk} & self.resting]
        self.due = sorted(due, key=lambda m: (m.to_customer_id is None, turns.get(m.pk, len(turns))))

    def claim_safely(self, message: Message) -> bool:
        """Claim a batch of a message. If that fails, log it and go on with the others, unless the database is lost."""
        connection.ensure_connection()
        session = connection.connection
        try:
            return self.claim(message)
        except Exception as wrong:
            # At the end of a transaction Django replaces a lost session by a new one.
            is_same = connection.in_atomic_block or (connection.is_usable() and connection.connection is session)
            if isinstance(wrong, sending_outcome.DATABASE_LOST) and not is_same:
                # At the second time it may be the message that ends the session: the others must not wait for it.
                (self.resting if message.pk in self.lost_by else self.lost_by).add(message.pk)
                raise
            log.exception("message %s cannot be sent", message.pk)
            self.resting.add(message.pk)
        return False

    def claim(self, message: Message) -> bool:
        """Claim a batch of a message and open it. Return whether records were claimed, or passed over."""
        lane, name = self.lane_of(message), message.channel
        if not self.recheck_in_time(message):
            return False
        places = Slots(lane.room())
        if is_limited := name in self.limits:
            taken = throttle.acquire(name, wanted=places.count, at=self.clock())
            if taken is None:
                log.info("channel %s has reached its limit for today", name)
                self.resting.add(name)
                return False
            # Shortly before the last slot the next ones are reserved, as a claim takes a moment.
            lane.slots_from = taken.due(taken.count) - (SLOTS_AHEAD if taken.count else 0)
            if not taken.count:
                return False
            places = taken
        opened: OpenBatch | Batch | None = None
        try:
            if (of := self.open_message(message)) is not None:
                opened = sending_batch.open_batch(message, of, lane=lane, clock=self.clock, places=places)
        finally:
            if isinstance(opened, OpenBatch):
                lane.batches.append(opened)
            elif is_limited:
                throttle.release(name, places=places, unused=places.count)
            self.close_idle_messages()
        return bool(opened)

    def recheck_in_time(self, message: Message) -> bool:
        """Recheck a slice of an ongoing message's held records in time. Return False if its rules are not valid."""
        now = time.monotonic()
        if message.send_type != SendType.ONGOING or now - self.rechecked.get(message.pk, -math.inf) < RECHECK_INTERVAL:
            return True
        self.rechecked[message.pk] = now
        if recheck.recheck_slice(message, at=self.clock()):
            return True
        self.resting.add(message.pk)
        return False

    def open_message(self, message: Message) -> OpenMessage | None:
        """Return the message with its lock held; None if no batch of it may begin."""
        if (of := self.messages.get(message.pk)) is None:
            if (of := sending_batch.open_message(message)) is not None:
                self.messages[message.pk] = of
            return of
        # The lock that we hold would let us begin although a teammate is pausing the message.
        return of if not of.gate.is_closed and of.may_continue() else None

    def close_idle_messages(self) -> None:
        """Release the locks of messages that have no open batch."""
        in_use = {opened.of.message.pk for opened in self.batches}
        for pk in self.messages.keys() - in_use:
            self.messages.pop(pk).ends.close()

    def lane_of(self, message: Message) -> Lane:
        name = Name(message.channel)
        if name not in self.lanes:
            self.lanes[name] = open_lane(name)
            self.renew_shares()
        return self.lanes[name]

    # Handing out

    def hand_out(self) -> None:
        """Give the pools the copies that may go."""
        if shutdown.is_requested():
            return
        for lane in self.lanes.values():
            for opened in lane.batches:
                if not opened.is_closed and (jobs := opened.next_jobs()):
                    is_direct = opened.of.message.to_customer_id is not None
                    (lane.pool.hand_out_first if is_direct else lane.pool.hand_out)(jobs)

    def put_back_unbegun(self) -> None:
        """Settle all copies that were not begun as not begun."""
        for lane in self.lanes.values():
            for opened in lane.batches:
                lane.withdraw(opened)

    # Settling

    def collect_answers(self) -> None:
        """Wait a moment for answers and record them. Then raise an error that must end the process, if there is one."""
        lanes = [lane for lane in self.lanes.values() if any(not opened.is_complete for opened in lane.batches)]
        fatal: BaseException | None = None
        for lane in lanes:
            # With few copies in flight the next claim begins before the queue is empty.
            size = lane.batch_size
            many = size if lane.pool.in_flight > 2 * size else size // 2
            for job in lane.pool.wait_for_answers(timeout=WAIT_INTERVAL / len(lanes), at_least=max(1, many)):
                try:
                    job.subject.batch.record_job(job)
                except BaseException as error:  # noqa: BLE001 - raised below
                    fatal = error
        if fatal is not None:
            raise fatal

    def settle_answers(self, *, is_last: bool = False) -> None:
        """Settle the results of all batches together, once there are enough or a batch is complete."""
        batches = self.batches
        oldest = min((opened.unsettled_since for opened in batches if opened.unsettled_since), default=math.inf)
        is_due = (
            is_last
            or any(opened.is_complete for opened in batches)
            or any(sum(opened.results for opened in lane.batches) >= lane.batch_size for lane in self.lanes.values())
            or time.monotonic() - oldest >= SETTLE_INTERVAL
        )
        if not is_due:
            return
        if with_results := [opened for opened in batches if opened.results]:
            self.settle_results(with_results)
        for lane in self.lanes.values():
            for opened in [opened for opened in lane.batches if opened.is_complete and not opened.results]:
                self.close_batch(lane, opened)
            if lane.gate.is_closed and lane.name not in self.resting:
                log.warning("channel %s is unavailable: %s", lane.name, lane.gate.why)
                ChannelOutage.record_refusal(lane.name, why=lane.gate.why, at=self.clock())
                self.resting.add(lane.name)
        self.close_idle_messages()

    def settle_results(self, batches: list[OpenBatch]) -> None:
        """Settle the results of these batches. If that fails, the journals tell them, and the messages rest."""
        parts = [(opened.batch, opened.take_results()) for opened in batches]
        try:
            settle.settle_with_retry(parts, clock=self.clock, on_lost=self.put_back_unbegun)
        except BaseException as wrong:
            self.abandon_batches(batches)
            if not isinstance(wrong, Exception):
                raise
            log.exception("results cannot be settled; their journals tell them to the next sweep")

    def abandon_batches(self, batches: list[OpenBatch]) -> None:
        """Leave the unsettled results of these batches to the next sweep, and begin nothing more of their messages."""
        for opened in batches:
            opened.abandon()
            self.resting.add(opened.of.message.pk)

    def close_batch(self, lane: Lane, opened: OpenBatch) -> None:
        """Close a batch: give back unused slots, and record whether its message can be sent."""
        lane.batches.remove(opened)
        opened.close_journal()
        if opened.places.day is not None:
            throttle.release(lane.name, places=opened.places, unused=opened.places.count - opened.handed_over)
        if trouble := opened.message_trouble:
            self.resting.add(opened.of.message.pk)
        sending_batch.record_trouble(opened, trouble)
        if not trouble and not lane.gate.is_closed:
            self.total += len(opened.batch.records)
            self.progress(self.total)
