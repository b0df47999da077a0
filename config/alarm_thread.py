"""The alarm thread of each worker and each beat. Both run one, so that each notices if the other is missing."""

import logging
import threading
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

log = logging.getLogger(__name__)
ended = threading.Event()


def watch(*, every: float, until: threading.Event = ended) -> None:
    """Check for alarms at each interval, until the event is set. An error is logged; the next interval tries again."""
    from delivery.monitoring import alarms

    while not until.wait(every):
        try:
            alarms.check_alarms(at=timezone.now())
        except Exception:
            log.exception("the alarm check failed")
        finally:
            # Close the connection: a worker may fork, and the child would share it.
            connection.close()
            if close_pool := getattr(connection, "close_pool", None):
                close_pool()


def start_thread(**_options: Any) -> None:
    """Start the alarm thread of this process."""
    threading.Thread(target=watch, kwargs={"every": settings.WATCH_EVERY}, name="alarms", daemon=True).start()
