"""Simulated processes and their actors, which are threads that hand a baton to the scheduler and get it back."""

import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class State(Enum):
    """The state of an actor."""

    READY = auto()
    RUNNING = auto()
    WAITING = auto()
    BLOCKED = auto()
    DONE = auto()
    FROZEN = auto()


class Killed(BaseException):
    """Ends the thread of a frozen actor, after the schedule."""


class Stuck(AssertionError):
    """No actor can go on, although some have not ended."""


class Baton:
    """Handed from one thread to another; much faster than `threading.Semaphore`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()

    def release(self) -> None:
        # A thread that was frozen has not taken the last one.
        with suppress(RuntimeError):
            self.lock.release()

    def acquire(self, *, timeout: float = -1) -> bool:
        return self.lock.acquire(timeout=timeout)

    def is_there(self) -> bool:
        return self.lock.acquire(blocking=False)


@dataclass(eq=False)
class Process:
    """A simulated process: its machine, its memory, and whether it may be killed."""

    name: str
    is_mortal: bool = True
    machine: str = "A"
    memory: dict[str, Any] = field(default_factory=dict)
    # The files that it has locked, and whether it has read journals of others.
    locked_files: set[int] = field(default_factory=set)
    has_read_journals: bool = False
    is_frozen: bool = False
    # Whether it is killed at its next turn.
    is_doomed: bool = False
    has_lost_connection: bool = False
    # Until when it is stopped, as by SIGSTOP.
    stopped_until: float = 0.0

    def __str__(self) -> str:
        return self.name


@dataclass(eq=False)
class Actor:
    """A thread of a process."""

    name: str
    process: Process
    # Set by the scheduler alone; `next_state` by the thread, before it stops.
    state: State = State.READY
    next_state: State = State.READY
    # The backends of its database connections, and whether a statement is being executed.
    backends: list[int] = field(default_factory=list)
    is_in_statement: bool = False
    # Whether the statement has waited for a lock: then the thread stops behind it.
    is_blocked: bool = False
    # Whether its last step may have released locks, or committed something; and whether its transaction will do so.
    has_released: bool = False
    matters: bool = False
    connections: list[Any] = field(default_factory=list)
    gate: str = "begin"
    # How often it is chosen, compared with others.
    weight: int = 1
    # How long its transaction waits for a lock at most, and until when the current wait lasts; whether it was too long.
    lock_timeout: float | None = None
    lock_deadline: float = 0.0
    is_timed_out: bool = False
    # When its current wait for a lock began, in steps; and whether the wait closed a circle.
    blocked_since: int = 0
    is_deadlocked: bool = False
    # While it waits: until when, and for what.
    deadline: float | None = None
    holds: Callable[[], bool] = lambda: False
    error: BaseException | None = None
    go: Baton = field(default_factory=lambda: Baton())
    parked: Baton = field(default_factory=lambda: Baton())
    thread: threading.Thread | None = None


@dataclass(eq=False)
class Catch:
    """Holds the first actor that comes to a gate, which is the worst moment, while another one does its work."""

    gate: str
    # When it may go on before the time is over: told since when it is held.
    is_over: Callable[[float], bool]
    seconds: float
    caught: Actor | None = None


local = threading.local()


def current_actor() -> Actor | None:
    """Return the actor of this thread; None outside the simulation."""
    return getattr(local, "actor", None)


def stack_of(actor: Actor) -> str:
    """Return the last calls of an actor's thread."""
    thread = actor.thread
    frame = sys._current_frames().get(thread.ident) if thread is not None and thread.ident else None
    return "".join(traceback.format_stack(frame)[-6:]) if frame is not None else "(ended)"
