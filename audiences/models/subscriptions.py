"""Webhook outbox: subscriptions and their notifications (wire 5.13).

The models are in audiences, below delivery, because intake writes notifications in its transactions.
"""

from datetime import datetime
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models

from audiences.models.sealed import SealedField
from audiences.models.workspace import new_secret


class Topic(models.TextChoices):
    """The topic of a notification."""

    CONVERSATION_USER_CREATED = "conversation.user.created"
    CONVERSATION_USER_REPLIED = "conversation.user.replied"
    CONVERSATION_ADMIN_REPLIED = "conversation.admin.replied"
    CONVERSATION_ADMIN_SINGLE_CREATED = "conversation.admin.single.created"
    CONVERSATION_ADMIN_ASSIGNED = "conversation.admin.assigned"
    CONVERSATION_ADMIN_NOTED = "conversation.admin.noted"
    CONVERSATION_ADMIN_CLOSED = "conversation.admin.closed"
    CONVERSATION_ADMIN_OPENED = "conversation.admin.opened"
    CONVERSATION_ADMIN_SNOOZED = "conversation.admin.snoozed"
    USER_CREATED = "user.created"
    USER_DELETED = "user.deleted"
    USER_UNSUBSCRIBED = "user.unsubscribed"
    USER_EMAIL_UPDATED = "user.email.updated"
    USER_TAG_CREATED = "user.tag.created"
    USER_TAG_DELETED = "user.tag.deleted"
    CONTACT_CREATED = "contact.created"
    CONTACT_DELETED = "contact.deleted"
    CONTACT_SIGNED_UP = "contact.signed_up"
    CONTACT_ADDED_EMAIL = "contact.added_email"
    CONTACT_TAG_CREATED = "contact.tag.created"
    CONTACT_TAG_DELETED = "contact.tag.deleted"
    COMPANY_CREATED = "company.created"
    EVENT_CREATED = "event.created"
    # Written by triggers on delivery records (`delivery.models.record_log`).
    MESSAGE_SENT = "message.sent"
    MESSAGE_OPENED = "message.opened"
    MESSAGE_CLICKED = "message.clicked"
    MESSAGE_REPLIED = "message.replied"
    MESSAGE_BOUNCED = "message.bounced"
    MESSAGE_COMPLAINED = "message.complained"
    MESSAGE_UNSUBSCRIBED = "message.unsubscribed"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_UNCERTAIN = "message.uncertain"
    PING = "ping"
    # A subscription to this topic is notified of each of the others.
    ALL = "*"


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def subscribed_to(self, topic: str) -> Self:
        """Return active subscriptions to this topic."""
        return self.filter(active=True, topics__overlap=[topic, Topic.ALL])


class Subscription(models.Model):
    """A URL that gets notifications, signed with its secret."""

    url = models.TextField("address")
    topics = ArrayField(models.CharField(max_length=64, choices=Topic))
    secret = SealedField(max_length=1500, default=new_secret)
    active = models.BooleanField(default=True)
    # Since when deliveries fail; null while they succeed.
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    # After a failure, until when it gets no notification.
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = SubscriptionQuerySet.as_manager()

    def __str__(self) -> str:
        return self.url


class NotificationState(models.TextChoices):
    """The state of a notification."""

    WAITING = "waiting", "Waiting"
    SENDING = "sending", "Sending"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"


class NotificationQuerySet(models.QuerySet["Notification"]):
    def due(self, at: datetime) -> Self:
        """Return notifications to send now, including those whose lease expired because a worker died."""
        return self.filter(
            models.Q(state=NotificationState.WAITING, due_at__lte=at)
            | models.Q(state=NotificationState.SENDING, leased_until__lt=at),
            subscription__active=True,
        )


class Notification(models.Model):
    """One change for one subscription: written in the transaction of the change, settled when sent or given up.

    `about` has the keys of its rows. The payload is built from them before the first attempt, and stays the same.
    """

    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="notifications")
    topic = models.CharField(max_length=64, choices=Topic)
    customer = models.ForeignKey("audiences.Customer", null=True, on_delete=models.CASCADE, related_name="+")
    about = models.JSONField(default=dict)
    state = models.CharField(max_length=9, choices=NotificationState, default=NotificationState.WAITING)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    claim = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    first_sent_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    # The last response; null if there was none.
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    detail = models.TextField(blank=True, default="")
    payload = models.JSONField(null=True, blank=True)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="notification_state_is_known", condition=models.Q(state__in=NotificationState.values)
            )
        ]
        indexes = [
            # The oldest notification of each subscription that is not settled.
            models.Index(
                name="notification_stream",
                fields=("subscription", "id"),
                condition=models.Q(state__in=("waiting", "sending")),
            ),
            # Looked for before each request, beside a backlog of any length.
            models.Index(name="notification_in_flight", fields=("subscription",), condition=models.Q(state="sending")),
            models.Index(name="notification_log", fields=("subscription", "-id")),
            models.Index(
                name="notification_settled", fields=("settled_at",), condition=models.Q(settled_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.topic} to {self.subscription}"
