"""The change thread of each worker: work that begins with a change of the database and not with a call.

It matches messages that are checked as soon as something changes, and wakes the dispatcher of webhooks for events of
messages, which triggers write.
"""

import logging
import threading
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from delivery import tasks
from delivery.matching import rounds
from delivery.webhooks import dispatcher

log = logging.getLogger(__name__)
ended = threading.Event()

# Between two looks: with such a message, with a subscriber to events of messages, and with neither.
BUSY_INTERVAL, WEBHOOK_INTERVAL, IDLE_INTERVAL = timedelta(seconds=0.4), timedelta(seconds=1), timedelta(seconds=5)


def watch(*, until: threading.Event = ended) -> None:
    """Look for changes until the event is set. An error is logged; the next look tries again."""
    interval = BUSY_INTERVAL
    while not until.wait(interval.total_seconds()):
        try:
            interval = min(match_changes(), wake_webhooks())
        except Exception:
            log.exception("changes cannot be handled")
            interval = IDLE_INTERVAL
        finally:
            # Close the connection: a worker may fork, and the child would share it.
            connection.close()
            if close_pool := getattr(connection, "close_pool", None):
                close_pool()


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
    threading.Thread(target=watch, name="changes", daemon=True).start()
