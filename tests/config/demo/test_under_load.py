"""A small run of benchmarks.demo_load: a few hundred calls while the broker's files are damaged at random."""

import pytest

from benchmarks import demo_load

pytestmark = [pytest.mark.processes, pytest.mark.long]


def test_nothing_is_lost_and_no_process_ends():
    with demo_load.demo(customers=1_000) as running:
        figures = demo_load.run(running, calls=400, damage_every=0.03)

    assert figures.failures() == []
    assert figures.damaged.total() > 20
    assert figures.moved_aside > 10
