"""State of this process: caches, logins, journals, requests to stop.

Nothing here outlives the process, and nothing depends on it: an empty cache costs time only.
"""

import mmap
import os
from collections import OrderedDict
from threading import Lock
from typing import Any

# Journals of batches that were settled, for the next batches (sending.journal).
free_journals: list[Any] = []
# The errors of the last emails in a row that got no answer (channels.email).
lost_emails: list[str] = []
# The logins to Firebase, by credentials (channels.firebase).
firebase_apps: dict[str, Any] = {}
# Live messages, compiled, by database (eligibility.live_messages).
live_messages: dict[str, Any] = {}
# Compiled copies by version and tracking, the oldest first (rendering).
renderings: OrderedDict[tuple[int, bool], Any] = OrderedDict()
# Held while a thread fills these two caches.
live_messages_lock, renderings_lock = Lock(), Lock()
# Versions whose links are stored (rendering).
versions_with_stored_links: set[int] = set()
# The signals that asked this process to stop (shutdown).
stop_signals: list[int] = []
# One byte that a process shares with its forks: a Celery worker tells its pool to stop (shutdown).
shared_stop_flag = mmap.mmap(-1, 1)
# The places for tasks other than sending, and the moments at which tasks asked for one, both shared with the forks;
# None outside a worker that serves all queues (reservation).
places: Any = None
place_count = 0
waiting_marks: Any = None
# Until then, by `time.monotonic`, no task is queued, as the broker could not be reached (tasks).
broker_retry_at = 0.0


def renew_locks() -> None:
    """Have free locks: a thread that a fork does not have may hold the old ones."""
    global live_messages_lock, renderings_lock
    live_messages_lock, renderings_lock = Lock(), Lock()


os.register_at_fork(after_in_child=renew_locks)


def close_resources() -> None:
    """End the logins to Firebase and remove the journals that no batch uses."""
    while free_journals:
        free_journals.pop().close()
    while firebase_apps:
        # The library is imported only if there is one.
        import firebase_admin

        firebase_admin.delete_app(firebase_apps.popitem()[1])


def reset() -> None:
    """Start again as a new process does."""
    global broker_retry_at, places, place_count, waiting_marks
    close_resources()
    lost_emails.clear()
    live_messages.clear()
    renderings.clear()
    versions_with_stored_links.clear()
    stop_signals.clear()
    shared_stop_flag[0] = 0
    places, place_count, waiting_marks = None, 0, None
    broker_retry_at = 0.0
