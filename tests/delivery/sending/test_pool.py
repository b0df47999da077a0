"""The pool of sending threads: jobs run side by side, each thread with its own connection and none to the database."""

import threading
import time

import pytest

from audiences.models import Customer
from delivery.concurrency import Concurrency
from delivery.sending.pool import DatabaseForbidden, Job, Pool


class Line:
    """A connection that notes by which threads it was used, and whether it is open."""

    opened: list["Line"]

    def __init__(self) -> None:
        self.users: set[int] = set()
        self.is_open = True
        Line.opened.append(self)

    def close(self) -> None:
        self.is_open = False


@pytest.fixture(autouse=True)
def no_lines() -> None:
    Line.opened = []


def pool_of(limit: int, *, wanted: int | None = None, **facts) -> Pool[Line]:
    """Return a pool that may use so many connections, and uses them from the start unless told otherwise."""
    return Pool("test", open_connection=Line, concurrency=Concurrency(limit, wanted=wanted or limit), **facts)


def answers_of(pool: Pool[Line], number: int) -> list[Job[Line]]:
    found: list[Job[Line]] = []
    deadline = time.monotonic() + 10
    while len(found) < number and time.monotonic() < deadline:
        found += pool.wait_for_answers(timeout=1)
    return found


def test_jobs_run_at_the_same_time_each_on_a_connection_of_its_thread():
    together = threading.Barrier(4)

    def work(line: Line) -> str:
        line.users.add(threading.get_ident())
        together.wait(5)
        return "done"

    with pool_of(4) as pool:
        pool.hand_out([Job(work, subject=number) for number in range(4)])
        found = answers_of(pool, 4)

    assert sorted(job.subject for job in found) == list(range(4))
    assert {job.answer for job in found} == {"done"}
    assert len(Line.opened) == 4
    assert [len(line.users) for line in Line.opened] == [1] * 4
    assert not any(line.is_open for line in Line.opened)


def test_an_error_of_a_job_is_its_answer_and_the_thread_goes_on():
    def fails(_line: Line) -> None:
        raise SystemExit(3)

    with pool_of(1) as pool:
        pool.hand_out([Job(fails), Job(lambda _line: "next")])
        first, second = answers_of(pool, 2)

    assert isinstance(first.error, SystemExit)
    assert (second.answer, second.error) == ("next", None)
    assert len(Line.opened) == 1


@pytest.mark.django_db
def test_a_sending_thread_that_asks_the_database_fails_with_the_reason():
    with pool_of(1) as pool:
        pool.hand_out([Job(lambda _line: Customer.objects.count())])
        (job,) = answers_of(pool, 1)

    assert isinstance(job.error, DatabaseForbidden)
    assert "uses no database connection" in str(job.error)
    assert Customer.objects.count() == 0


def test_withdrawn_jobs_are_never_begun_and_all_others_answer():
    goes_on, ran = threading.Event(), []

    def work(number: int) -> None:
        ran.append(number)
        goes_on.wait(5)

    with pool_of(2) as pool:
        pool.hand_out([Job(lambda _line, n=n: work(n), subject=n) for n in range(6)])
        while pool.in_flight < 2:
            time.sleep(0.001)
        even = pool.withdraw(only=lambda job: job.subject % 2 == 0)
        rest = pool.withdraw()
        goes_on.set()
        found = answers_of(pool, 2)

    assert [job.subject for job in even] == [2, 4]
    assert [job.subject for job in rest] == [3, 5]
    assert sorted(job.subject for job in found) == sorted(ran) == [0, 1]


def test_jobs_handed_out_first_go_before_those_that_wait():
    goes_on, order = threading.Event(), []
    with pool_of(1) as pool:
        pool.hand_out([Job(lambda _line: goes_on.wait(5))])
        while not pool.in_flight:
            time.sleep(0.001)
        pool.hand_out([Job(lambda _line: order.append("campaign"))])
        pool.hand_out_first([Job(lambda _line: order.append("direct 1")), Job(lambda _line: order.append("direct 2"))])
        goes_on.set()
        answers_of(pool, 4)

    assert order == ["direct 1", "direct 2", "campaign"]


def test_job_is_begun_when_it_is_due_and_holds_up_no_job_that_is():
    now, began = time.monotonic(), {}
    with pool_of(1) as pool:
        pool.hand_out(
            [
                Job(lambda _line, name=name: began.setdefault(name, time.monotonic()), due=now + wait)
                for name, wait in (("third", 0.3), ("first", 0.0), ("second", 0.15))
            ]
        )
        answers_of(pool, 3)

    assert list(began) == ["first", "second", "third"]
    assert began["second"] >= now + 0.15
    assert began["third"] >= now + 0.3


def test_threads_end_beyond_a_lowered_limit_and_close_their_connections():
    together = threading.Barrier(4)
    with pool_of(4) as pool:
        pool.hand_out([Job(lambda _line: together.wait(5)) for _ in range(4)])
        answers_of(pool, 4)
        pool.concurrency.limit = 1
        pool.hand_out([Job(lambda _line: None) for _ in range(8)])
        answers_of(pool, 8)
        deadline = time.monotonic() + 5
        while pool.threads > 1 and time.monotonic() < deadline:
            time.sleep(0.001)

        assert pool.threads == 1
        assert sum(line.is_open for line in Line.opened) == 1


def test_idle_thread_closes_its_connection():
    with pool_of(1, idle_seconds=0.05) as pool:
        pool.hand_out([Job(lambda _line: None)])
        answers_of(pool, 1)
        deadline = time.monotonic() + 5
        while pool.threads and time.monotonic() < deadline:
            time.sleep(0.001)

        assert pool.threads == 0
        assert not Line.opened[0].is_open
        pool.hand_out([Job(lambda _line: None)])
        assert len(answers_of(pool, 1)) == 1


def test_threads_are_added_only_as_answers_come():
    most = 0
    with pool_of(50, wanted=1) as pool:
        pool.hand_out([Job(lambda _line: time.sleep(0.02)) for _ in range(15)])
        assert pool.threads == 1
        while pool.queue:
            pool.wait_for_answers(timeout=1)
            most = max(most, pool.threads)

    assert 4 <= most <= 15


def test_thread_that_the_system_does_not_start_is_not_counted_and_the_others_do_its_jobs(monkeypatch):
    start, started = threading.Thread.start, []

    def start_first(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_first)
    with pool_of(3) as pool:
        pool.hand_out([Job(lambda _line: "done", subject=number) for number in range(3)])
        assert pool.threads <= 1
        found = answers_of(pool, 3)

    assert len(started) > 1
    assert {job.answer for job in found} == {"done"}
    assert pool.threads == 0
