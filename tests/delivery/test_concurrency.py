"""How many copies are kept in flight: more while the server keeps up, fewer when it slows down."""

import heapq
import random
import statistics
from itertools import count

import pytest

from delivery.concurrency import MEMORY, SLACK, Concurrency


def answers(found: Concurrency, seconds: float, *, rounds: int, begin: float = 0.0) -> float:
    """Record so many rounds, one answer of each connection, and return the moment after them."""
    at = begin
    for _ in range(rounds):
        for _ in range(found.target):
            found.record_answer(seconds, at=at)
        at += seconds
    return at


def test_it_begins_with_one_and_doubles_with_each_round_up_to_the_limit():
    found = Concurrency(limit=20)
    targets = [found.target]
    for _ in range(6):
        answers(found, 0.1, rounds=1)
        targets.append(found.target)

    assert targets == [1, 2, 4, 8, 16, 20, 20]


def test_an_answer_that_never_comes_adds_nothing():
    assert Concurrency(limit=20).target == 1


def test_it_stays_where_more_copies_only_wait_longer():
    """One that can do so much work at a time: the answers take longer in proportion to the copies in flight."""
    found, at = Concurrency(limit=100), 0.0
    for _ in range(200):
        at = answers(found, 0.02 * found.target, rounds=1, begin=at)

    assert found.target <= 8


def test_a_server_that_slows_down_gets_fewer_and_once_it_recovers_more_again():
    found = Concurrency(limit=20)
    at = answers(found, 0.05, rounds=10)
    assert found.target == 20

    at = answers(found, 0.5, rounds=8, begin=at)
    fewer = found.target
    assert fewer < 15
    at = answers(found, 0.05, rounds=20, begin=at)

    assert found.target == 20


def test_a_server_that_is_slower_for_good_is_used_in_full_again_after_a_while():
    found = Concurrency(limit=20)
    at = answers(found, 0.05, rounds=10)
    at = answers(found, 0.5, rounds=10, begin=at)
    assert found.target < 20

    while at < 3 * MEMORY:
        at = answers(found, 0.5, rounds=1, begin=at)

    assert found.target == 20


def test_answers_of_any_length_between_20_and_200_ms_are_no_slow_down():
    found, at = Concurrency(limit=50), 0.0
    lengths = (0.02 + 0.18 * (number * 0.618034 % 1) for number in count())
    targets = []
    for _ in range(100):
        for _ in range(found.target):
            found.record_answer(next(lengths), at=at)
        at += 0.1
        targets.append(found.target)

    # Now and then a quarter fewer are tried.
    assert statistics.median(targets[20:]) == 50
    assert min(targets[20:]) >= 37


@pytest.mark.parametrize(
    ("answer", "work", "limit", "seconds", "fewest", "most"),
    [
        pytest.param(0.0003, 0.0006, 20, 3, 1, 3, id="a server at once: threads would only compete for the processor"),
        pytest.param(0.0003, 0.003, 20, 3, 1, 2, id="a busy machine"),
        pytest.param(0.002, 0.0006, 20, 3, 3, 6, id="a server that answers in two milliseconds"),
        pytest.param(0.1, 0.0008, 20, 2, 20, 20, id="a distant server: all that are allowed"),
        pytest.param(0.1, 0.0008, 150, 3, 90, 150, id="a distant server and many connections"),
    ],
)
def test_number_is_soon_the_one_that_keeps_a_process_busy(answer, work, limit, seconds, fewest, most):
    """A process works one after the other for its copies, and the server answers each after a while."""
    found = Concurrency(limit=limit)
    targets = simulated_targets(found, answer=answer, work=work, seconds=20)

    later = [target for at, target in targets if at > seconds]
    assert fewest <= statistics.median(later) <= most
    assert min(later) >= fewest * 0.7


def test_answers_between_10_and_190_ms_keep_more_than_a_few_connections_busy():
    found = Concurrency(limit=20)
    targets = simulated_targets(found, answer=0.1, work=0.0008, seconds=30, spread=0.9)

    assert statistics.median(target for _at, target in targets) >= 12


def simulated_targets(
    found: Concurrency, *, answer: float, work: float, seconds: float, spread: float = 0.2
) -> list[tuple[float, int]]:
    """Return the moments of the answers and the numbers of connections then."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    now = busy_until = 0.0
    in_flight: list[tuple[float, float]] = []
    targets = []
    while now < seconds:
        while len(in_flight) < found.target:
            busy_until = max(busy_until, now) + work * chance.uniform(0.8, 1.2)
            heapq.heappush(in_flight, (busy_until + answer * chance.uniform(1 - spread, 1 + spread), now))
        now, began = heapq.heappop(in_flight)
        found.record_answer(now - began, at=now)
        targets.append((now, found.target))
    return targets


def test_milliseconds_that_threads_wait_for_each_other_are_no_slow_down():
    found = Concurrency(limit=4, wanted=4)
    at = answers(found, 0.0005, rounds=5)
    answers(found, SLACK, rounds=20, begin=at)

    assert found.wanted >= 4
