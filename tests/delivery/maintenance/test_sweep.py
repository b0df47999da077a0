"""The sweep task queues launches and matches, because it may run in the process that is reserved for sending."""

from datetime import timedelta

import pytest
from django.utils import timezone

from delivery import tasks
from delivery.matching import launch_job
from delivery.models import DeliveryRecord
from messaging import lifecycle
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("is_queued", [True, False])
def test_sweep_launches_and_matches_only_if_no_task_can_be_queued(monkeypatch, is_queued):
    CustomerFactory(email="a@x.example")
    at = timezone.now() - timedelta(hours=2)
    scheduled, asked = MessageFactory(one_off=True), MessageFactory(one_off=True)
    lifecycle.schedule(scheduled, for_=at + timedelta(hours=1), at=at)
    launch_job.request_launch(asked, at=at)
    unmatched = MessageFactory(live=True, at=at)
    queued = []

    def enqueue_task(task, *args, **_later) -> bool:
        queued.append((task, *args))
        return is_queued

    monkeypatch.setattr(tasks, "enqueue_task", enqueue_task)

    tasks.sweep()

    assert {
        (tasks.launch_message, scheduled.pk),
        (tasks.launch_message, asked.pk),
        (tasks.match_message, unmatched.pk),
    } <= set(queued)
    assert DeliveryRecord.objects.count() == (0 if is_queued else 3)
