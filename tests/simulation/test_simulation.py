"""The engine in simulated processes: nothing is lost, sent twice or stuck, whoever is killed and whenever."""

import logging
import os
from collections import Counter
from statistics import mean

import pytest

from tests.simulation.schedule import Schedule

pytestmark = [pytest.mark.django_db(transaction=True)]

# SIMULATION_SEEDS=1-1000 runs these seeds; SIMULATION_TRACE=1 prints the trace of a schedule that fails.
FIRST, LAST = (int(part) for part in os.environ.get("SIMULATION_SEEDS", "1-8").split("-"))
TRACE_LINE = 200


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_schedule_loses_or_repeats_a_copy(capsys):
    failed: dict[int, list[str]] = {}
    reached: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    steps, actors = [], []
    for seed in range(FIRST, LAST + 1):
        result = Schedule(seed).run()
        reached += result.reached + result.faults
        statuses += result.statuses
        steps.append(result.steps)
        actors.append(result.actors)
        if result.wrong:
            failed[seed] = result.wrong
            if os.environ.get("SIMULATION_TRACE"):
                with capsys.disabled():
                    print(*(f"{number} {event[:TRACE_LINE]}" for number, event in enumerate(result.trace)), sep="\n")

    with capsys.disabled():
        print(
            f"\n{len(steps)} schedules, {sum(steps)} steps (mean {mean(steps):.0f}, {min(steps)} to {max(steps)}),"
            f" {min(actors)} to {max(actors)} actors, records {dict(statuses)}, reached {dict(reached)}"
        )
    assert failed == {}


def test_seed_replays_exactly():
    for seed in (3, 11):
        first, second = Schedule(seed).run(), Schedule(seed).run()

        assert first.trace == second.trace
        assert first.statuses == second.statuses
