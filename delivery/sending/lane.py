"""A lane: a channel in use by this process, with its connections and its open batches."""

import time
from collections.abc import Container
from dataclasses import dataclass, field

from django.conf import settings

from delivery.channels import CHANNELS, Channel
from delivery.sending.batch import OpenBatch
from delivery.sending.concurrency import Concurrency
from delivery.sending.outgoing_copy import Gate
from delivery.sending.pool import Pool
from messaging.models import Channel as Name
from messaging.models import Message

# How many connections a channel has at most.
CONNECTION_SETTINGS = {Name.EMAIL: "EMAIL_CONNECTIONS", Name.PUSH: "PUSH_CONNECTIONS"}


@dataclass(slots=True, eq=False)
class Lane:
    """A channel in use by this process: its connections, its batches, and whether it takes more."""

    name: Name
    pool: Pool[Channel]
    gate: Gate = field(default_factory=Gate)
    batches: list[OpenBatch] = field(default_factory=list)
    # By `time.monotonic`: when the throttle may give slots again.
    slots_from: float = 0.0

    def room(self) -> int:
        """Return how many records may be claimed: one batch more than there are connections, less those open."""
        limit = self.pool.concurrency.limit + settings.IN_FLIGHT
        return min(settings.IN_FLIGHT, limit - sum(opened.unsettled for opened in self.batches))

    def has_room_for(self, message: Message) -> bool:
        """Return whether a claim is worth while. A direct message waits for nothing but a place."""
        if time.monotonic() < self.slots_from:
            return False
        room = self.room()
        enough = 1 if message.to_customer_id or not self.pool.queue else max(1, settings.IN_FLIGHT // 2)
        return room >= enough

    def withdraw(self, opened: OpenBatch, *, only: Container[int] | None = None) -> None:
        """Settle the copies of a batch that were not begun, or some of them, as not begun."""
        jobs = self.pool.withdraw(
            only=lambda job: job.subject.batch is opened and (only is None or job.subject.record.pk in only)
        )
        opened.put_back(jobs)
        opened.give_up(only)


def open_lane(name: Name) -> Lane:
    """Return a lane whose threads each have their own connection."""
    limit = getattr(settings, CONNECTION_SETTINGS[name])
    return Lane(name, Pool(name, open_connection=CHANNELS[name], concurrency=Concurrency(limit, name=name)))
