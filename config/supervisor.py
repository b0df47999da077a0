"""A supervisor of several programs: it runs them until it is stopped, and restarts a program that ends."""

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.postgres.embedded import undisturbed

PR_SET_PDEATHSIG = 1
# An idle Celery worker takes five to seven seconds to stop; together with the database it stays below ten.
GRACE = 7.0
# A program that ended this many times within this many seconds is not restarted.
DEATHS_LIMIT = 5
DEATHS_WITHIN = 60.0
# Seconds that the children of a dead program have before they are killed: a pool settles its current records.
ORPHANS_GRACE = 3.0
LAST_LINES = 15

log = logging.getLogger(__name__)


class Ended(RuntimeError):
    """A program has ended by itself and is not restarted."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A command, with a name for people."""

    name: str
    command: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A program that was started, with its log."""

    program: Program
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Kill the program and its children: they are one process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def is_gone(self) -> bool:
        """Whether the program and all its children have ended."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


@contextmanager
def programs(wanted: Sequence[Program], *, environment: Mapping[str, str], logs: Path) -> Iterator[list[Running]]:
    """Run the programs during the block. All their processes have ended after it."""
    running: list[Running] = []
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        running.extend(start(program, environment=environment, logs=logs) for program in wanted)
        yield running
    finally:
        with undisturbed():
            stop(running)


def start(program: Program, *, environment: Mapping[str, str], logs: Path, log_mode: str = "wb") -> Running:
    """Start one program out of the terminal's reach: Ctrl-C is for us, and we end the programs in good order."""
    path = logs / f"{program.name}.log"
    with path.open(log_mode) as output:
        process = subprocess.Popen(  # noqa: S603
            program.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    return Running(program=program, process=process, log=path)


def end_with_parent() -> None:
    """Let the kernel end this process if its parent is killed (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def watch(running: list[Running], *, environment: Mapping[str, str]) -> None:
    """Restart programs that end, in their place in the list, for ever. Raise Ended if one ends too often."""
    deaths: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=DEATHS_LIMIT))
    while True:
        for place, one in enumerate(running):
            if one.process.poll() is None:
                continue
            name, code, now = one.program.name, one.process.returncode, time.monotonic()
            deaths[name].append(now)
            if len(deaths[name]) == DEATHS_LIMIT and now - deaths[name][0] <= DEATHS_WITHIN:
                raise Ended(
                    f"The {name} ended by itself {DEATHS_LIMIT} times within {DEATHS_WITHIN:.0f} seconds (code {code}),"
                    f" and was not started again. Its log, {one.log}, ends:\n{last_lines(one)}"
                )
            log.warning("The %s ended by itself (code %s) and is started again. Its log is %s.", name, code, one.log)
            wait_until_gone([one], seconds=ORPHANS_GRACE)
            one.kill()
            running[place] = start(one.program, environment=environment, logs=one.log.parent, log_mode="ab")
        time.sleep(0.2)


def check(running: Sequence[Running]) -> None:
    """Raise Ended, with the end of its log, if a program has ended."""
    for one in running:
        if one.process.poll() is not None:
            raise Ended(f"The {one.program.name} ended by itself (code {one.process.returncode}):\n{last_lines(one)}")


def last_lines(one: Running) -> str:
    return "\n".join(one.log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def stop(running: Sequence[Running]) -> None:
    """Terminate all programs; kill those that remain after the grace period."""
    for one in running:
        # Only the program itself: it ends its children (those of a pool mishandle the signal).
        one.process.terminate()
    wait_until_gone(running, seconds=GRACE)
    for one in running:
        if not one.is_gone:
            one.kill()
    # In a container without an init, zombies remain for ever.
    wait_until_gone(running, seconds=1)


def wait_until_gone(running: Sequence[Running], *, seconds: float) -> None:
    """Wait until all processes have ended, or until the time is over."""
    deadline = time.monotonic() + seconds
    while not all(one.is_gone for one in running) and time.monotonic() < deadline:
        time.sleep(0.05)
