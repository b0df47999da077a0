"""Where the links of a version lead, and who followed them or opened the mail: people, and what only looked at it."""

from django.db import models

from delivery.models.record import DeliveryRecord
from messaging.models import Message, MessageVersion


class Link(models.Model):
    """Where a link of a version leads, its variables still in it: written before the first copy, never changed."""

    version = models.ForeignKey(MessageVersion, on_delete=models.CASCADE, related_name="links", db_index=False)
    number = models.PositiveSmallIntegerField()
    address = models.TextField(blank=True, default="")

    class Meta:
        constraints = [models.UniqueConstraint(name="link_numbered_once", fields=("version", "number"))]

    def __str__(self) -> str:
        return self.address


class VisitorKind(models.TextChoices):
    """What asked for a picture or a link; only people count as having opened or clicked."""

    PERSON = "person", "A person"
    # Apple Mail loads every picture by itself, so nobody can know whether the mail was read.
    PRIVACY = "privacy", "Apple Mail by itself"
    MACHINE = "machine", "A scanner, a robot or a prefetch"


class Hit(models.Model):
    """How often one of them opened one copy (no link), or followed one of its links."""

    record = models.ForeignKey(DeliveryRecord, on_delete=models.CASCADE, related_name="hits", db_index=False)
    # The record's own, beside it, so that a report reads one message in one index.
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="+", db_index=False)
    # Null for an opening.
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
