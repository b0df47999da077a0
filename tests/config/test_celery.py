"""Celery's signals: a worker process closes its channels when it stops."""

import pytest
from celery import signals

import config.celery  # noqa: F401 - connects the signals
from delivery import process
from messaging.models import Channel


class OpenChannel:
    is_open = True

    def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("stops", [signals.worker_process_shutdown, signals.worker_shutdown], ids=["pool", "worker"])
def test_worker_that_stops_closes_its_channels(stops):
    channel = OpenChannel()
    process.thread.channels[Channel.EMAIL] = channel

    stops.send(sender=None)

    assert not channel.is_open
    assert process.thread.channels == {}
