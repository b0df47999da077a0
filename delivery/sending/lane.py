"""A lane: a channel in use by this process, with its connections and its open batches."""

import time
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from django.conf import settings

from delivery.channels import CHANNELS, Channel
from delivery.concurrency import Concurrency
from delivery.sending import connections
from delivery.sending.batch import OpenBatch
from delivery.sending.outcome import DATABASE_LOST
from delivery.sending.outgoing_copy import Gate
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
    gate: Gate = field(default_factory=Gate)
    batches: list[OpenBatch] = field(default_factory=list)
    # By `time.monotonic`: when the throttle may give slots again, and when the share is renewed.
    slots_from: float = 0.0
    renewed_from: float = 0.0
    holder: UUID = field(default_factory=uuid4)

    @property
    def batch_size(self) -> int:
        """How many records are claimed at once, and settled: more while copies are sent fast."""
        return min(settings.IN_FLIGHT, max(SMALLEST_BATCH, int(self.pool.concurrency.rate * BATCH_SECONDS)))

    def room(self) -> int:
        """Return how many records may be claimed: one batch more than there are connections, less those open."""
        limit, size = self.pool.concurrency.limit, self.batch_size
        if not limit:
            return 0
        return min(size, limit + size - sum(opened.unsettled for opened in self.batches))

    def has_room_for(self, message: Message) -> bool:
        """Return whether a claim is worth while. A direct message waits for nothing but a place."""
        if time.monotonic() < self.slots_from or self.gate.is_closed:
            return False
        room = self.room()
        enough = 1 if message.to_customer_id or not self.pool.queue else max(1, self.batch_size // 2)
        return room >= enough

    def renew_share(self) -> bool:
        """Renew the share of connections in time. Return False if there are more dispatchers than connections."""
        now = time.monotonic()
        if now < self.renewed_from and not self.pool.is_refused:
            return True
        refused, self.pool.is_refused = self.pool.is_refused, False
        share = connections.renew_share(self.name, holder=self.holder, in_use=self.pool.threads, is_refused=refused)
        self.pool.set_limit(share.connections)
        self.renewed_from = now + (RENEW_INTERVAL if share.connections == share.fair else HURRIED_RENEW_INTERVAL)
        return share.fair > 0

    def close(self) -> None:
        """Close the connections and give back the share. Those that are still in use are given back by its lease."""
        self.pool.close(patience=0 if self.batches else None)
        for opened in self.batches:
            opened.abandon()
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


def open_lane(name: Name) -> Lane:
    """Return a lane whose threads each have their own connection."""
    return Lane(name, Pool(name, open_connection=CHANNELS[name], concurrency=Concurrency(0, name=name)))
