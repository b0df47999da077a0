"""Background threads of a process: each repeats a job, over a database connection of its own."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import connection, connections

log = logging.getLogger(__name__)


def repeat(job: Callable[[], timedelta], *, first: timedelta, after_error: timedelta, until: threading.Event) -> None:
    """Run a job until the event is set: after `first`, and then after the interval that it returns. Log its errors."""
    use_own_connections()
    interval = first
    while not until.wait(interval.total_seconds()):
        try:
            try:
                interval = job()
            finally:
                # A worker may fork, and the child would share the connection.
                connection.close()
        except Exception:
            log.exception("a job of the thread %s failed", threading.current_thread().name)
            interval = after_error


def use_own_connections() -> None:
    """Let this thread use no connection of the pool, which has threads of its own and which all threads share."""
    for alias in connections:
        own = connections[alias].copy()
        own.settings_dict["OPTIONS"].pop("pool", None)
        connections[alias] = own


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Start a thread that ends with the process."""
    threading.Thread(target=work, name=name, daemon=True).start()
