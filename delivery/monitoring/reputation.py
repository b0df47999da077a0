"""Reputation: a message pauses itself if it causes too many complaints or hard bounces (behaviour 4.25).

Mailbox providers reject a sender whose emails are often marked as spam or go to mailboxes that do not exist, so each
further copy harms all messages. The change thread of each worker looks every few seconds, and the sweep every minute.
"""

import logging
from dataclasses import dataclass

from django.db import DatabaseError

from delivery.matching import lifecycle
from delivery.reporting import counters
from delivery.reporting.counters import Counts
from messaging.models import Channel, Message, WrongState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The share of a count in others above which a message pauses itself, if both are large enough to judge by."""

    count: str
    # The counts that together are 100 %.
    total: tuple[str, ...]
    permille: int
    min_count: int
    min_total: int
    sentence: str


LIMITS: tuple[Limit, ...] = (
    Limit(
        count="complained",
        total=("sent",),
        permille=3,
        min_count=10,
        min_total=1_000,
        sentence=(
            "{number:,} of {total:,} recipients marked it as spam ({share:.2f} %). Above 0.3 %, mailbox providers"
            " reject the emails of a sender."
        ),
    ),
    Limit(
        count="hard_bounced",
        # A server that refuses the recipient at once makes the copy fail, one that reports it later does not.
        total=("sent", "failed"),
        permille=50,
        min_count=20,
        min_total=200,
        sentence=(
            "{number:,} of {total:,} emails went to mailboxes that do not exist ({share:.2f} %). Above 5 %, mailbox"
            " providers take the sender for a spammer."
        ),
    ),
)


def pause_messages() -> None:
    """Pause the live emails that exceed a limit. A failure does not hold up the others."""
    live = dict(Message.objects.live().filter(channel=Channel.EMAIL).values_list("pk", "counted_from"))
    counts = counters.counts_of(live)
    for pk in [pk for pk, counted_from in live.items() if excess_sentence(counts[pk], counted_from=counted_from)]:
        try:
            message = Message.objects.get(pk=pk)
            if lifecycle.pause_by_itself(message, find_reason=find_reason):
                log.warning("message %s has paused itself: %s", pk, message.paused_because)
        except WrongState:
            continue  # A teammate or another worker was first.
        except DatabaseError:
            log.exception("message %s cannot be paused", pk)


def find_reason(message: Message) -> str:
    """Return why the message pauses itself, or ""."""
    return excess_sentence(counters.counts_of([message.pk])[message.pk], counted_from=message.counted_from)


def excess_sentence(counts: Counts, *, counted_from: dict[str, int]) -> str:
    """Return a sentence on the first exceeded limit, or "". The counts in `counted_from` do not count."""

    def since(name: str) -> int:
        return counts.value_of(name) - counted_from.get(name, 0)

    for limit in LIMITS:
        number, total = since(limit.count), sum(map(since, limit.total))
        is_enough = number >= limit.min_count and total >= limit.min_total
        if is_enough and number * 1000 > limit.permille * total:
            return limit.sentence.format(number=number, total=total, share=number * 100 / total)
    return ""
