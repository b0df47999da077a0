"""Several long-running programs as one: they run until we are told to end, and a program that dies starts again."""

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
# A Celery worker with nothing to do takes five to seven seconds to end: it sits out its own waits, one after another.
# Together with the database's end this stays below ten.
GRACE = 7.0
# A program that died so often within so many seconds is not started again.
DEATHS_LIMIT = 5
DEATHS_WITHIN = 60.0
# How long what a dead program started has to end by itself before it is killed: a pool settles what it has in hand.
ORPHANS_GRACE = 3.0
LAST_LINES = 15

log = logging.getLogger(__name__)


class Ended(RuntimeError):
    """A program that should run for as long as we do has ended by itself, and is not started again."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, under a name people know it by."""

    name: str
    command: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A program that was started, and where it writes."""

    program: Program
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End the program and all it started, at once: they are a process group of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left of it, nor of what it started."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


@contextmanager
def programs(wanted: Sequence[Program], *, environment: Mapping[str, str], logs: Path) -> Iterator[list[Running]]:
    """Run the programs for the length of the block; at its end nothing of them is left."""
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
    """Have the kernel end this process when its parent is killed without a chance to (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def watch(running: list[Running], *, environment: Mapping[str, str]) -> None:
    """Return never. Start a program again that ends, in its place in the list; raise Ended if it ends too often."""
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
    """Raise Ended if one of the programs has ended, with its last lines."""
    for one in running:
        if one.process.poll() is not None:
            raise Ended(f"The {one.program.name} ended by itself (code {one.process.returncode}):\n{last_lines(one)}")


def last_lines(one: Running) -> str:
    return "\n".join(one.log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def stop(running: Sequence[Running]) -> None:
    """End all of them, first by asking, then by force."""
    for one in running:
        # Only the program itself: what it started is its to end (a pool's children take the signal amiss).
        one.process.terminate()
    wait_until_gone(running, seconds=GRACE)
    for one in running:
        if not one.is_gone:
            one.kill()
    # Where nobody collects the dead (a container without an init), they count as there for ever.
    wait_until_gone(running, seconds=1)


def wait_until_gone(running: Sequence[Running], *, seconds: float) -> None:
    """Wait until nothing is left, but not for ever."""
    deadline = time.monotonic() + seconds
    while not all(one.is_gone for one in running) and time.monotonic() < deadline:
        time.sleep(0.05)
