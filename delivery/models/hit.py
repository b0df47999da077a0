"""Links of versions, and hits: opens and clicks by people and by machines."""

from django.db import models

from delivery.models.record import DeliveryRecord
from messaging.models import Message, MessageVersion


class Link(models.Model):
    """The target of a link of a version, with its variables: stored before the first copy, never changed."""

    version = models.ForeignKey(MessageVersion, on_delete=models.CASCADE, related_name="links", db_index=False)
    number = models.PositiveSmallIntegerField()
    address = models.TextField(blank=True, default="")

    class Meta:
        constraints = [models.UniqueConstraint(name="link_numbered_once", fields=("version", "number"))]

    def __str__(self) -> str:
        return self.address


class VisitorKind(models.TextChoices):
    """The kind of visitor; only people count as having opened or clicked."""

    PERSON = "person", "A person"
    # Apple Mail loads every image itself, so an open says nothing about reading.
    PRIVACY = "privacy", "Apple Mail Privacy Protection"
    MACHINE = "machine", "A scanner, bot or prefetch"


class Hit(models.Model):
    """How often a kind of visitor opened one copy (no link), or followed one of its links."""

    record = models.ForeignKey(DeliveryRecord, on_delete=models.CASCADE, related_name="hits", db_index=False)
    # The record's message, so that a report reads one message in one index.
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="+", db_index=False)
    # Null for an open.
    link = models.ForeignKey(Link, null=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    who = models.CharField(max_length=8, choices=VisitorKind)
    number = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="hits_add_up", fields=("record", "link", "who"), nulls_distinct=False),
            models.CheckConstraint(name="who_is_known", condition=models.Q(who__in=VisitorKind.values)),
        ]
        indexes = [models.Index(name="hits_of_a_message", fields=("message", "who", "link"), include=("number",))]

    def __str__(self) -> str:
        return f"{self.get_who_display()} on {self.record}"
