"""A lane: a channel in use by this process, with its connections and its open batches."""

import time
from collections import defaultdict
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from django.conf import settings

from delivery.channels import CHANNELS, Channel
from delivery.concurrency import Concurrency
from delivery.sending import connections
from delivery.sending.batch import OpenBatch
from delivery.sending.claim import unreachable_records
from delivery.sending.outcome import DATABASE_LOST
from delivery.sending.outgoing_copy import Gate, OutgoingCopy
from delivery.sending.pool import Pool
from messaging.models import Channel as Name
from messaging.models import Message

# In seconds: how often a share is renewed, and how often while others have to give back a part of it first.
RENEW_INTERVAL, HURRIED_RENEW_INTERVAL = 1.0, 0.1
# In seconds: a batch holds the copies that are sent in about this time; and the fewest that it holds.
BATCH_SECONDS, SMALLEST_BATCH = 0.25, 10


@dataclass(slots=True, eq=False)
class Lane:
    """A channel in use by this process: its connections, its batches, and whether it takes more."""

    name: Name
    pool: Pool[Channel]
    # Whether its copies go ahead of all campaigns.
    is_urgent: bool = False
    gate: Gate = field(default_factory=Gate)
    batches: list[OpenBatch] = field(default_factory=list)
    # By `time.monotonic`: when the throttle may give slots again, and when the share is renewed.
    slots_from: float = 0.0
    renewed_from: float = 0.0
    # As the others know: the connections of this dispatcher, and whether a server answers over one of them.
    in_use: int = 0
    is_answered: bool = False
    # Whether a server answers over a connection of another dispatcher, and whether this one has a part of the total.
    others_are_answered: bool = False
    has_fair_share: bool = True
    holder: UUID = field(default_factory=uuid4)

    @property
    def batch_size(self) -> int:
        """How many records are claimed at once, and settled: more while copies are sent fast."""
        return min(settings.IN_FLIGHT, max(SMALLEST_BATCH, int(self.pool.concurrency.rate * BATCH_SECONDS)))

    def room(self) -> int:
        """Return how many records may be claimed: one batch more than connections that help, less those open."""
        target, size = self.pool.concurrency.target, self.batch_size
        if not target:
            return 0
        return min(size, target + size - sum(opened.unsettled for opened in self.batches))

    def has_room_for(self, message: Message) -> bool:
        """Return whether a claim is worth while. A direct message waits for nothing but a place."""
        if time.monotonic() < self.slots_from or self.gate.is_closed:
            return False
        room = self.room()
        enough = 1 if message.to_customer_id or not self.pool.queue else max(1, self.batch_size // 2)
        return room >= enough

    def renew_share(self) -> bool:
        """Renew the share of connections in time. Return False if there are more dispatchers than connections."""
        now, in_use, is_answered = time.monotonic(), self.pool.threads, bool(self.pool.answered_threads)
        # After a refusal, others decide by these facts whether it is an outage, and how many connections remain.
        is_news = is_answered != self.is_answered or in_use >= 2 * max(1, self.in_use)
        if now < self.renewed_from and not (self.pool.is_refused or is_news):
            return self.has_fair_share
        refused, self.pool.is_refused = self.pool.is_refused, False
        share = connections.renew_share(
            self.name,
            holder=self.holder,
            in_use=in_use,
            is_answered=is_answered,
            is_refused=refused,
            is_urgent=self.is_urgent,
        )
        self.in_use, self.is_answered, self.others_are_answered = in_use, is_answered, share.others_are_answered
        self.pool.set_limit(share.connections)
        self.renewed_from = now + (RENEW_INTERVAL if share.connections == share.fair else HURRIED_RENEW_INTERVAL)
        self.has_fair_share = share.fair > 0
        return self.has_fair_share

    @property
    def has_other_connections(self) -> bool:
        """Whether connections other than one that is refused are in use. For sending threads too."""
        return self.pool.has_others or self.others_are_answered

    def check_batches(self, *, at: datetime, now: float) -> None:
        """Renew leases, and withdraw copies that may not begin: paused, unreachable, or of a closed channel."""
        stale: dict[int, list[OpenBatch]] = defaultdict(list)
        for opened in self.batches:
            if not opened.batch.is_ours(at=at):
                opened.gate.close()
            if opened.is_closed:
                self.withdraw(opened)
            elif opened.needs_check(at=at, now=now):
                stale[opened.of.message.pk].append(opened)
        for batches in stale.values():
            self.check_message(batches, at=at, now=now)

    def check_message(self, batches: list[OpenBatch], *, at: datetime, now: float) -> None:
        """Check copies that wait for a thread or a slot.

        Is their message live, can their customers be reached, and is the delivery window open?
        """
        of = batches[0].of
        if not of.may_continue():
            of.gate.close()
            for opened in batches:
                self.withdraw(opened)
            return
        queued = [job.subject for job in self.pool.waiting_jobs()]
        copies = [copy for copy in queued if copy.batch.of is of] + [copy for opened in batches for copy in opened.rest]
        # The next claim settles them with the reason.
        gone = unreachable_records(of.message, [copy.record.pk for copy in copies])
        gone |= records_outside_window(copies, at=at)
        for opened in batches:
            if gone:
                self.withdraw(opened, only=gone)
            opened.note_check(at=at, now=now)

    def close(self) -> None:
        """Close the connections and give back the share. Those that are still in use are given back by its lease."""
        self.pool.close(patience=0 if self.batches else None)
        for opened in self.batches:
            opened.abandon()
            opened.close_journal()
        if not self.pool.threads:
            with suppress(*DATABASE_LOST):
                connections.give_back(self.name, holder=self.holder)

    def withdraw(self, opened: OpenBatch, *, only: Container[int] | None = None) -> None:
        """Settle the copies of a batch that were not begun, or some of them, as not begun."""
        jobs = self.pool.withdraw(
            only=lambda job: job.subject.batch is opened and (only is None or job.subject.record.pk in only)
        )
        opened.put_back(jobs)
        opened.give_up(only)


def open_lane(name: Name, *, is_urgent: bool = False) -> Lane:
    """Return a lane whose threads each have their own connection."""
    pool = Pool(name, open_connection=CHANNELS[name], concurrency=Concurrency(0, name=name))
    return Lane(name, pool, is_urgent=is_urgent)


def records_outside_window(copies: Iterable[OutgoingCopy], *, at: datetime) -> set[int]:
    """Return the records of these copies whose delivery window is closed, or whose customers have quiet hours."""
    judged: dict[tuple[int, str], bool] = {}
    closed = set()
    for copy in copies:
        batch, zone = copy.batch.batch, copy.record.zone_name
        key = id(batch), zone
        if key not in judged:
            judged[key] = batch.opening is not None and batch.opening(zone, at=at) > at
        if judged[key]:
            closed.add(copy.record.pk)
    return closed
