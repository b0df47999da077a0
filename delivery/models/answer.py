"""Answer emails: a teammate's answer, emailed to a customer who has not been back; claimed here before it is sent."""

from datetime import datetime
from typing import Self

from django.db import models

from delivery.models.conversation import ConversationPart
from delivery.models.record import Status


class AnswerMailQuerySet(models.QuerySet["AnswerMail"]):
    def due(self, at: datetime) -> Self:
        """Answer emails due at `at`."""
        return self.filter(status=Status.WAITING, due_at__lte=at)


class AnswerMail(models.Model):
    """The email of one answer, created with it. Each answer has one, so none is sent twice."""

    part = models.OneToOneField(ConversationPart, on_delete=models.CASCADE, related_name="mail")
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    due_at = models.DateTimeField()
    # The claim while sending, and the end of its lease.
    claim = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    # When it was last claimed: the best known moment of sending for an uncertain email.
    taken_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    # Why it was not sent, or not yet; staff read this.
    detail = models.TextField(blank=True, default="")
    provider_id = models.CharField(max_length=255, blank=True, default="")
    # The address that it was last sent to; the customer may change theirs.
    address = models.TextField(blank=True, default="", db_default="")

    objects = AnswerMailQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(name="answer_due", fields=("due_at", "id"), condition=models.Q(status="waiting")),
            models.Index(name="answer_in_hand", fields=("leased_until",), condition=models.Q(status="sending")),
        ]

    def __str__(self) -> str:
        return f"Email of {self.part}"

    @property
    def recipient_address(self) -> str | None:
        """The address that it went to; if that was not stored, the customer's, unless it is not proved."""
        return self.address or self.part.conversation.customer.proved_email
