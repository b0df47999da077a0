"""How many copies are kept in flight: more while the server keeps up, fewer when it slows down."""

from itertools import count

from delivery.sending.pool import MEMORY, SLACK, Concurrency


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

    assert 1 < found.target <= 8


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
    for _ in range(60):
        for _ in range(found.target):
            found.record_answer(next(lengths), at=at)
        at += 0.1

    assert found.target == 50


def test_server_that_answers_at_once_gets_few_connections():
    """A process that works a millisecond for each copy keeps no more than that busy."""
    found, at = Concurrency(limit=100), 0.0
    for _ in range(300):
        at = answers(found, 0.0005 * found.target, rounds=1, begin=at)

    assert 2 <= found.target <= 5


def test_milliseconds_that_threads_wait_for_each_other_are_no_slow_down():
    found = Concurrency(limit=4, wanted=4)
    at = answers(found, 0.0005, rounds=5)
    answers(found, SLACK, rounds=20, begin=at)

    assert found.wanted >= 4
