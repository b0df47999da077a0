"""Conversations: an in-app message that reached a customer starts one; replies are its parts (DESIGN 3)."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models

from delivery.models.record import DeliveryRecord


class PartType(models.TextChoices):
    """What a part of a conversation is (wire.md 5.6)."""

    COMMENT = "comment", "Reply"
    NOTE = "note", "Note"
    ASSIGNMENT = "assignment", "Assignment"
    OPEN = "open", "Opened"
    CLOSE = "close", "Closed"
    SNOOZED = "snoozed", "Snoozed"


class ConversationQuerySet(models.QuerySet["Conversation"]):
    """Questions about conversations."""

    def of(self, customer: object) -> Self:
        """Those with one customer."""
        return self.filter(customer=customer)

    def open(self) -> Self:
        """Those not closed."""
        return self.filter(state="open")

    def in_inbox(self) -> Self:
        """Those in which somebody said something after our message: it alone stays out of the inbox."""
        said = ConversationPart.objects.filter(conversation=models.OuterRef("pk"), part_type=PartType.COMMENT)
        return self.filter(models.Q(first_reply_at__isnull=False) | models.Exists(said))

    def to_wake(self, at: datetime) -> Self:
        """Those whose snooze is over."""
        return self.filter(state="snoozed", snoozed_until__lte=at)


class Conversation(models.Model):
    """A thread with one customer. It begins with a record, or with what the customer wrote (`record` null)."""

    STATES = [("open", "Open"), ("closed", "Closed"), ("snoozed", "Snoozed")]

    customer = models.ForeignKey("audiences.Customer", on_delete=models.PROTECT, related_name="conversations")
    record = models.OneToOneField(
        DeliveryRecord, null=True, blank=True, on_delete=models.PROTECT, related_name="conversation"
    )
    # What the customer opened with, where no message of ours did.
    body = models.TextField(blank=True, default="")
    attachments = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=8, choices=STATES, default="open")
    assignee = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    # Whether the customer has read what is newest.
    read = models.BooleanField(default=False)
    waiting_since = models.DateTimeField(null=True, blank=True)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    # When the customer first replied; null: it is not in the inbox yet.
    first_reply_at = models.DateTimeField(null=True, blank=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(name="conversation_of_customer", fields=("customer", "-updated_at")),
            models.Index(name="conversation_snoozed", fields=("snoozed_until",), condition=models.Q(state="snoozed")),
            # Most conversations are a message nobody has replied to.
            models.Index(
                name="conversation_replied",
                fields=("-first_reply_at",),
                condition=models.Q(first_reply_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"Conversation {self.pk} with {self.customer}"


class ConversationPart(models.Model):
    """One thing that was said or done in a conversation: by a teammate, or by the customer (`teammate` null)."""

    conversation = models.ForeignKey(Conversation, on_delete=models.PROTECT, related_name="parts")
    part_type = models.CharField(max_length=16, choices=PartType, default=PartType.COMMENT)
    body = models.TextField(blank=True, default="")
    # What came with it: {"name", "url", "content_type", "filesize", "width", "height"} each, unknown ones null.
    attachments = models.JSONField(default=list, blank=True)
    teammate = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    by_customer = models.BooleanField(default=False)
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="part_in_order", fields=("conversation", "created_at", "id"))]

    def __str__(self) -> str:
        return f"{self.get_part_type_display()} in {self.conversation}"
