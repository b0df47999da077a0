"""A pool of sending threads, each with its own connection to a server and none to the database.

One dispatcher owns a pool: it claims, checks, hands out and settles. The threads only do I/O.

    with Pool("email", open_connection=Email, concurrency=Concurrency(limit=20)) as pool:
        pool.hand_out([Job(lambda email: email.send(envelope), subject=record)])
        for job in pool.wait_for_answers(timeout=0.05):
            job.subject, job.answer, job.error, job.seconds
        not_begun = pool.withdraw()

`open_connection` is called once in each thread, before its first job; each job's `work` is called with its result, and
`close()` when the thread ends. A job handed out runs as soon as a thread is free, in the order of the queue, and not
before it is `due`. A job that `withdraw` returns was not begun and never will be. Every other job comes back from
`wait_for_answers` exactly once: with `answer`, or with `error` if it raised, whose meaning the owner decides. `work`
may decide at the last moment to return without sending.

Threads start while jobs wait, up to the target of `concurrency`, and end if they have nothing to do for `idle_seconds`.
All methods are for the owner's thread only. `close` (or the end of the block) drops the jobs not begun, waits for the
others up to `patience` seconds, and closes the connections.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar

from django.db import connections

from delivery.concurrency import Concurrency

log = logging.getLogger(__name__)

# In seconds. A thread without a job closes its connection after this long.
IDLE_SECONDS = 5.0


class Closable(Protocol):
    """A connection of a thread, opened lazily or not."""

    def close(self) -> None:
        """Close it, whatever its state."""


C = TypeVar("C", bound=Closable)


@dataclass(slots=True, eq=False)
class Job(Generic[C]):
    """One piece of work for a thread with a connection: its subject, and its answer or error."""

    work: Callable[[C], Any]
    subject: Any = None
    # By `time.monotonic`: it stays in the queue until then.
    due: float = 0.0
    answer: Any = None
    error: BaseException | None = None
    # How long the work took, and when it ended, by `time.monotonic`.
    seconds: float = 0.0
    ended_at: float = 0.0


class DatabaseForbidden(RuntimeError):
    """A sending thread used a database connection; only the dispatcher may."""


class ConnectionEnds(Exception):
    """Raised by work whose connection the server refused: its thread ends, and others go on with fewer connections."""


class NoDatabase:
    """Stands in for each database connection in a sending thread."""

    def __getattr__(self, name: str) -> NoReturn:
        raise DatabaseForbidden(f"A sending thread uses no database connection ({name}).")


def forbid_database() -> None:
    """Let every use of a database connection raise in this thread."""
    for alias in connections:
        connections[alias] = NoDatabase()  # type: ignore[assignment]


class Pool(Generic[C]):
    """Sending threads of one server or provider, and the queue of jobs handed out to them."""

    def __init__(
        self,
        name: str,
        *,
        open_connection: Callable[[], C],
        concurrency: Concurrency,
        idle_seconds: float = IDLE_SECONDS,
        patience: float = 60.0,
    ) -> None:
        self.name, self.open_connection, self.concurrency = name, open_connection, concurrency
        self.idle_seconds, self.patience = idle_seconds, patience
        self.queue: deque[Job[C]] = deque()
        self.answered: list[Job[C]] = []
        # `leaving`: threads that take no more jobs and have not yet closed their connection.
        self.threads = self.leaving = self.idle = self.in_flight = 0
        # Threads whose last job was answered, by ident.
        self.answered_threads: set[int] = set()
        self.is_closed = self.is_refused = False
        # How many answers the owner waits for; it is not woken for fewer while the threads have work.
        self.wanted = 1
        lock = threading.Lock()
        self.has_work, self.has_news = threading.Condition(lock), threading.Condition(lock)

    # For the owner

    def hand_out(self, jobs: Iterable[Job[C]]) -> None:
        """Add jobs to the end of the queue."""
        with self.has_work:
            self.queue.extend(jobs)
            self.has_work.notify(min(self.idle, len(self.queue)))
        self.start_threads()

    def hand_out_first(self, jobs: Iterable[Job[C]]) -> None:
        """Add jobs before all others in the queue."""
        with self.has_work:
            self.queue.extendleft(reversed(list(jobs)))
            self.has_work.notify(min(self.idle, len(self.queue)))
        self.start_threads()

    def withdraw(self, *, only: Callable[[Job[C]], bool] = lambda _job: True) -> list[Job[C]]:
        """Take jobs out of the queue and return them: they were not begun, and no thread begins them any more."""
        with self.has_work:
            found = [job for job in self.queue if only(job)]
            chosen = {id(job) for job in found}
            self.queue = deque(job for job in self.queue if id(job) not in chosen)
        return found

    def waiting_jobs(self) -> list[Job[C]]:
        """Return the jobs in the queue at this moment."""
        with self.has_work:
            return list(self.queue)

    def wait_for_answers(self, *, timeout: float, at_least: int = 1) -> list[Job[C]]:
        """Return the jobs that have ended since the last call, as soon as there are `at_least` so many.

        Returns fewer, or none, once a thread has nothing more to do, or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self.has_news:
            self.wanted = at_least
            while len(self.answered) < at_least and (self.queue or not self.answered):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.has_news.wait(left)
            found, self.answered = self.answered, []
        for job in found:
            if isinstance(job.error, ConnectionEnds):
                self.is_refused = True
                self.concurrency.record_refusal(at=job.ended_at)
            elif job.error is None:
                self.concurrency.record_answer(job.seconds, at=job.ended_at)
        self.start_threads()
        return found

    @property
    def has_others(self) -> bool:
        """Whether other threads than one are at work. For sending threads too."""
        return self.threads - self.leaving > 1

    def set_limit(self, limit: int) -> None:
        """Let at most so many threads have a connection. The others end as soon as they are free."""
        with self.has_work:
            self.concurrency.limit = limit
            self.has_work.notify_all()

    def start_threads(self) -> None:
        """Start as many threads as jobs wait for, up to the target."""
        with self.has_work:
            now = time.monotonic()
            due = sum(job.due <= now for job in self.queue)
            missing = min(self.concurrency.target - self.threads, due - self.idle)
            missing = 0 if self.is_closed else max(0, missing)
            self.threads += missing
        for number in range(missing):
            try:
                threading.Thread(target=self.run_thread, name=f"sending-{self.name}", daemon=True).start()
            except RuntimeError:
                log.warning("%s: the system starts no further thread", self.name, exc_info=True)
                with self.has_work:
                    self.threads -= missing - number
                return

    def close(self, *, patience: float | None = None) -> None:
        """End the threads after their current jobs; jobs not begun are dropped. Connections are closed.

        Returns after `patience` seconds (None: the pool's) although threads still work.
        """
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        with self.has_news:
            self.is_closed = True
            self.queue.clear()
            self.has_work.notify_all()
            while self.threads and (left := deadline - time.monotonic()) > 0:
                self.has_news.wait(left)
        if self.threads:
            log.warning("%s: %s connections are still in use", self.name, self.threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # For the threads

    def run_thread(self) -> None:
        """Run jobs until there is nothing to do, or there are more threads than wanted."""
        forbid_database()
        connection: C | None = None
        try:
            while (job := self.next_job()) is not None:
                began = time.monotonic()
                try:
                    if connection is None:
                        connection = self.open_connection()
                    job.answer = job.work(connection)
                except BaseException as error:  # noqa: BLE001 - the owner decides what it means
                    job.error = error
                job.ended_at = time.monotonic()
                job.seconds = job.ended_at - began
                if not self.report(job):
                    break
        finally:
            try:
                if connection is not None:
                    connection.close()
            except Exception:
                log.warning("%s: a connection could not be closed", self.name, exc_info=True)
            with self.has_news:
                self.threads -= 1
                self.leaving -= 1
                self.answered_threads.discard(threading.get_ident())
                self.has_news.notify()

    def next_job(self) -> Job[C] | None:
        """Return the next job, waiting for one; None if this thread is to end."""
        with self.has_work:
            while not self.is_closed and self.threads - self.leaving <= self.concurrency.target:
                now = time.monotonic()
                for place, job in enumerate(self.queue):
                    if job.due <= now:
                        del self.queue[place]
                        self.in_flight += 1
                        return job
                next_due = min((job.due - now for job in self.queue), default=self.idle_seconds)
                self.idle += 1
                has_news = self.has_work.wait(min(next_due, self.idle_seconds))
                self.idle -= 1
                if not has_news and not self.queue:
                    break
            self.leaving += 1
            return None

    def report(self, job: Job[C]) -> bool:
        """Give an answered job to the owner. Return whether the thread goes on."""
        goes_on = not isinstance(job.error, ConnectionEnds)
        with self.has_news:
            self.leaving += not goes_on
            (self.answered_threads.add if job.error is None else self.answered_threads.discard)(threading.get_ident())
            self.answered.append(job)
            self.in_flight -= 1
            if len(self.answered) >= self.wanted or not self.queue:
                self.has_news.notify()
        return goes_on
