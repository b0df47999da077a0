"""A real worker and a real beat: they send a live message, and keep the schedule that staff edited."""

from collections.abc import Callable

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from config import supervisor
from config.supervisor import Running
from delivery import schedule
from messaging.models import State
from tests.factories import CustomerFactory, MessageFactory, rule
from tests.support.mail_catcher import Catcher
from tests.trials.conftest import eventually

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SWEEP, ROUND = "Send due messages", "Match ongoing messages"
BEAT = ("beat", "--pidfile", "", "--loglevel", "INFO")
WORKER = ("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO")


def run_every_second(name: str) -> None:
    second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    PeriodicTask.objects.filter(name=name).update(interval=second, expire_seconds=30, enabled=True)
    PeriodicTasks.update_changed()


def test_live_message_reaches_current_and_later_matches_and_the_edited_schedule_survives(
    at, catcher: Catcher, celery: Callable[..., Running]
):
    CustomerFactory(email="ann@x.example", name="Ann Lee")
    CustomerFactory(email="free@x.example", name="Free")
    run_every_second(SWEEP)
    PeriodicTask.objects.filter(name=ROUND).update(enabled=False)
    worker, beat = celery(*WORKER), celery(*BEAT)

    message = MessageFactory(subject="Hi {{ first_name }}", rules=[rule("name", "contains", "lee")], live=True, at=at)

    eventually(lambda: catcher.caught, within=40, while_running=(worker, beat))
    assert [(mail.recipient, mail.subject) for mail in catcher.caught] == [("ann@x.example", "Hi Ann")]
    eventually(lambda: message.records.counts()["sent"] == 1, within=10, while_running=(worker, beat))

    # Staff switch the sweep off and the round to every second, and beat restarts.
    supervisor.stop([beat])
    PeriodicTask.objects.filter(name=SWEEP).update(enabled=False)
    run_every_second(ROUND)
    swept = PeriodicTask.objects.get(name=SWEEP).total_run_count
    CustomerFactory(email="bob@x.example", name="Bob Lee")
    beat = celery(*BEAT)

    eventually(lambda: len(catcher.caught) == 2, within=40, while_running=(worker, beat))
    assert catcher.caught[1].recipient == "bob@x.example"
    schedule.install()  # As every `migrate` does.
    sweep, hourly = PeriodicTask.objects.get(name=SWEEP), PeriodicTask.objects.get(name=ROUND)
    assert (sweep.enabled, sweep.total_run_count) == (False, swept)
    assert (hourly.enabled, str(hourly.interval)) == (True, "every second")
    assert PeriodicTask.objects.exclude(name="celery.backend_cleanup").count() == len(schedule.TASKS)
    message.refresh_from_db()
    assert message.state == State.LIVE
