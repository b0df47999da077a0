"""Heartbeats: when periodic work last ran, read by /healthz; and the clocks of the machines."""

from datetime import datetime, timedelta

from django.db import models


class Heartbeat(models.Model):
    """One row for each kind of periodic work."""

    name = models.CharField(primary_key=True, max_length=40)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def record_run(cls, name: str, *, at: datetime) -> None:
        """Record that it ran to its end."""
        Heartbeat.objects.bulk_create(
            [Heartbeat(name=name, at=at)], update_conflicts=True, unique_fields=["name"], update_fields=["at"]
        )


class MachineClock(models.Model):
    """How far the clock of a machine is ahead of the database's, as one of its workers or beats last found."""

    # After this long without a worker or beat, nothing is known about a machine.
    FORGOTTEN_AFTER = timedelta(days=1)

    machine = models.CharField(primary_key=True, max_length=255)
    ahead = models.DurationField()
    # By the database's clock.
    at = models.DateTimeField()

    def __str__(self) -> str:
        seconds = round(self.ahead.total_seconds())
        where = "behind" if seconds < 0 else "ahead of"
        return f"The clock of {self.machine} is {abs(seconds):,} seconds {where} the database’s."

    @classmethod
    def record_clock(cls, machine: str, *, ahead: timedelta, at: datetime) -> None:
        """Record a comparison, and forget the machines that no longer make any."""
        MachineClock.objects.bulk_create(
            [MachineClock(machine=machine, ahead=ahead, at=at)],
            update_conflicts=True,
            unique_fields=["machine"],
            update_fields=["ahead", "at"],
        )
        MachineClock.objects.filter(at__lt=at - cls.FORGOTTEN_AFTER).delete()
