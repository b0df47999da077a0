"""Webhook outbox: notifications for subscribers, written in the transaction of the change, sent later (wire 5.13)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction

from audiences.models import Customer, Notification, Subscription, Topic


def no_dispatcher() -> None:
    """Do nothing: without delivery, no dispatcher sends notifications."""


# Called after the commit of a notification. Delivery, which audiences may not import, sets its own function here at
# startup. The minute sweep repairs lost calls.
nudge_dispatcher: Callable[[], object] = no_dispatcher


def announce(topic: Topic, *, customer: Customer | None = None, at: datetime, **about: Any) -> int:
    """Write a notification for each subscription to this topic; return how many there are.

    `about` has the keys of other rows that the notification is about, and facts for its payload.
    """
    wanting = list(Subscription.objects.subscribed_to(topic).values_list("pk", flat=True))
    if not wanting:
        return 0
    Notification.objects.bulk_create(
        [new_notification(pk, topic, customer=customer, at=at, about=about) for pk in wanting]
    )
    transaction.on_commit(lambda: nudge_dispatcher())
    return len(wanting)


def announce_ping(subscription: Subscription, *, at: datetime) -> None:
    """Write a test notification for a subscription, regardless of its topics, and send it at once."""
    Subscription.objects.filter(pk=subscription.pk).update(paused_until=None)
    new_notification(subscription.pk, Topic.PING, customer=None, at=at, about={}).save()
    transaction.on_commit(lambda: nudge_dispatcher())


def new_notification(
    subscription: int, topic: Topic, *, customer: Customer | None, at: datetime, about: dict[str, Any]
) -> Notification:
    return Notification(
        subscription_id=subscription, topic=topic, customer=customer, about=about, created_at=at, due_at=at
    )


def customer_topic(customer: Customer, what: str) -> Topic | None:
    """Return the topic of a change, such as "user.deleted" (for a lead "contact.deleted"); None if there is none."""
    kind = "contact" if customer.role == "lead" else "user"
    name = f"{kind}.{what}"
    return Topic(name) if name in Topic.values else None


def announce_customer_change(customer: Customer, what: str, *, at: datetime, **about: Any) -> None:
    """Write notifications for a change of a customer, if it has a topic for users or contacts."""
    topic = customer_topic(customer, what)
    if topic is not None:
        announce(topic, customer=customer, at=at, **about)
