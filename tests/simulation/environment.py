"""Replaces what a process has of its own: time, threads, memory, randomness, and the servers that take copies."""

import fcntl
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import psycopg
from django.conf import settings
from django.core.cache import cache
from django.test import override_settings

from audiences import change_log, transactions
from delivery import locks, process
from delivery.matching import rounds
from delivery.sending import (
    batch,
    connections,
    dispatcher,
    journal,
    lane,
    outgoing_copy,
    pool,
    settle,
    throttle,
)
from tests.delivery.matching.conftest import horizon_of_this_database
from tests.simulation.database import Sessions, gated_cursor
from tests.simulation.processes import Process, current_actor
from tests.simulation.scheduler import Scheduler

# Modules that sleep or ask for the monotonic time.
TIMED = (transactions, locks, batch, dispatcher, lane, outgoing_copy, pool, settle, throttle)
# Intervals at which the engine looks again, in seconds; longer than in production, so that fewer steps are idle.
INTERVALS = (
    (locks, "LOCK_POLL_INTERVAL", 0.5),
    (dispatcher, "CONTENTION_PAUSE", 3.0),
    (dispatcher, "WAIT_INTERVAL", 0.3),
    (dispatcher, "REFRESH_INTERVAL", 4.0),
    (lane, "RENEW_INTERVAL", 5.0),
    (lane, "HURRIED_RENEW_INTERVAL", 1.5),
)
# How many connections all processes share, drawn for each schedule: with few of them, copies wait for their turn.
CONNECTIONS = (2, 3, 6)
# How many records a worker claims at once: with few of them, several workers send one message.
BATCHES = (1, 2, 2, 10, 10)
# Attributes of `delivery.process` that each process has for itself.
MEMORY: dict[str, Callable[[], Any]] = {
    "free_journals": list,
    "lost_emails": list,
    "firebase_apps": dict,
    "live_messages": dict,
    "live_messages_lock": threading.Lock,
    "renderings_lock": threading.Lock,
    "renderings": type(process.renderings),
    "versions_with_stored_links": set,
    "stop_signals": list,
}


def swap_memory(last: Process | None, following: Process) -> None:
    """Take the memory of the process that ran last out of the engine, and put in that of the one that runs next."""
    if last is following:
        return
    settings.FLIGHTS_DIR = str(Path(settings.FLIGHTS_DIR).parent / following.machine)
    if last is not None:
        last.memory.update({name: getattr(process, name) for name in MEMORY})
    for name, new in MEMORY.items():
        setattr(process, name, following.memory.get(name) if name in following.memory else new())


class SimulatedTime:
    """Stands in for the module `time`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.monotonic = self.perf_counter = scheduler.monotonic
        self.sleep = scheduler.sleep


class SimulatedCondition:
    """Stands in for `threading.Condition`. Only one actor runs at a time, and none stops while it holds the lock."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.sleepers: list[list[bool]] = []

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_error: object) -> None:
        return None

    def wait(self, timeout: float | None = None) -> bool:
        woken = [False]
        self.sleepers.append(woken)
        self.scheduler.wait(lambda: woken[0], timeout=timeout, gate="wait")
        if woken in self.sleepers:
            self.sleepers = [one for one in self.sleepers if one is not woken]
        return woken[0]

    def notify(self, number: int = 1) -> None:
        for woken in self.sleepers[:number]:
            woken[0] = True
        self.sleepers = self.sleepers[number:]

    def notify_all(self) -> None:
        self.notify(len(self.sleepers))


class SimulatedThread:
    """Stands in for `threading.Thread`: an actor of the process that starts it."""

    scheduler: Scheduler
    sessions: Sessions

    def __init__(self, *, target: Callable[[], object], name: str, daemon: bool) -> None:
        self.target, self.name = target, name

    def start(self) -> None:
        starter = current_actor()
        assert starter is not None
        number = sum(actor.process is starter.process for actor in self.scheduler.actors)
        self.scheduler.spawn(f"{starter.process}/{number}", starter.process, self.target)


def simulated_threads(scheduler: Scheduler) -> SimpleNamespace:
    """Return what stands in for the module `threading`."""
    thread = type("Thread", (SimulatedThread,), {"scheduler": scheduler})
    return SimpleNamespace(
        Thread=thread,
        Lock=threading.Lock,
        Condition=lambda _lock=None: SimulatedCondition(scheduler),
        get_ident=threading.get_ident,
    )


def seeded_bytes(seeded: Random) -> Callable[[int], bytes]:
    """Return what stands in for `os.urandom`: the source of UUIDs and tokens."""
    return lambda size: seeded.randbytes(size)


def release_journals(dead: Process) -> None:
    """Unlock the journals of a killed process, those of others that it was reading too, as the kernel does."""
    for file in dead.locked_files:
        fcntl.flock(file, fcntl.LOCK_UN)


def lock_file(file: int, operation: int) -> None:
    """Lock a file as `fcntl.flock` does, and note that the process has it."""
    fcntl.flock(file, operation)
    if (actor := current_actor()) is not None:
        actor.process.locked_files.add(file)
        actor.process.has_read_journals |= bool(operation & fcntl.LOCK_NB)


def close_file(file: int) -> None:
    """Close a file, which unlocks it."""
    os.close(file)
    if (actor := current_actor()) is not None:
        actor.process.locked_files.discard(file)


@contextmanager
def simulated(scheduler: Scheduler, sessions: Sessions, *, seed: int, folder: Path) -> Iterator[Callable[[], None]]:
    """Run the engine in simulated processes during the block. Yield the call that begins the seeded randomness."""
    clock, threads = SimulatedTime(scheduler), simulated_threads(scheduler)
    source = Random()  # noqa: S311 - reproducible
    randomly = seeded_bytes(source)

    def begin() -> None:
        source.seed(f"bytes {seed}")
        random.seed(seed)

    with ExitStack() as patches:
        for module in TIMED:
            patches.enter_context(mock.patch.object(module, "time", clock))
        # Each takes a scheduling point, and nobody's time is saved.
        for module, name, seconds in INTERVALS:
            patches.enter_context(mock.patch.object(module, name, seconds))
        # The database's clock is that of the machine.
        patches.enter_context(mock.patch.object(rounds, "QUIET", timedelta(0)))
        patches.enter_context(mock.patch.object(pool, "threading", threads))
        locks_of_files = SimpleNamespace(flock=lock_file, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB)
        patches.enter_context(mock.patch.object(journal, "fcntl", locks_of_files))
        patches.enter_context(mock.patch.object(journal, "os", SimpleNamespace(**{**vars(os), "close": close_file})))
        for module in (throttle, connections):
            patches.enter_context(mock.patch.object(module, "database_clock", scheduler.now))
        patches.enter_context(mock.patch.object(change_log, "current_horizon", horizon_of_this_database))
        patches.enter_context(mock.patch.object(os, "urandom", randomly))
        patches.enter_context(mock.patch.object(random, "_urandom", randomly))
        patches.enter_context(mock.patch.object(psycopg, "Cursor", gated_cursor(psycopg.Cursor, sessions)))
        patches.enter_context(mock.patch.object(psycopg, "RawCursor", gated_cursor(psycopg.RawCursor, sessions)))
        drawn = Random(f"sizes {seed}")  # noqa: S311 - reproducible
        few = drawn.choice(CONNECTIONS)
        patches.enter_context(mock.patch.object(lane, "SMALLEST_BATCH", drawn.choice(BATCHES)))
        patches.enter_context(
            override_settings(FLIGHTS_DIR=str(folder / "A"), EMAIL_CONNECTIONS=few, PUSH_CONNECTIONS=few)
        )
        cache.clear()
        process.reset()
        begin()
        try:
            yield begin
        finally:
            process.reset()
