"""The engine in simulated processes: nothing is lost, sent twice or stuck, whoever is killed and whenever."""

import logging
from collections import Counter
from statistics import mean

import pytest

from tests.simulation import database
from tests.simulation.actors import FEWEST
from tests.simulation.faults import FAULTS
from tests.simulation.schedule import Schedule
from tests.simulation.sometimes import missing_states

pytestmark = [pytest.mark.django_db(transaction=True)]

# `make simulate` runs more of them. In parts, so that several processes run them.
PARTS = [range(first, first + 50) for first in range(1, 201, 50)]
REPLAYED = range(1, 11)
# A planted fault that few schedules find at once.
EASY_FAULT = "4.3 an address gets two copies"


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    database.switch_autovacuum_off()
    yield
    logging.disable(logging.NOTSET)
    database.close_idle_sessions()


@pytest.mark.parametrize("seeds", PARTS, ids=str)
def test_no_schedule_loses_or_repeats_a_copy(seeds):
    found = [Schedule(seed).run() for seed in seeds]

    assert {result.seed: result.wrong for result in found if result.wrong} == {}
    assert min(result.actors for result in found) >= FEWEST
    assert mean(result.steps for result in found) >= 60
    reached = sum((result.reached for result in found), Counter())
    assert missing_states(reached, schedules=len(found)) == []


def test_each_seed_replays_exactly():
    pairs = [(Schedule(seed).run(), Schedule(seed).run()) for seed in REPLAYED]

    assert {one.seed: words for one, again in pairs if (words := one.difference_from(again))} == {}


def test_missing_guard_is_found():
    assert any(Schedule(seed, FAULTS[EASY_FAULT]).run().wrong for seed in PARTS[0])
