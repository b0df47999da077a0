"""The database's clock, which all machines share: leases are set and judged by it.

Functions take the time as an argument. A task reads it once from the database when it begins, and passes it on, so a
machine with a wrong clock neither ends the lease of another worker nor keeps its own too long.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

# A clock that is never set, and that goes on while the machine is suspended, if the system has one.
STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def steady_seconds() -> float:
    """Return the seconds of a clock that is never set."""
    return time.monotonic() if STEADY_CLOCK is None else time.clock_gettime(STEADY_CLOCK)


def database_clock() -> datetime:
    """Return the current moment by the database's clock, not the start of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
        return moment


class DatabaseClock:
    """The database's clock, read once and continued by this process, so that threads without a database have it."""

    def __init__(self) -> None:
        self.read_at, self.began = database_clock(), steady_seconds()

    def __call__(self) -> datetime:
        return self.read_at + timedelta(seconds=steady_seconds() - self.began)


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Both clocks at one moment: the database's, and how far this machine's is ahead of it (negative: behind)."""

    at: datetime
    ahead: timedelta


def compare_clocks(machine_clock: Callable[[], datetime]) -> ClockReading:
    """Compare this machine's clock with the database's. The time that the answer took counts as no difference."""
    asked, began = machine_clock(), steady_seconds()
    at = database_clock()
    took = timedelta(seconds=steady_seconds() - began)
    # The database answered at some moment between these two.
    least, most = asked - at, asked + took - at
    ahead = least if least > timedelta(0) else most if most < timedelta(0) else timedelta(0)
    return ClockReading(at, ahead)
