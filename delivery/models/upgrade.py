"""Upgrades: when this installation was upgraded to a version with a change that code must know about."""

from datetime import datetime

from django.db import models


class Upgrade(models.Model):
    """One row for each such version, written by its migration."""

    # Since then bounce addresses have a token of their own; before, they had that of the reply address.
    BOUNCE_TOKENS = "bounce_tokens"

    name = models.CharField(primary_key=True, max_length=40)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def moment_of(cls, name: str) -> datetime | None:
        """Return when the upgrade was; None if no migration recorded it."""
        return cls.objects.filter(name=name).values_list("at", flat=True).first()
