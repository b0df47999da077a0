"""A seeded scheduler: of many actors, which are threads, exactly one runs at a time, and a random generator chooses it.

An actor stops at each gate: before an SQL statement, before and after a hand-over, and where it sleeps or waits. The
scheduler owns the clock. It also freezes processes for good, drops database connections, and makes actors slow. With
the same seed, everything happens again in the same order.
"""

import hashlib
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from random import Random
from typing import Any, Protocol

# In seconds of the machine. A statement that takes longer, without a lock wait, ends the run as stuck.
STUCK_AFTER = 5.0
# In seconds of the machine. A statement that takes longer is asked about: does it wait for a lock?
STATEMENT_TAKES = 0.002
# In seconds of the simulated clock: how long a step takes, and how long a slow actor takes for one.
STEP_SECONDS = (0.001, 0.03)
SLOW_SECONDS = (0.2, 2.0, 20.0, 90.0, 400.0)


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


@dataclass(eq=False)
class Process:
    """A simulated process: its actors, its memory, and whether it may be killed."""

    name: str
    is_mortal: bool = True
    memory: dict[str, Any] = field(default_factory=dict)
    journals: list[Any] = field(default_factory=list)
    is_frozen: bool = False
    has_lost_connection: bool = False

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
    connections: list[Any] = field(default_factory=list)
    gate: str = "begin"
    # While it waits: until when, and for what.
    deadline: float | None = None
    holds: Callable[[], bool] = lambda: False
    error: BaseException | None = None
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    parked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    thread: threading.Thread | None = None


class LockWatch(Protocol):
    """What the scheduler asks of the database."""

    def waits_for_lock(self, actor: Actor) -> bool:
        """Return whether a statement of the actor waits for a lock, and will go on waiting."""

    def terminate(self, actor: Actor) -> None:
        """End the database sessions of an actor."""


class Faults(Protocol):
    """Chooses what goes wrong."""

    def may_freeze(self, process: Process) -> bool:
        """Return whether a process is killed now."""

    def may_drop(self, actor: Actor) -> bool:
        """Return whether an actor's database connection is lost at its next statement."""

    def may_delay(self, actor: Actor) -> bool:
        """Return whether an actor is slow now."""


class NoFaults:
    """Nothing goes wrong."""

    def may_freeze(self, _process: Process) -> bool:
        return False

    def may_drop(self, _actor: Actor) -> bool:
        return False

    def may_delay(self, _actor: Actor) -> bool:
        return False


local = threading.local()


def current_actor() -> Actor | None:
    """Return the actor of this thread; None outside the simulation."""
    return getattr(local, "actor", None)


def stack_of(actor: Actor) -> str:
    """Return the last calls of an actor's thread."""
    thread = actor.thread
    frame = sys._current_frames().get(thread.ident) if thread is not None and thread.ident else None
    return "".join(traceback.format_stack(frame)[-6:]) if frame is not None else "(ended)"


@dataclass(eq=False)
class Scheduler:
    """Runs actors one at a time until all have ended."""

    random: Random
    start: datetime
    locks: LockWatch
    swap: Callable[[Process | None, Process], None]
    faults: Faults = field(default_factory=NoFaults)
    # Called after each step with the actor that ran.
    on_step: Callable[[Actor], None] = lambda _actor: None
    on_freeze: Callable[[Process], None] = lambda _process: None
    seconds: float = 0.0
    actors: list[Actor] = field(default_factory=list)
    last: Process | None = None
    steps: int = 0
    trace: list[str] = field(default_factory=list)
    is_over: bool = False

    # The clock

    def now(self) -> datetime:
        """Return the simulated time."""
        return self.start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return the simulated seconds."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let an actor sleep."""
        self.wait(lambda: False, timeout=seconds, gate="sleep")

    # For actors

    def spawn(self, name: str, process: Process, work: Callable[[], object]) -> Actor:
        """Add an actor. It begins when it is chosen."""
        actor = Actor(name, process)

        def run() -> None:
            local.actor = actor
            actor.go.acquire()
            try:
                if not self.is_over:
                    work()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 - reported by the schedule
                if not self.is_over:
                    actor.error = error
            finally:
                actor.next_state = State.DONE
                actor.parked.release()

        actor.thread = threading.Thread(target=run, name=name, daemon=True)
        self.actors.append(actor)
        actor.thread.start()
        return actor

    def stop_at(self, gate: str) -> None:
        """Stop the current actor until it is chosen again. Outside the simulation, do nothing."""
        if current_actor() is not None:
            self.park(State.READY, gate)

    def wait(self, holds: Callable[[], bool], *, timeout: float | None, gate: str) -> bool:
        """Stop the current actor until a condition holds. Return False if the time was over before."""
        actor = current_actor()
        if actor is None:
            raise AssertionError("only actors wait")
        actor.holds = holds
        actor.deadline = None if timeout is None else self.seconds + max(0.0, timeout)
        self.park(State.WAITING, gate)
        return holds()

    def park(self, state: State, gate: str) -> None:
        """Give the turn back and wait for the next one. A frozen actor waits for the end of the schedule."""
        actor = current_actor()
        assert actor is not None
        if self.is_over:
            raise Killed
        actor.next_state, actor.gate = state, gate
        actor.parked.release()
        actor.go.acquire()
        if self.is_over:
            raise Killed

    # The schedule

    def run(self) -> None:
        """Run until every actor has ended or is frozen. Raise Stuck if some cannot go on."""
        while True:
            able = [actor for actor in self.actors if self.is_able(actor)]
            if not able:
                if any(actor.state == State.BLOCKED for actor in self.actors):
                    self.wait_for_blocked()
                    continue
                deadlines = [a.deadline for a in self.actors if a.state == State.WAITING and a.deadline is not None]
                if deadlines:
                    self.seconds = max(self.seconds, min(deadlines))
                    continue
                waiting = [a for a in self.actors if a.state == State.WAITING]
                if waiting:
                    raise Stuck("; ".join(f"{a.name} waits at {a.gate}" for a in waiting))
                return
            actor = self.random.choice(able)
            if self.interfere(actor):
                continue
            self.seconds += self.random.uniform(*STEP_SECONDS)
            self.step(actor)

    def is_able(self, actor: Actor) -> bool:
        """Return whether an actor can take a step."""
        if actor.state == State.READY:
            return True
        if actor.state != State.WAITING:
            return False
        return (actor.deadline is not None and self.seconds >= actor.deadline) or actor.holds()

    def interfere(self, actor: Actor) -> bool:
        """Let something go wrong at an actor's turn, perhaps. Return whether it loses the turn."""
        process = actor.process
        if process.is_mortal and self.faults.may_freeze(process):
            self.freeze(process)
            return True
        if actor.backends and self.faults.may_drop(actor):
            self.note(f"{actor.name} loses its connection")
            process.has_lost_connection = True
            self.locks.terminate(actor)
        if actor.state == State.READY and self.faults.may_delay(actor):
            seconds = self.random.choice(SLOW_SECONDS)
            self.note(f"{actor.name} is slow for {seconds:g} s")
            actor.state, actor.deadline, actor.holds = State.WAITING, self.seconds + seconds, lambda: False
            return True
        return False

    def freeze(self, process: Process) -> None:
        """Kill a process: its threads never run again, and its database sessions end."""
        self.note(f"{process} is killed")
        process.is_frozen = True
        for actor in self.actors:
            if actor.process is process and actor.state != State.DONE:
                actor.state = State.FROZEN
                self.locks.terminate(actor)
        self.on_freeze(process)
        self.collect_blocked()

    def step(self, actor: Actor) -> None:
        """Let one actor run to its next gate, or until it waits for a lock."""
        self.swap(self.last, actor.process)
        self.last = actor.process
        self.steps += 1
        self.note(f"{actor.name}: {actor.gate}")
        actor.state = State.RUNNING
        actor.go.release()
        self.wait_for_gate(actor)
        self.collect_blocked()
        self.on_step(actor)

    def wait_for_gate(self, actor: Actor) -> None:
        """Wait until an actor stops, or waits for a lock."""
        began = time.monotonic()
        while not actor.parked.acquire(timeout=STATEMENT_TAKES):
            if actor.is_in_statement and self.locks.waits_for_lock(actor):
                self.note(f"{actor.name} waits for a lock")
                # Its thread stops as soon as the statement returns.
                actor.is_blocked, actor.state = True, State.BLOCKED
                return
            if time.monotonic() - began > STUCK_AFTER:
                raise Stuck(f"{actor.name} does not come back from {actor.gate}:\n{stack_of(actor)}")
        actor.state = actor.next_state

    def collect_blocked(self) -> None:
        """Collect the actors whose lock was released: they stopped behind their statement."""
        for actor in self.actors:
            if actor.state == State.BLOCKED and not self.locks.waits_for_lock(actor):
                if not actor.parked.acquire(timeout=STUCK_AFTER):
                    raise Stuck(f"{actor.name} does not come back from {actor.gate}")
                actor.state = actor.next_state
                self.note(f"{actor.name} goes on")

    def wait_for_blocked(self) -> None:
        """Only blocked actors are left: the database resolves deadlocks, and other waiting actors' times come."""
        deadlines = [a.deadline for a in self.actors if a.state == State.WAITING and a.deadline is not None]
        if deadlines:
            self.seconds = max(self.seconds, min(deadlines))
            return
        raise Stuck(
            "; ".join(f"{a.name} waits for a lock at {a.gate}" for a in self.actors if a.state == State.BLOCKED)
        )

    def note(self, event: str) -> None:
        """Add an event to the trace."""
        self.trace.append(event)

    def digest(self) -> str:
        """Return a hash of everything that happened, in order."""
        return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()

    def end(self) -> None:
        """End the threads that were frozen or are stuck, one by one."""
        self.is_over = True
        self.swap(self.last, Process("the dead"))
        for actor in self.actors:
            for held in actor.connections:
                held.close()
            if actor.thread is not None and actor.thread.is_alive():
                actor.go.release()
                actor.thread.join(timeout=STUCK_AFTER)
