"""Who watches: a thread of each worker and of each beat looks for what is stuck, so that one notices the other gone."""

import logging
import threading
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

log = logging.getLogger(__name__)
ended = threading.Event()


def watch(*, every: float, until: threading.Event = ended) -> None:
    """Look for alarms over and over until told to end; what goes wrong once is tried again at the next turn."""
    from delivery.monitoring import alarms

    while not until.wait(every):
        try:
            alarms.check_alarms(at=timezone.now())
        except Exception:
            log.exception("what is stuck cannot be looked for")
        finally:
            # Nothing is kept open meanwhile: a worker may fork, and its child would have this connection too.
            connection.close()
            if close_pool := getattr(connection, "close_pool", None):
                close_pool()


def begin(**_facts: Any) -> None:
    """Begin to watch, beside what this process is for."""
    threading.Thread(target=watch, kwargs={"every": settings.WATCH_EVERY}, name="alarms", daemon=True).start()
