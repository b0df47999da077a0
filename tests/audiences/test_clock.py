"""The database's clock, and a machine whose own clock is wrong."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from audiences import clock

pytestmark = pytest.mark.django_db
WRONG = timedelta(minutes=10)


@pytest.mark.parametrize("off", [WRONG, -WRONG])
def test_clock_of_a_task_is_the_databases_however_wrong_the_machines_is_or_becomes(off):
    with time_machine.travel(datetime.now(UTC) + off) as machine:
        began = clock.database_clock()
        running = clock.DatabaseClock()
        machine.shift(off)
        shown = running()
        ended = clock.database_clock()

    assert began <= shown <= ended
    assert abs(ended - datetime.now(UTC)) < WRONG


@pytest.mark.parametrize("off", [timedelta(0), WRONG, -WRONG])
def test_comparison_of_clocks_finds_the_difference_and_its_sign(off):
    with time_machine.travel(datetime.now(UTC) + off):
        found = clock.compare_clocks(timezone.now)

    assert abs(found.ahead - off) < timedelta(seconds=1)
    assert abs(found.at - datetime.now(UTC)) < timedelta(seconds=30)


def test_time_that_the_database_takes_to_answer_is_not_a_wrong_clock(monkeypatch):
    """The answer came after 40 seconds; the clocks may be equal."""
    moment, seconds = datetime(2026, 5, 4, 10, tzinfo=UTC), iter([100.0, 140.0])
    monkeypatch.setattr(clock, "database_clock", lambda: moment)
    monkeypatch.setattr(clock, "steady_seconds", lambda: next(seconds))

    assert clock.compare_clocks(lambda: moment - timedelta(seconds=35)).ahead == timedelta(0)
