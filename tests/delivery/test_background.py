"""Background threads use connections of their own, so that one never closes the pool under another."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from audiences import clock
from config import alarm_thread
from delivery import change_thread
from delivery.monitoring import alarms

pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(seconds=0.01)


@pytest.mark.parametrize("name", ["changes", "alarms"])
def test_thread_uses_a_connection_outside_the_pool_and_closes_it_after_each_run(monkeypatch, name):
    usual = connections.settings["default"]
    pooled = {**usual, "CONN_MAX_AGE": 0, "OPTIONS": {**usual["OPTIONS"], "pool": {"min_size": 1, "max_size": 2}}}
    monkeypatch.setattr(connections, "settings", {"default": pooled})
    ended, seen = threading.Event(), []

    def look(*_watch: object) -> timedelta:
        seen.append((connection.pool, connection.connection))
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if len(seen) == 2:
            ended.set()
        return SOON

    def compare(_machine: object) -> clock.ClockReading:
        look()
        return clock.ClockReading(timezone.now(), timedelta(0))

    monkeypatch.setattr(clock, "compare_clocks", compare)
    monkeypatch.setattr(alarms, "check_alarms", lambda **_at: None)
    monkeypatch.setattr(change_thread, "handle_changes", look)
    monkeypatch.setattr(change_thread, "BUSY_INTERVAL", SOON)
    works = {
        "changes": lambda: change_thread.watch(until=ended),
        "alarms": lambda: alarm_thread.watch(every=0.01, until=ended),
    }
    thread = threading.Thread(target=works[name])
    thread.start()
    thread.join(timeout=20)

    assert not thread.is_alive()
    assert seen == [(None, None)] * 2
