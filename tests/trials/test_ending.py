"""A worker that is asked to stop while sending finishes its copy and puts the rest back, within seconds."""

from collections.abc import Callable

import pytest

from audiences.models import Customer
from config.supervisor import Running
from delivery.matching import ongoing
from delivery.models import Pace
from tests.factories import CustomerFactory, MessageFactory
from tests.support.mail_catcher import Catcher
from tests.trials.conftest import eventually

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def test_stopped_worker_leaves_nothing_claimed_and_nothing_in_doubt(
    at, catcher: Catcher, celery: Callable[..., Running], nudge: Callable[[], object]
):
    Customer.objects.bulk_create(CustomerFactory.build(email=f"{n}@x.example") for n in range(1_000))
    # Slow enough that the worker is stopped in the middle.
    Pace.objects.create(channel="email", per_second=100)
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)
    worker = celery("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO")
    nudge()
    eventually(lambda: len(catcher.caught) >= 50, within=60, while_running=(worker,))

    worker.process.terminate()
    eventually(lambda: worker.is_gone, within=20)

    counts = message.records.counts()
    assert counts["sent"] == len(catcher.caught) < 1_000
    assert counts | {"sending": 0, "uncertain": 0, "waiting": 1_000 - counts["sent"]} == counts
