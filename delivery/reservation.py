"""Reservation: a worker that serves all queues keeps one of its processes free for sending.

Any other task needs one of the remaining places: a lock on one byte of a file that the processes of the worker
share. The kernel releases the place of a process that dies. A task that finds no place is queued again, and the task
that holds one gives way within a second. A worker with one process has nothing to reserve: other tasks give way while
records are due. A worker for some of the queues only reserves nothing.
"""

import fcntl
import mmap
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from delivery import process, shutdown

# In seconds. How often a task without a place asks again, and how long it counts as waiting after it asked.
ASK_INTERVAL, WAITING_PERIOD = 0.25, 2.5
# In seconds. How long a task that gave way stays away, so that a waiting one finds the place free.
AWAY_PERIOD = 1.0
# In seconds. How long a task holds its place at least, although others wait.
SHORTEST_TURN = 1.0
# The marks of waiting tasks: when a task asked last, and its checksum, which is also its position, modulo the number.
MARK_COUNT = 1024
MARK = struct.Struct("dI")


def reserve(processes: int) -> None:
    """Reserve one of so many processes for sending. Called in a worker, before it forks."""
    process.places = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the worker runs
    process.place_count = processes - 1
    process.waiting_marks = mmap.mmap(-1, MARK_COUNT * MARK.size)


@contextmanager
def hold_place() -> Iterator[bool]:
    """Hold a place during the block. Yield False if all are taken."""
    if process.places is None or process.place_count == 0:
        yield True
        return
    for number in range(process.place_count):
        try:
            fcntl.lockf(process.places, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number, os.SEEK_SET)
        except OSError:
            continue
        try:
            yield True
        finally:
            fcntl.lockf(process.places, fcntl.LOCK_UN, 1, number, os.SEEK_SET)
        return
    yield False


def mark_waiting(task: str, *, asks_again: bool) -> bool:
    """Note that a task waits for a place. Return False if another copy of it does already."""
    at, checksum, now = *mark_position(task), time.monotonic()
    moment, waiting = MARK.unpack_from(process.waiting_marks, at)
    if not asks_again and waiting == checksum and now - moment < WAITING_PERIOD:
        return False
    MARK.pack_into(process.waiting_marks, at, now, checksum)
    return True


def clear_mark(task: str) -> None:
    """Note that a task has a place, and no longer waits. The mark of another task at its position stays."""
    if process.waiting_marks is not None:
        at, checksum = mark_position(task)
        if MARK.unpack_from(process.waiting_marks, at)[1] == checksum:
            MARK.pack_into(process.waiting_marks, at, 0.0, 0)


def mark_position(task: str) -> tuple[int, int]:
    """Return the position of a task's mark, and its checksum."""
    checksum = zlib.crc32(task.encode())
    return MARK.size * (checksum % MARK_COUNT), checksum


def is_any_waiting() -> bool:
    """Return whether any task has asked for a place lately."""
    if process.waiting_marks is None:
        return False
    since = time.monotonic() - WAITING_PERIOD
    return any(moment > since for moment, _ in MARK.iter_unpack(process.waiting_marks[:]))


class Turn:
    """The time in which one task holds its place. `is_sending_due` is asked in a worker with one process."""

    def __init__(self, limit: timedelta, *, is_sending_due: Callable[[], bool]) -> None:
        self.is_sending_due = is_sending_due
        self.asked_at = time.monotonic()
        self.until = self.asked_at + limit.total_seconds()
        self.gave_way = False

    def may_continue(self) -> bool:
        """Return whether the task may go on; it looks for others once a second."""
        now = time.monotonic()
        if now - self.asked_at >= SHORTEST_TURN and not self.gave_way:
            self.asked_at = now
            is_alone = process.places is not None and process.place_count == 0
            self.gave_way = self.is_sending_due() if is_alone else is_any_waiting()
        return not self.gave_way and now < self.until and not shutdown.is_requested()

    @property
    def away_for(self) -> float:
        """How many seconds the rest of the task waits before it asks for a place."""
        return AWAY_PERIOD if self.gave_way else 0
