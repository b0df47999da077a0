"""The change thread of each worker: it matches messages that are checked as soon as something changes."""

import logging
import threading
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

log = logging.getLogger(__name__)
ended = threading.Event()

# Between two looks at the change log: with such a message, and without one.
BUSY_INTERVAL, IDLE_INTERVAL = timedelta(seconds=0.4), timedelta(seconds=5)


def watch(*, until: threading.Event = ended) -> None:
    """Look for changes until the event is set. An error is logged; the next look tries again."""
    interval = BUSY_INTERVAL
    while not until.wait(interval.total_seconds()):
        try:
            interval = match_changes()
        except Exception:
            log.exception("changes cannot be matched")
            interval = IDLE_INTERVAL
        finally:
            # Close the connection: a worker may fork, and the child would share it.
            connection.close()
            if close_pool := getattr(connection, "close_pool", None):
                close_pool()


def match_changes() -> timedelta:
    """Run a prompt round if one is due. Return when to look again."""
    from delivery import tasks
    from delivery.matching import rounds

    is_due = rounds.prompt_round_is_due()
    if is_due and rounds.run_prompt_round(at=timezone.now()):
        tasks.enqueue_dispatch()
    return IDLE_INTERVAL if is_due is None else BUSY_INTERVAL


def start_thread(**_options: Any) -> None:
    """Start the change thread of this process."""
    threading.Thread(target=watch, name="changes", daemon=True).start()
