"""The change thread of each worker: work that begins with a change of the database and not with a call.

It matches messages that are checked as soon as something changes, wakes the dispatcher of webhooks for events of
messages, which triggers write, and pauses messages about which too many people complain.
"""

import threading
import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

from delivery import background, tasks
from delivery.matching import rounds
from delivery.monitoring import reputation
from delivery.webhooks import dispatcher

ended = threading.Event()

# Between two looks: with such a message, with a subscriber to events of messages, and with neither.
BUSY_INTERVAL, WEBHOOK_INTERVAL, IDLE_INTERVAL = timedelta(seconds=0.4), timedelta(seconds=1), timedelta(seconds=5)
# How many times as long as a look took the next one waits: an open transaction makes each one read the same entries.
REST_FACTOR = 3


def watch(*, until: threading.Event = ended) -> None:
    """Look for changes until the event is set. An error is logged; a later look tries again."""
    background.repeat(handle_changes, first=BUSY_INTERVAL, after_error=IDLE_INTERVAL, until=until)


def handle_changes() -> timedelta:
    """Look for changes once. Return when to look again."""
    began = time.monotonic()
    interval = min(match_changes(), wake_webhooks())
    reputation.pause_messages()
    return max(interval, REST_FACTOR * timedelta(seconds=time.monotonic() - began))


def match_changes() -> timedelta:
    """Run a prompt round if one is due. Return when to look again."""
    is_due = rounds.prompt_round_is_due()
    if is_due and rounds.run_prompt_round(at=timezone.now()):
        tasks.enqueue_dispatch()
    return IDLE_INTERVAL if is_due is None else BUSY_INTERVAL


def wake_webhooks() -> timedelta:
    """Wake the dispatcher of webhooks if it is needed. Return when to look again."""
    is_needed = dispatcher.is_nudge_needed(at=timezone.now())
    if is_needed:
        tasks.enqueue_webhooks()
    return IDLE_INTERVAL if is_needed is None else WEBHOOK_INTERVAL


def start_thread(**_options: Any) -> None:
    """Start the change thread of this process."""
    background.start_thread("changes", watch)
