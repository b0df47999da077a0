"""A real beat or worker is killed: /healthz reports it, and the other emails it once, and once when it is back."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from audiences.models import Workspace
from config.supervisor import Running
from delivery.models import Alarm
from tests.support.mail_catcher import Catcher
from tests.trials import conftest

pytestmark = [pytest.mark.long, pytest.mark.processes, pytest.mark.django_db(transaction=True)]

# These waits take seconds, and some of their conditions are whole requests.
eventually = partial(conftest.eventually, every=0.2)
SECONDS = {"beat": ("BEAT_LATE", 8), "sweep": ("SWEEP_LATE", 8)}
COMMANDS = {
    "beat": ("beat", "--pidfile", "", "--loglevel", "INFO"),
    "worker": ("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
}


def unwell() -> list[str]:
    """Return the failing checks of /healthz; its status code must agree."""
    answer = Client().get("/healthz")
    found = [name for name, each in answer.json().items() if name != "ok" and not each["ok"]]
    assert answer.status_code == (503 if found else 200)
    return found


@pytest.mark.parametrize(
    ("killed", "what", "told"),
    [("beat", "beat", "scheduler (beat) not running"), ("worker", "sweep", "minute sweep not running")],
)
def test_killed_process_is_noticed_within_seconds_and_reported_once(
    environment, settings, catcher: Catcher, celery: Callable[..., Running], killed, what, told
):
    name, seconds = SECONDS[what]
    setattr(settings, name, timedelta(seconds=seconds))
    environment |= {name: str(seconds), "WATCH_EVERY": "1", "ALARM_OVER_AFTER": "4"}
    Workspace.objects.update(alarm_to="ops@acme.example", name="Acme")
    second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    PeriodicTask.objects.filter(name="Send due messages").update(interval=second, expire_seconds=30)
    PeriodicTasks.update_changed()
    running = {each: celery(*COMMANDS[each]) for each in COMMANDS}

    def ran() -> bool:
        answer = Client().get("/healthz").json()
        return answer["ok"] and bool(answer["beat"]["at"] and answer["sweep"]["at"])

    eventually(ran, within=60, while_running=tuple(running.values()))
    # On a busy machine the start takes longer than the limit, which raises an alarm of its own.
    Alarm.objects.all().delete()
    catcher.caught.clear()
    running.pop(killed).kill()

    eventually(lambda: unwell() == [what], within=30, while_running=tuple(running.values()))
    eventually(lambda: subjects(catcher), within=30, while_running=tuple(running.values()))
    looked = Alarm.objects.get().seen_at
    # Later checks send no second email.
    eventually(
        lambda: Alarm.objects.get().seen_at > looked + timedelta(seconds=3), within=30,
        while_running=tuple(running.values()),
    )  # fmt: skip
    assert subjects(catcher) == {f"Alarm: {told} (Acme)": 1}

    running[killed] = celery(*COMMANDS[killed])

    eventually(
        lambda: f"Resolved: {told} (Acme)" in subjects(catcher), within=60, while_running=tuple(running.values())
    )
    assert set(subjects(catcher).values()) == {1}
    assert unwell() == []


def subjects(catcher: Catcher) -> Counter[str]:
    return Counter(mail.subject for mail in catcher.caught)
