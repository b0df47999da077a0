"""A seeded scheduler: of many actors, which are threads, exactly one runs at a time, and a random generator chooses it.

An actor stops at each gate: before an SQL statement, before and after a hand-over, and where it sleeps or waits. The
scheduler owns the clock. It also freezes processes for good, drops database connections, and makes actors slow. With
the same seed, everything happens again in the same order.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Protocol

from tests.simulation.processes import Actor, Catch, Killed, Process, State, Stuck, current_actor, local, stack_of

# In seconds of the machine. A statement that takes longer, without a lock wait, ends the run as stuck.
STUCK_AFTER = 20.0
# In seconds of the machine. A statement that takes longer is asked about: does it wait for a lock?
STATEMENT_TAKES, MOST_PATIENCE = 0.002, 0.05
# A schedule with more steps than this fails: an actor goes round in circles.
MAX_STEPS = 4_000
# Some actors are faster than others.
WEIGHTS = (1, 1, 4)
# In seconds of the simulated clock: how long a step takes, a slow actor takes for one, and a process is stopped.
STEP_SECONDS = (0.001, 0.03)
SLOW_SECONDS = (0.1, 0.4, 2.0)
STOPPED_SECONDS = (2.0, 20.0, 400.0)


class LockWatch(Protocol):
    """What the scheduler asks of the database."""

    def waits_for_lock(self, actor: Actor) -> bool:
        """Return whether a statement of the actor waits for a lock. A wait that closes a circle is cancelled."""

    def hold(self, actor: Actor) -> None:
        """Stop the sessions of an actor that wait for locks, so that they do not go on when they get them."""

    def let_go(self, actor: Actor) -> None:
        """Let the sessions of an actor go on."""

    def terminate(self, actor: Actor) -> None:
        """End the database sessions of an actor."""

    def cancel(self, actor: Actor) -> None:
        """Cancel the statement of an actor, which waits for a lock."""


class Faults(Protocol):
    """Chooses what goes wrong."""

    def may_freeze(self, process: Process) -> bool:
        """Return whether a process is killed now."""

    def may_drop(self, actor: Actor) -> bool:
        """Return whether an actor's database connection is lost at its next statement."""

    def may_delay(self, actor: Actor) -> bool:
        """Return whether an actor is slow now."""

    def may_stop(self, process: Process) -> bool:
        """Return whether a process is stopped for a while now."""


class NoFaults:
    """Nothing goes wrong."""

    def may_freeze(self, _process: Process) -> bool:
        return False

    def may_drop(self, _actor: Actor) -> bool:
        return False

    def may_delay(self, _actor: Actor) -> bool:
        return False

    def may_stop(self, _process: Process) -> bool:
        return False


@dataclass(eq=False)
class Scheduler:
    """Runs actors one at a time until all have ended."""

    random: Random
    start: datetime
    locks: LockWatch
    swap: Callable[[Process | None, Process], None]
    faults: Faults = field(default_factory=NoFaults)
    # Called after each step that may have committed something, with the actor that ran.
    on_commit: Callable[[Actor], None] = lambda _actor: None
    on_freeze: Callable[[Process], None] = lambda _process: None
    seconds: float = 0.0
    actors: list[Actor] = field(default_factory=list)
    # Those that have not ended.
    living: list[Actor] = field(default_factory=list)
    # By the name of an actor.
    catches: dict[str, Catch] = field(default_factory=dict)
    max_steps: int = MAX_STEPS
    last: Process | None = None
    steps: int = 0
    trace: list[str] = field(default_factory=list)
    # Those whose sessions are held.
    crowd: list[Actor] = field(default_factory=list)
    is_over: bool = False
    # Whether only statements after a commit are gates: one process is left, and nothing goes wrong.
    is_calm: bool = False

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
        actor = Actor(name, process, weight=self.random.choice(WEIGHTS))

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
        self.living.append(actor)
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
            if self.time_out_locks():
                continue
            able = [actor for actor in self.living if self.is_able(actor)]
            if not able:
                if not self.skip_time():
                    return
                continue
            actor = self.random.choices(able, [actor.weight for actor in able])[0]
            if self.interfere(actor):
                continue
            self.seconds += self.random.uniform(*STEP_SECONDS)
            self.step(actor)
            if self.steps > self.max_steps:
                raise Stuck(f"more than {self.max_steps} steps")

    def skip_time(self) -> bool:
        """Move the clock to the next moment at which an actor can go on. Return False if all have ended."""
        left = [a for a in self.living if a.state not in (State.DONE, State.FROZEN)]
        if not left:
            return False
        moments = [a.deadline for a in left if a.state == State.WAITING and a.deadline is not None]
        moments += [a.lock_deadline for a in left if a.state == State.BLOCKED and a.lock_timeout is not None]
        moments += [a.process.stopped_until for a in left]
        later = [moment for moment in moments if moment > self.seconds]
        if not later:
            raise Stuck("; ".join(f"{a.name} waits at {a.gate}" for a in left))
        self.seconds = min(later)
        return True

    def time_out_locks(self) -> bool:
        """Cancel the statements whose time to wait for a lock is over. Return whether there were any."""
        late = [
            a
            for a in self.living
            if a.state == State.BLOCKED and a.lock_timeout is not None and self.seconds >= a.lock_deadline
        ]
        for actor in late:
            # An earlier one may have let it go on.
            if actor.state == State.BLOCKED:
                self.note(f"{actor.name} waits for a lock no longer")
                actor.is_timed_out = True
                with self.one_by_one(but=actor):
                    self.locks.cancel(actor)
                    # For a moment PostgreSQL still calls it waiting.
                    if not actor.parked.acquire(timeout=STUCK_AFTER):
                        raise Stuck(f"{actor.name} does not come back from a cancelled wait:\n{stack_of(actor)}")
                    actor.state = actor.next_state
                    self.collect_blocked()
        return bool(late)

    def is_able(self, actor: Actor) -> bool:
        """Return whether an actor can take a step."""
        if self.seconds < actor.process.stopped_until:
            return False
        if actor.state == State.READY:
            return True
        if actor.state != State.WAITING:
            return False
        return (actor.deadline is not None and self.seconds >= actor.deadline) or actor.holds()

    def interfere(self, actor: Actor) -> bool:
        """Let something go wrong at an actor's turn, perhaps. Return whether it loses the turn."""
        process = actor.process
        if process.is_mortal and (process.is_doomed or self.faults.may_freeze(process)):
            self.freeze(process)
            return True
        if actor.backends and self.faults.may_drop(actor):
            self.note(f"{actor.name} loses its connection")
            process.has_lost_connection = True
            with self.one_by_one(but=actor):
                self.locks.terminate(actor)
                self.collect_blocked()
        if process.is_mortal and self.faults.may_stop(process):
            seconds = self.random.choice(STOPPED_SECONDS)
            self.note(f"{process} is stopped for {seconds:g} s")
            process.stopped_until = self.seconds + seconds
            return True
        if actor.state == State.READY and self.is_caught(actor):
            return True
        if actor.state == State.READY and self.faults.may_delay(actor):
            seconds = self.random.choice(SLOW_SECONDS)
            self.note(f"{actor.name} is slow for {seconds:g} s")
            actor.state, actor.deadline, actor.holds = State.WAITING, self.seconds + seconds, lambda: False
            return True
        return False

    def is_caught(self, actor: Actor) -> bool:
        """Hold an actor that comes to the gate at which it is awaited. Return whether it is held."""
        catch = self.catches.get(actor.name)
        if catch is None or catch.caught or not actor.gate.startswith(catch.gate):
            return False
        self.note(f"{actor.name} is held for {catch.seconds:g} s")
        catch.caught, since = actor, self.seconds
        actor.state, actor.deadline, actor.holds = State.WAITING, since + catch.seconds, lambda: catch.is_over(since)
        return True

    def freeze(self, process: Process) -> None:
        """Kill a process: its threads never run again, and its database sessions end."""
        self.note(f"{process} is killed")
        process.is_frozen = True
        dead = [actor for actor in self.actors if actor.process is process and actor.state != State.DONE]
        for actor in dead:
            actor.state = State.FROZEN
        with self.one_by_one():
            for actor in dead:
                self.locks.terminate(actor)
            self.on_freeze(process)
            self.collect_blocked()

    def step(self, actor: Actor) -> None:
        """Let one actor run to its next gate, or until it waits for a lock."""
        self.swap(self.last, actor.process)
        self.last = actor.process
        self.steps += 1
        self.note(f"{actor.name}: {actor.gate}")
        actor.state, actor.has_released = State.RUNNING, False
        with self.one_by_one():
            actor.go.release()
            self.wait_for_gate(actor)
            # A step that only takes locks lets none of the others go on.
            others_went_on = actor.has_released and self.collect_blocked()
        if actor.has_released or others_went_on:
            self.on_commit(actor)
        if actor.state == State.DONE:
            self.living.remove(actor)
        if actor.error is not None:
            raise Stuck(f"{actor.name} ended with {actor.error!r}")

    def wait_for_gate(self, actor: Actor) -> None:
        """Wait until an actor stops, or waits for a lock."""
        began, patience = time.monotonic(), STATEMENT_TAKES
        while not actor.parked.acquire(timeout=patience):
            # To ask costs as much as many a statement.
            patience = min(2 * patience, MOST_PATIENCE)
            if actor.is_in_statement and self.locks.waits_for_lock(actor):
                self.note(f"{actor.name} waits for a lock")
                # Its thread stops as soon as the statement returns.
                actor.is_blocked, actor.state, actor.blocked_since = True, State.BLOCKED, self.steps
                actor.lock_deadline = self.seconds + (actor.lock_timeout or 0.0)
                return
            if time.monotonic() - began > STUCK_AFTER:
                raise Stuck(f"{actor.name} does not come back from {actor.gate}:\n{stack_of(actor)}")
        actor.state = actor.next_state

    @contextmanager
    def one_by_one(self, *, but: Actor | None = None) -> Iterator[None]:
        """Hold the sessions that wait for locks during the block.

        Otherwise PostgreSQL would wake some of them at once, and the machine would decide who is first.
        """
        self.crowd = [actor for actor in self.living if actor.state == State.BLOCKED and actor is not but]
        try:
            for actor in self.crowd:
                self.locks.hold(actor)
            yield
        finally:
            for actor in self.crowd:
                self.locks.let_go(actor)
            self.crowd = []

    def collect_blocked(self) -> bool:
        """Let the actors whose lock was released stop behind their statement. Return whether there were any.

        One of them may let the next one go on, so this ends when all that are left wait.
        """
        waiting = sorted((a for a in self.living if a.state == State.BLOCKED), key=lambda a: a.blocked_since)
        found: list[Actor] = []
        while again := [actor for actor in waiting if actor not in found and self.goes_on(actor)]:
            found += again
        return bool(found)

    def goes_on(self, actor: Actor) -> bool:
        """Return whether an actor that waited for a lock has it, and let it alone go on as far as it can."""
        if actor in self.crowd:
            self.locks.let_go(actor)
        if self.is_released(actor):
            self.note(f"{actor.name} goes on")
            return True
        if actor in self.crowd:
            self.locks.hold(actor)
        return False

    def is_released(self, actor: Actor) -> bool:
        """Return whether the statement of an actor that waited for a lock has returned, and stop the actor."""
        began = time.monotonic()
        while not actor.parked.is_there():
            if self.locks.waits_for_lock(actor):
                return False
            if actor.parked.acquire(timeout=STATEMENT_TAKES):
                break
            if time.monotonic() - began > STUCK_AFTER:
                raise Stuck(f"{actor.name} does not come back from {actor.gate}:\n{stack_of(actor)}")
        actor.state = actor.next_state
        if actor.error is not None:
            raise Stuck(f"{actor.name} ended with {actor.error!r}")
        return True

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
