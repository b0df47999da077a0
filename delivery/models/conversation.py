"""Conversations: an in-app message that reached a customer starts one; replies are its parts (behaviour 3)."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import models

from delivery.models.record import DeliveryRecord

# Search by words, in any language; the indexes use the same expression.
SEARCH_VECTOR = SearchVector("body", config="simple")


class PartType(models.TextChoices):
    """The type of a part of a conversation (wire 5.6)."""

    COMMENT = "comment", "Reply"
    NOTE = "note", "Note"
    ASSIGNMENT = "assignment", "Assignment"
    OPEN = "open", "Opened"
    CLOSE = "close", "Closed"
    SNOOZED = "snoozed", "Snoozed"


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def of_customer(self, customer: object) -> Self:
        return self.filter(customer=customer)

    def open(self) -> Self:
        return self.filter(state="open")

    def in_inbox(self) -> Self:
        """Conversations with a reply after our message; others are not in the inbox."""
        return self.filter(inbox_at__isnull=False)

    def unseen(self) -> Self:
        """Open conversations whose newest part no teammate has seen."""
        return self.filter(unseen=True, state="open")

    def to_wake(self, at: datetime) -> Self:
        """Conversations whose snooze is over."""
        return self.filter(state="snoozed", snoozed_until__lte=at)


IN_INBOX = models.Q(inbox_at__isnull=False)


class Conversation(models.Model):
    """A thread with one customer. It begins with a record, or with the customer's first words (`record` is null)."""

    STATES = [("open", "Open"), ("closed", "Closed"), ("snoozed", "Snoozed")]

    customer = models.ForeignKey("audiences.Customer", on_delete=models.PROTECT, related_name="conversations")
    record = models.OneToOneField(
        DeliveryRecord, null=True, blank=True, on_delete=models.PROTECT, related_name="conversation"
    )
    # The first words of the customer, if no message of ours began it.
    body = models.TextField(blank=True, default="")
    attachments = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=8, choices=STATES, default="open")
    assignee = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    # Whether the customer has read the newest part.
    read = models.BooleanField(default=False)
    waiting_since = models.DateTimeField(null=True, blank=True)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    # When the customer first replied.
    first_reply_at = models.DateTimeField(null=True, blank=True)
    # When it last rose in the inbox: a new comment, or the end of a snooze. Null: not in the inbox yet.
    inbox_at = models.DateTimeField(null=True, blank=True)
    # Whether no answering teammate has seen the newest part.
    unseen = models.BooleanField(default=False, db_default=False)
    # Idempotency key of the request that began it; null if it began another way.
    ticket = models.UUIDField(null=True, blank=True, unique=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(name="conversation_of_customer", fields=("customer", "-updated_at")),
            models.Index(name="conversation_snoozed", fields=("snoozed_until",), condition=models.Q(state="snoozed")),
            # Most conversations are messages without a reply.
            models.Index(
                name="conversation_replied",
                fields=("-first_reply_at",),
                condition=models.Q(first_reply_at__isnull=False),
            ),
            # The tabs of the inbox, newest first, and the poll for changes every few seconds.
            models.Index(name="inbox_by_state", fields=("state", "-inbox_at", "-id"), condition=IN_INBOX),
            models.Index(
                name="inbox_of_teammate", fields=("assignee", "state", "-inbox_at", "-id"), condition=IN_INBOX
            ),
            models.Index(name="inbox_in_order", fields=("-inbox_at", "-id"), condition=IN_INBOX),
            models.Index(name="inbox_changed", fields=("-updated_at",), condition=IN_INBOX),
            models.Index(name="inbox_unseen", fields=("id",), condition=models.Q(unseen=True, state="open")),
            GinIndex(SEARCH_VECTOR, name="opening_words", condition=~models.Q(body="")),
        ]
        constraints = [
            models.CheckConstraint(
                name="replied_is_in_inbox", condition=models.Q(first_reply_at=None) | models.Q(inbox_at__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"Conversation {self.pk} with {self.customer}"


class ConversationPart(models.Model):
    """One comment or action in a conversation: by a teammate, or by the customer (`teammate` is null)."""

    conversation = models.ForeignKey(Conversation, on_delete=models.PROTECT, related_name="parts")
    part_type = models.CharField(max_length=16, choices=PartType, default=PartType.COMMENT)
    body = models.TextField(blank=True, default="")
    # Where the end of the body begins that may be a quote, so pages fold it; null if no text is doubtful.
    fold_position = models.PositiveIntegerField(null=True, blank=True)
    # Attachments: {"name", "url", "content_type", "filesize", "width", "height"} each; unknown values are null.
    attachments = models.JSONField(default=list, blank=True)
    teammate = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    by_customer = models.BooleanField(default=False)
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()
    # Idempotency key of the form it was written in; null if it came another way.
    ticket = models.UUIDField(null=True, blank=True, unique=True)
    # The Message-ID of the email it came by; null if it came another way.
    mail_id = models.TextField(null=True, blank=True)  # noqa: DJ001

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="one_reply_per_mail",
                fields=("conversation", "mail_id"),
                condition=models.Q(mail_id__isnull=False),
            )
        ]
        indexes = [
            models.Index(name="part_in_order", fields=("conversation", "created_at", "id")),
            GinIndex(SEARCH_VECTOR, name="part_words", condition=~models.Q(body="")),
        ]

    def __str__(self) -> str:
        return f"{self.get_part_type_display()} in {self.conversation}"

    @property
    def shown_body(self) -> str:
        """The body without the text that may be a quote."""
        return self.body if self.fold_position is None else self.body[: self.fold_position]

    @property
    def folded_body(self) -> str:
        """The end of the body that may be a quote; "" if no text is doubtful."""
        return "" if self.fold_position is None else self.body[self.fold_position :]
