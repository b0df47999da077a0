"""The alarm thread of each worker and each beat. Both run one, so that each notices if the other is missing."""

import socket
import threading
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

ended = threading.Event()


def watch(*, every: float, until: threading.Event = ended) -> None:
    """Check for alarms at each interval, until the event is set. An error is logged; the next interval tries again."""
    from audiences.clock import compare_clocks
    from delivery import background
    from delivery.models import MachineClock
    from delivery.monitoring import alarms

    interval = timedelta(seconds=every)

    def check() -> timedelta:
        found = compare_clocks(timezone.now)
        MachineClock.record_clock(socket.gethostname(), ahead=found.ahead, at=found.at)
        alarms.check_alarms(at=found.at)
        return interval

    background.repeat(check, first=interval, after_error=interval, until=until)


def start_thread(**_options: Any) -> None:
    """Start the alarm thread of this process."""
    from delivery import background

    background.start_thread("alarms", lambda: watch(every=settings.WATCH_EVERY))
