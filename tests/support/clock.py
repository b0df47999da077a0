"""The clock of a journey: it stands still until a test moves it, and then runs the tasks of beat's schedule."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
import time_machine
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from audiences.clock import ClockReading
from config import health
from config.celery import app
from delivery import tasks

HOUR = timedelta(hours=1)


def let_database_follow(patch: pytest.MonkeyPatch) -> None:
    """Let tasks and health checks read the clock that time_machine moves: it does not move the database's."""
    for name in ("database_clock", "DatabaseClock"):
        patch.setattr(tasks, name, timezone.now if name == "database_clock" else lambda: timezone.now)
    patch.setattr(health, "compare_clocks", lambda clock: ClockReading(clock(), timedelta(0)))


@dataclass
class Clock:
    """A frozen clock; `passes` moves it and runs the tasks that beat's schedule has for that time."""

    traveller: time_machine.Traveller
    last: dict[str, datetime] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        return timezone.now()

    def passes(self, *, until: datetime | None = None, **span: float) -> None:
        """Let time pass: `passes(hours=1)`, `passes(days=3)`, `passes(until=...)`.

        Hourly tasks run each hour. Over more than half a day they run every twelve hours, as if beat were slow, and
        over more than a week once at the end, as if beat had not run.
        """
        end = until or self.now + timedelta(**span)
        away = end - self.now
        step = away if away > timedelta(days=7) else timedelta(hours=12) if away > timedelta(hours=12) else HOUR
        while self.now < end:
            due = [self.last[task.name] + max(step, every(task)) for task in self.tasks() if every(task) >= HOUR]
            self.traveller.move_to(max(self.now, min([end, *due])))
            for task in self.tasks():
                if self.now >= self.last[task.name] + every(task):
                    self.last[task.name] = self.now
                    app.tasks[task.task].delay(*json.loads(task.args), **json.loads(task.kwargs))

    def comes(self, moment: str) -> None:
        """Let time pass until the next such moment in UTC: `comes("Saturday 10:00")`."""
        day, _, clock = moment.partition(" ")
        hour, minute = map(int, clock.split(":"))
        end = self.now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        while f"{end:%A}" != day or end <= self.now:
            end += timedelta(days=1)
        self.passes(until=end)

    def tasks(self) -> list[PeriodicTask]:
        found = list(PeriodicTask.objects.filter(enabled=True).exclude(interval=None).order_by("pk"))
        for task in found:
            self.last.setdefault(task.name, self.now)
        return found

    def days_ago(self, days: float) -> int:
        """Return the Unix time of that moment, as a server sends it; negative days are in the future."""
        return int((self.now - timedelta(days=days)).timestamp())


def every(task: PeriodicTask) -> timedelta:
    return timedelta(**{task.interval.period: task.interval.every})
