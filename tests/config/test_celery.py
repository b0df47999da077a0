"""Celery's signals: a worker process closes its journals when it stops."""

import pytest
from celery import signals

import config.celery  # noqa: F401 - connects the signals
from delivery import process


class OpenJournal:
    is_open = True

    def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("stops", [signals.worker_process_shutdown, signals.worker_shutdown], ids=["pool", "worker"])
def test_worker_that_stops_closes_its_journals(stops):
    journal = OpenJournal()
    process.free_journals.append(journal)

    stops.send(sender=None)

    assert not journal.is_open
    assert process.free_journals == []
