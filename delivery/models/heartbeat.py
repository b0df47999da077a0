"""Heartbeats: when periodic work last ran, read by /healthz."""

from datetime import datetime

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
