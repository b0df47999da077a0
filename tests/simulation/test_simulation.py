"""The engine in simulated processes: nothing is lost, sent twice or stuck, whoever is killed when (docs/simulation.md)."""

import logging
import os
import time

import pytest

from tests.simulation.schedule import Schedule

pytestmark = [pytest.mark.django_db(transaction=True)]

FIRST, LAST = (int(part) for part in os.environ.get("SIMULATION_SEEDS", "1-20").split("-"))


def test_no_schedule_loses_or_repeats_a_copy():
    failed = {}
    logging.disable(logging.CRITICAL)
    for seed in range(FIRST, LAST + 1):
        began = time.monotonic()
        result = Schedule(seed).run()
        if os.environ.get('TWICE'):
                again = Schedule(seed).run()
            if again.digest != result.digest:
                print('DIFFERS', next(((n, a, b) for n, (a, b) in enumerate(zip(result.trace, again.trace)) if a != b), None))
        if result.wrong:
            if os.environ.get("SIMULATION_TRACE"):
                print("\n".join(f"{n} {event[:230]}" for n, event in enumerate(result.trace)))
            failed[seed] = result.wrong
        print(f'{time.monotonic()-began:.3f}', seed, result.actors, result.steps, result.digest, dict(result.faults), dict(result.statuses), result.wrong, dict(result.reached))
    assert failed == {}
