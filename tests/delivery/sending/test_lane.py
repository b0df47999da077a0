"""Lanes: how many records a process claims ahead of its connections."""

from types import SimpleNamespace

from delivery.sending.lane import Lane
from delivery.sending.pool import Concurrency, Pool
from messaging.models import Channel


def test_room_is_one_batch_more_than_the_connections_that_help_and_not_the_whole_share(settings):
    settings.IN_FLIGHT = 10
    pool = Pool("email", open_connection=SimpleNamespace, concurrency=Concurrency(limit=20, wanted=3))
    lane = Lane(Channel.EMAIL, pool)

    assert lane.room() == 10
    lane.batches = [SimpleNamespace(unsettled=10)]
    assert lane.room() == 3
    pool.set_limit(0)
    assert lane.room() == 0
