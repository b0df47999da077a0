"""Connections to mail servers and providers, shared by the dispatchers of all machines (behaviour 5)."""

from django.db import models
from django.db.models.functions import Now

from messaging.models import Channel


class ChannelConnections(models.Model):
    """One channel: how many connections its server takes, as far as is known. Its row is the lock of the shares."""

    channel = models.CharField(primary_key=True, max_length=8, choices=Channel)
    # Null: the server has refused none, so the number of the settings applies.
    accepted = models.PositiveSmallIntegerField(null=True, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)
    # When a dispatcher last asked for another one, if that has not begun.
    asked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.channel}: {self.accepted or 'as many as set'}"


class ConnectionShare(models.Model):
    """The connections that one dispatcher may have open, and has, until its lease ends."""

    holder = models.UUIDField(primary_key=True)
    channel = models.ForeignKey(ChannelConnections, on_delete=models.CASCADE, related_name="shares")
    connections = models.PositiveSmallIntegerField()
    in_use = models.PositiveSmallIntegerField(default=0)
    # Whether a server answers over one of its connections.
    is_answered = models.BooleanField(default=False, db_default=False)
    # When it was taken: the first dispatchers keep their connections if there are too few for all. Urgent ones come
    # before all others (`sending.connections`).
    since = models.DateTimeField(db_default=Now())
    until = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="share_covers_use", condition=models.Q(in_use__lte=models.F("connections")))
        ]

    def __str__(self) -> str:
        return f"{self.connections} of {self.channel_id} until {self.until:%H:%M:%S}"
