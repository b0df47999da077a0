"""A batch in progress: records claimed together, which the threads of a pool send one by one (behaviour 5).

The dispatcher opens a batch, hands its copies out, and settles the results.
"""

import logging
import time
import uuid
from collections import deque
from collections.abc import Container
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import connection
from django.db.models import Q

from audiences.intake.attributes.fields import replace_unstorable
from delivery import locks, rendering, shutdown
from delivery.channels import Channel, ChannelDown, Envelope, SenderRefused
from delivery.channels.base import Answer, Answers
from delivery.models import DeviceCopy, Reason
from delivery.reporting import counters
from delivery.sending import journal as sending_journal
from delivery.sending import outcome as sending_outcome
from delivery.sending import push_fanout, settle
from delivery.sending.claim import Batch, Claimed, claim
from delivery.sending.journal import Journal, NoJournal
from delivery.sending.outcome import Outcome
from delivery.sending.outgoing_copy import Gate, OutgoingCopy, Withheld, record_answer
from delivery.sending.pool import ConnectionEnds, Job
from delivery.sending.throttle import Slots
from delivery.telemetry import tracing
from messaging import content
from messaging.models import Channel as Name
from messaging.models import Message

if TYPE_CHECKING:
    from delivery.sending.lane import Lane

log = logging.getLogger(__name__)

# How often copies that wait for a thread are checked: whether their message is being paused, and whether their
# customers can still be reached.
PAUSE_CHECK_INTERVAL = timedelta(milliseconds=100)
# In seconds. A copy does not begin if its last check is older, as the dispatcher may wait for the database.
CHECK_VALID_FOR = 0.5


def messages_due(*, at: datetime) -> list[Message]:
    """Return the live messages with records due at `at`, direct messages first (PostgreSQL sorts nulls last)."""
    live = Message.objects.live().exclude(channel=Name.IN_APP)
    # A lookup for each message: a join would read the waiting records of all if the statistics are older than a launch.
    first = counters.next_due(live.values_list("pk", flat=True))
    rows = live.filter(pk__in=[pk for pk, due_at in first.items() if due_at <= at])
    return list(rows.select_related("version", "sender", "audience").order_by("to_customer", "pk"))


@dataclass(slots=True, eq=False)
class OpenMessage:
    """A message with batches in progress. It holds the lock for which a pause waits."""

    message: Message
    ends: ExitStack
    # The database session that holds the lock; once it is lost, a pause no longer waits for the batches.
    session: object
    gate: Gate = field(default_factory=Gate)

    def may_continue(self) -> bool:
        """Return whether copies may begin: the message is live and not being paused, and we still hold its lock."""
        return locks.batch_may_continue(self.message) and connection.connection is self.session


@dataclass(slots=True, eq=False)
class OpenBatch:
    """A claimed batch: copies not handed out, copies in the pool, and results that are not settled."""

    batch: Batch
    of: OpenMessage
    lane: "Lane"
    clock: sending_outcome.Clock
    journal: Journal | NoJournal
    places: Slots
    # When it was last checked that its copies may go, by the clock and by `time.monotonic`.
    checked_at: datetime
    checked: float
    span: tracing.Span
    outcome: Outcome = field(default_factory=Outcome)
    # Not handed out: just opened, or withheld.
    rest: deque[OutgoingCopy] = field(default_factory=deque)
    in_pool: int = 0
    # How many copies the channel was given, whatever its answers.
    handed_over: int = 0
    size: int = 0
    has_sent: bool = False
    # Whether results could not be settled. The journal tells them to the next sweep.
    is_abandoned: bool = False
    gate: Gate = field(default_factory=Gate)
    device_answers: list[Answers] = field(default_factory=list)
    # When the oldest result came that is not settled, by `time.monotonic`.
    unsettled_since: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every copy has a result."""
        return not (self.rest or self.in_pool)

    @property
    def is_closed(self) -> bool:
        """Whether no further copy may begin."""
        return self.gate.is_closed or self.of.gate.is_closed or self.lane.gate.is_closed

    @property
    def results(self) -> int:
        """How many records have a result that is not settled."""
        found = self.outcome
        return sum(map(len, (found.sent, found.failed, found.retry, found.not_begun, found.uncertain)))

    @property
    def unsettled(self) -> int:
        """How many records are claimed and not settled."""
        return len(self.rest) + self.in_pool + self.results

    @property
    def message_trouble(self) -> str:
        """Why no copy of this message can be sent; "" if some can."""
        return Outcome(sender_refused=self.of.gate.why, unfinished=self.outcome.unfinished).message_trouble

    def may_begin(self) -> bool:
        """Return whether a copy may begin now. Sending threads ask this before the first byte."""
        if self.is_closed or shutdown.is_requested() or self.clock() >= self.batch.until:
            return False
        return time.monotonic() - self.checked < CHECK_VALID_FOR

    def note_check(self, *, at: datetime, now: float) -> None:
        """Record that the message and the customers were checked, after this moment."""
        self.checked_at, self.checked = at, now

    def needs_check(self, *, at: datetime, now: float) -> bool:
        """Return whether copies may wait for a thread or a slot, and were last checked a while ago."""
        if not (self.rest or (self.in_pool and self.lane.pool.queue)):
            return False
        age = max(at - self.checked_at, timedelta(seconds=now - self.checked))
        return age >= PAUSE_CHECK_INTERVAL

    def next_jobs(self) -> list[Job[Channel]]:
        """Return the copies that are not handed out as jobs for the pool, each due at its slot."""
        jobs = [Job(copy.send, subject=copy, due=self.places.due(copy.place)) for copy in self.rest]
        self.rest.clear()
        self.in_pool += len(jobs)
        return jobs

    def put_back(self, jobs: list[Job[Channel]]) -> None:
        """Take back copies that were not begun."""
        self.rest.extendleft(reversed([job.subject for job in jobs]))
        self.in_pool -= len(jobs)

    def give_up(self, only: Container[int] | None = None) -> None:
        """Count the copies in `rest`, or some of them, as not begun."""
        chosen = [copy for copy in self.rest if only is None or copy.record.pk in only]
        if not chosen:
            return
        self.rest = deque(copy for copy in self.rest if copy not in chosen)
        self.outcome.not_begun += [copy.record.pk for copy in chosen]
        self.note_result()

    def abandon(self) -> None:
        """Let no further copy begin, and leave the unsettled results to the next sweep, which reads the journal."""
        self.is_abandoned, self.outcome, self.unsettled_since = True, Outcome(), None
        self.gate.close()

    def close_journal(self) -> None:
        """Let go of the journal, for the next batch or for the sweep. Threads that still send write to it."""
        self.end_span()
        if self.in_pool:
            return
        if self.is_abandoned:
            self.journal.abandon()
        else:
            self.journal.release()

    def end_span(self) -> None:
        self.span.set(copies=self.size, handed_over=self.handed_over)
        if self.is_abandoned:
            self.span.fail("abandoned")
        self.span.end()

    def record_job(self, job: Job[Channel]) -> None:
        """Record the result of a job. Raise an error that must end the process."""
        if isinstance(job.error, Withheld | ConnectionEnds):
            self.put_back([job])
            return
        self.in_pool -= 1
        copy: OutgoingCopy = job.subject
        if copy.result is not None:
            self.outcome.given += copy.result.given
            self.outcome.dead += copy.result.dead
        answer: Answer = job.error if job.error is not None else job.answer
        self.handed_over += not isinstance(answer, ChannelDown | SenderRefused)
        self.has_sent = self.has_sent or isinstance(answer, str)
        self.note_result()
        record_answer(copy.record, answer, self.outcome, clock=self.clock)

    def note_result(self) -> None:
        self.unsettled_since = self.unsettled_since or time.monotonic()

    def take_results(self) -> Outcome:
        """Return the results so far, to be settled."""
        found, self.outcome, self.unsettled_since = self.outcome, Outcome(unfinished=self.outcome.unfinished), None
        found.down, found.sender_refused = self.lane.gate.why, self.of.gate.why
        return found


# Opening


def open_message(message: Message) -> OpenMessage | None:
    """Take the lock of batches of a message; None if the message is being paused."""
    with ExitStack() as ends:
        if not ends.enter_context(locks.batch_lock(message)):
            return None
        return OpenMessage(message, ends.pop_all(), connection.connection)


def open_batch(
    message: Message, of: OpenMessage, *, lane: "Lane", clock: sending_outcome.Clock, places: Slots
) -> OpenBatch | Batch:
    """Claim and render a batch of at most as many records as there are slots. Return the bare claim if it took none."""
    token, at, now = uuid.uuid4(), clock(), time.monotonic()
    span = tracing.start_span("batch", message=message.pk, channel=message.channel)
    journal = sending_journal.start_journal(token)
    try:
        batch = claim(message, at=at, token=token, most=places.count)
        if not batch.records:
            # The span is not ended, so that it is not exported.
            journal.release()
            return batch
        span.set(records=len(batch.records))
        opened = OpenBatch(batch, of, lane, clock, journal, places, checked_at=at, checked=now, span=span)
        try:
            if batch.copy is not None:
                rendering.store_links(batch.copy)
            envelopes = build_envelopes(batch, opened.outcome, clock=clock)
        except Exception:
            # Nothing has left yet, so no record may become uncertain.
            fault = Outcome(not_begun=[record.pk for record in batch.records], down="A copy could not be rendered.")
            settle.settle_with_retry([(batch, fault)], clock=clock)
            raise
        earlier: dict[int, list[DeviceCopy]] = {}
        if message.channel == Name.PUSH:
            earlier = push_fanout.earlier_device_copies(record.pk for record, _ in envelopes)
        opened.rest.extend(
            OutgoingCopy(opened, place, record, envelope, earlier.get(record.pk, []))
            for place, (record, envelope) in enumerate(envelopes)
        )
        opened.size = len(envelopes)
    except BaseException as error:
        journal.abandon()
        span.fail(type(error).__name__)
        span.end()
        raise
    if not opened.outcome.is_empty:
        opened.note_result()
    return opened


def build_envelopes(batch: Batch, outcome: Outcome, *, clock: sending_outcome.Clock) -> list[tuple[Claimed, Envelope]]:
    """Render the copies of a batch. A copy that cannot be rendered fails with the reason; the others go on.

    If several fail, and all by an error of ours, no record is to blame and none loses an attempt.
    """
    sender = batch.message.sender
    done: list[tuple[Claimed, Envelope]] = []
    broken: list[tuple[Claimed, str]] = []
    assert batch.copy is not None and sender is not None  # noqa: S101, PT018 - required to go live
    for record in batch.records:
        try:
            rendered = batch.copy.render(record.variables, record_id=record.pk)
            envelope = rendering.envelope(batch.message, sender, rendered, record_id=record.pk, to=record.to)
        except content.ContentError as reason:
            outcome.failed.append((record.pk, Reason.CONTENT, replace_unstorable(str(reason))))
        except Exception as wrong:
            # An error of ours, so not a reason to fail this record for good.
            log.exception("record %s cannot be rendered", record.pk, extra={"record": record.pk})
            broken.append((record, type(wrong).__name__))
        else:
            done.append((record, envelope))
    if len(broken) == len(batch.records) > 1:
        outcome.not_begun += [record.pk for record, _ in broken]
        outcome.unfinished = broken[0][1]
    else:
        for record, fault in broken:
            outcome.try_later(record, at=clock(), words=f"This copy could not be rendered: {fault}.")
    return done


def record_trouble(opened: OpenBatch, trouble: str) -> None:
    """Write on the message why no copy of it can be sent, and clear that once one was sent."""
    message = opened.batch.message
    if trouble:
        log.warning("message %s is paused: %s", message.pk, trouble)
        Message.objects.filter(pk=message.pk).exclude(problem=trouble).update(problem=trouble)
    elif opened.has_sent and message.problem.startswith(sending_outcome.OF_ALL_COPIES):
        message.problem = ""
        ours = Q(problem__startswith=sending_outcome.SENDER_IS_REFUSED) | Q(
            problem__startswith=sending_outcome.NONE_IS_FINISHED
        )
        Message.objects.filter(ours, pk=message.pk).update(problem="")
