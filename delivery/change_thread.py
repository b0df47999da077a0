"""The change thread of each worker: work that begins with a change of the database and not with a call.

It matches messages that are checked as soon as something changes, wakes the dispatcher of webhooks for events of
messages, which triggers write, and pauses messages about which too many people complain. It also wakes the dispatcher
of messages and that of urgent emails if due ones wait and no worker sends: the machine that did may have vanished, and
a nudge that it had taken is lost. Confirmation emails have no other nudge. And it queues the sweep if that is late:
tasks of a beat whose clock is a minute behind expire before a worker takes them.
"""

import math
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from audiences.clock import database_clock
from delivery import background, tasks
from delivery.matching import rounds
from delivery.models import ChannelOutage
from delivery.monitoring import health, reputation
from delivery.sending import batch, connections, throttle
from delivery.webhooks import dispatcher
from messaging.models import Channel

ended = threading.Event()

# Between two looks: with such a message, with a subscriber to events of messages, and with neither.
BUSY_INTERVAL, WEBHOOK_INTERVAL, IDLE_INTERVAL = timedelta(seconds=0.4), timedelta(seconds=1), timedelta(seconds=5)
# How often it looks after sending, and for how long due messages that no worker sends have been due: their own nudge
# may be on its way. Nudges that have no effect come less and less often.
SENDING_INTERVAL, DUE_FOR, NUDGE_MAX_INTERVAL = timedelta(seconds=2), timedelta(seconds=2), timedelta(seconds=60)
# How many times as long as a look took the next one waits: an open transaction makes each one read the same entries. A
# look during an import judges some ten thousand customers, and those who change meanwhile wait for the next one.
REST_FACTOR = 1


class Nudge:
    """A nudge that is repeated as long as due work waits and no worker does it, each time after twice as long."""

    def __init__(self, send: Callable[[], object]) -> None:
        self.send = send
        self.interval = SENDING_INTERVAL.total_seconds()
        self.next_at = -math.inf

    def note(self, *, is_needed: bool) -> None:
        """Send the nudge if it is needed and its time has come."""
        now = time.monotonic()
        if not is_needed:
            self.interval, self.next_at = SENDING_INTERVAL.total_seconds(), -math.inf
        elif now >= self.next_at:
            self.send()
            self.next_at = now + self.interval
            self.interval = min(2 * self.interval, NUDGE_MAX_INTERVAL.total_seconds())


class SendingWatch:
    """Looks for due messages, answers and confirmations that no worker sends, a late sweep, and messages to pause."""

    def __init__(self) -> None:
        self.messages = Nudge(lambda: tasks.enqueue_dispatch())
        self.answers = Nudge(lambda: tasks.enqueue_answer_emails())
        self.sweep = Nudge(lambda: tasks.enqueue_sweep())
        self.next_at = -math.inf

    def look(self) -> timedelta:
        """Look if it is time to. Return when to look again."""
        if time.monotonic() >= self.next_at:
            at = database_clock()
            unavailable = ChannelOutage.unavailable_channels(at=at) | throttle.exhausted_channels(at=at)
            due = {message.channel for message in batch.messages_due(at=at - DUE_FOR)} - unavailable
            self.messages.note(is_needed=bool(due and due - connections.channels_at_work()))
            has_answers = Channel.EMAIL not in unavailable and any(
                kind.claimable(at=at - DUE_FOR).exists() for kind in tasks.URGENT_EMAILS
            )
            is_at_work = has_answers and Channel.EMAIL in connections.channels_at_work(is_urgent=True)
            self.answers.note(is_needed=has_answers and not is_at_work)
            self.sweep.note(is_needed=health.sweep_is_late(at=at))
            reputation.pause_messages()
            self.next_at = time.monotonic() + SENDING_INTERVAL.total_seconds()
        return SENDING_INTERVAL


def watch(*, until: threading.Event = ended) -> None:
    """Look for changes until the event is set. An error is logged; a later look tries again."""
    sending = SendingWatch()
    background.repeat(lambda: handle_changes(sending), first=BUSY_INTERVAL, after_error=IDLE_INTERVAL, until=until)


def handle_changes(sending: SendingWatch) -> timedelta:
    """Look for changes once. Return when to look again."""
    began = time.monotonic()
    interval = min(match_changes(), wake_webhooks(), sending.look())
    return max(interval, REST_FACTOR * timedelta(seconds=time.monotonic() - began))


def match_changes() -> timedelta:
    """Run a prompt round if one is due. Return when to look again."""
    is_due = rounds.prompt_round_is_due()
    if is_due and rounds.run_prompt_round(at=database_clock()):
        tasks.enqueue_dispatch()
    return IDLE_INTERVAL if is_due is None else BUSY_INTERVAL


def wake_webhooks() -> timedelta:
    """Wake the dispatcher of webhooks if it is needed. Return when to look again."""
    is_needed = dispatcher.is_nudge_needed(at=database_clock())
    if is_needed:
        tasks.enqueue_webhooks()
    return IDLE_INTERVAL if is_needed is None else WEBHOOK_INTERVAL


def start_thread(**_options: Any) -> None:
    """Start the change thread of this process."""
    background.start_thread("changes", watch)
