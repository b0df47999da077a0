"""Jobs at the same moment, each in a thread with its own database connection."""

import multiprocessing
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any

from django.db import connection, connections

Job = Callable[[], object]
FORK = multiprocessing.get_context("fork")
READY_WITHIN = 30
# Seconds between two queries for waiting connections.
EVERY = 0.01


@dataclass
class Run:
    """The results of the jobs, and their errors."""

    returned: list[Any] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass
class LockWaits:
    """Times that connections of one name waited for the locks of other connections, as the database reports them.

    Waits for connections of the same name do not count, because they depend on the speed of this machine.
    """

    of: str
    # By connection and start of the wait.
    seen: dict[tuple[int, datetime], float] = field(default_factory=dict)

    def mine(self) -> None:
        """Give the connection of this thread the name."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('application_name', %s, false)", [self.of])

    def look(self) -> None:
        """Record the present waits; call it repeatedly."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid, l.waitstart, extract(epoch FROM clock_timestamp() - l.waitstart)::float8"
                " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE NOT l.granted AND l.waitstart IS NOT NULL AND a.application_name = %s"
                " AND EXISTS (SELECT FROM pg_stat_activity b"
                " WHERE b.pid = ANY(pg_blocking_pids(a.pid)) AND b.application_name <> %s)",
                [self.of, self.of],
            )
            self.seen |= {(pid, began): waited for pid, began, waited in cursor.fetchall()}
        time.sleep(EVERY)

    def longest(self) -> float:
        """Return the longest total wait of one connection."""
        total: dict[int, float] = defaultdict(float)
        for (pid, _), waited in self.seen.items():
            total[pid] += waited
        return max(total.values(), default=0.0)


def at_once(
    jobs: Sequence[Job],
    *,
    meanwhile: Sequence[Job] = (),
    processes: int = 0,
    warm_up: Job = lambda: connection.ensure_connection(),
    within: float = 60,
) -> Run:
    """Run all jobs at once, and meanwhile repeat those of `meanwhile` in this process.

    With `processes`, the jobs run in that many processes, as in a web server, so that they wait for the database and
    not for this process; with 0 they run here. Each thread warms up its connection before all begin.
    """
    start, over = FORK.Barrier(len(jobs) + len(meanwhile)), FORK.Event()
    run = Run()
    connections.close_all()  # No connection is shared with a fork.
    ends = [send_off(jobs[number::processes], start, warm_up, within=within) for number in range(processes)]
    here = [] if processes else [begin(job, start, run, warm_up) for job in jobs]
    repeated = [begin(job, start, run, warm_up, until=over.is_set) for job in meanwhile]
    for end in ends:
        returned, wrong = end.recv() if end.poll(within + READY_WITHIN) else ([], ["A process did not end."])
        run.returned += returned
        run.wrong += wrong
    wait_for(here, run, within=within)
    over.set()
    wait_for(repeated, run, within=within)
    return run


def elsewhere(job: Job) -> Any:
    """Do a job in another thread, with a database connection of its own, and return its result."""

    def work() -> object:
        try:
            return job()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def send_off(jobs: Sequence[Job], start: Any, warm_up: Job, *, within: float) -> Connection:
    """Run some jobs in another process. Return the end of the pipe that receives their results."""
    ours, theirs = FORK.Pipe(duplex=False)

    def work() -> None:
        run = Run()
        wait_for([begin(job, start, run, warm_up) for job in jobs], run, within=within)
        theirs.send((run.returned, run.wrong))

    FORK.Process(target=work, daemon=True).start()
    return ours


def begin(
    job: Job, start: Any, run: Run, warm_up: Job, *, until: Callable[[], bool] = lambda: True
) -> threading.Thread:
    """Run a job in a thread once all threads are ready, and repeat it until `until` is true."""

    def work() -> None:
        try:
            warm_up()
            start.wait(READY_WITHIN)
            run.returned.append(job())
            while not until():
                job()
        except Exception as reason:  # noqa: BLE001 - the test reports every error
            run.wrong.append(f"{type(reason).__name__}: {reason}")
        finally:
            connection.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_for(threads: Sequence[threading.Thread], run: Run, *, within: float) -> None:
    """Wait until all threads have ended, or until the time is up."""
    deadline = time.monotonic() + within
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            run.wrong.append("A job did not end.")
