"""The supervisor with real processes, ended in every way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.processes

# Starts a child of its own, then waits. The stubborn one ignores SIGTERM.
PARENT = """
import signal, subprocess, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("started", flush=True)
if sys.argv[1] == "dying":
    sys.exit(3)
time.sleep(60)
"""
SUPERVISOR = """
import os, sys
from pathlib import Path
from config import supervisor
from config.postgres import embedded

supervisor.GRACE = supervisor.ORPHANS_GRACE = 0.5
names = sys.argv[2:]
wanted = [supervisor.Program(name=name, command=(sys.executable, "-c", os.environ["PARENT"], name)) for name in names]
try:
    with embedded.endings_raise():
        with supervisor.programs(wanted, environment=os.environ, logs=Path(sys.argv[1])) as running:
            print(*(one.process.pid for one in running), flush=True)
            supervisor.watch(running, environment=os.environ)
except supervisor.Ended as ended:
    sys.exit(str(ended))
"""


class Supervised:
    """A supervisor in a process group of its own, with its programs and their children."""

    def __init__(self, logs: Path, *names: str):
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", SUPERVISOR, str(logs), *names],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PARENT": PARENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.programs = [one for pid in self.process.stdout.readline().split() for one in process_of(int(pid))]
        deadline = time.monotonic() + 10
        while not all("started" in (logs / f"{name}.log").read_text() for name in names):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.all = [one for program in self.programs for one in (program, *children_of(program))]

    def left(self) -> list[psutil.Process]:
        """Return the processes that are left after a moment."""
        return left_of(self.all)


def process_of(pid: int) -> list[psutil.Process]:
    """Return the process, unless it is gone already: a program that dies may end before a test looks."""
    try:
        return [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return []


def children_of(program: psutil.Process) -> list[psutil.Process]:
    """Return the children of a program; none if it is gone already."""
    try:
        return program.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run after a moment. One that is dead may not be collected yet."""
    return [one for one in psutil.wait_procs(processes, timeout=2)[1] if one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def supervised(tmp_path):
    started = []

    def supervise(*names: str) -> Supervised:
        started.append(Supervised(tmp_path, *names))
        return started[-1]

    yield supervise
    for one in started:
        one.process.kill()
        one.process.communicate()
        for process in one.left():
            process.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_supervisor_ends_with_all_its_programs(supervised, ending):
    running = supervised("one", "two")
    assert len(running.all) == 4

    running.process.send_signal(ending)

    assert running.process.wait(timeout=5) == 128 + ending
    assert running.left() == []


def test_ctrl_c_reaches_the_whole_group_and_ends_it(supervised):
    running = supervised("one", "two")

    os.killpg(running.process.pid, signal.SIGINT)
    time.sleep(0.1)
    os.killpg(running.process.pid, signal.SIGINT)

    running.process.wait(timeout=5)
    assert running.left() == []


def test_program_that_ignores_sigterm_is_killed(supervised):
    running = supervised("stubborn", "two")

    running.process.terminate()

    running.process.wait(timeout=5)
    assert running.left() == []


def restarted(running: Supervised, died: psutil.Process) -> psutil.Process:
    """Wait until another program runs in the place of one that died."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in psutil.Process(running.process.pid).children():
            if child not in running.programs and child.cmdline()[-1:] == ["two"]:
                return child
        time.sleep(0.02)
    raise AssertionError(f"Nothing was started for {died}.")


def test_program_that_dies_is_restarted_and_the_others_continue(supervised, tmp_path):
    running = supervised("one", "two")
    one, two = running.programs
    children = two.children(recursive=True)

    two.kill()
    again = restarted(running, two)

    assert left_of(children) == []
    assert one.is_running()
    deadline = time.monotonic() + 10
    while (tmp_path / "two.log").read_text().count("started") < 2:
        assert time.monotonic() < deadline, "The log of the program that died was not kept."
        time.sleep(0.02)
    running.all += [again, *again.children(recursive=True)]
    running.process.terminate()
    assert running.process.wait(timeout=5) == 128 + signal.SIGTERM
    assert "The two ended by itself (code -9) and is started again" in running.process.stderr.read()
    assert running.left() == []


def test_program_that_dies_repeatedly_ends_all_programs(supervised):
    running = supervised("one", "dying")

    assert running.process.wait(timeout=30) == 1
    said = running.process.stderr.read()
    assert said.count("The dying ended by itself (code 3) and is started again") == 4
    assert "The dying ended by itself 5 times within 60 seconds (code 3), and was not started again" in said
    assert said.rstrip().endswith("started")
    assert running.left() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_programs_end_when_their_supervisor_is_killed(supervised):
    running = supervised("one", "two")

    running.process.kill()
    running.process.wait()

    assert psutil.wait_procs(running.programs, timeout=5)[1] == []
