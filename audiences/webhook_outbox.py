"""What happened, written down for whoever subscribed to it, in the same transaction; told later (wire 5.13)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction

from audiences.models import Customer, Notification, Subscription, Topic


def no_dispatcher() -> None:
    """Without delivery installed nobody is told."""


# Called after the commit of whatever there is to tell; delivery puts its own nudge here when it starts, for it is the
# one that tells, and nothing here may know of it. Where it fails to come, the minute sweep makes sure.
nudge_dispatcher: Callable[[], object] = no_dispatcher


def announce(topic: Topic, *, customer: Customer | None = None, at: datetime, **about: Any) -> int:
    """Write down that it happened for each subscription that wants to know; returns how many do.

    `about` names by key the rows it is about, beside the customer.
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
    """Have a subscription told that all is well with it, whatever its topics."""
    new_notification(subscription.pk, Topic.PING, customer=None, at=at, about={}).save()
    transaction.on_commit(lambda: nudge_dispatcher())


def new_notification(
    subscription: int, topic: Topic, *, customer: Customer | None, at: datetime, about: dict[str, Any]
) -> Notification:
    """One thing to tell one subscription."""
    return Notification(
        subscription_id=subscription, topic=topic, customer=customer, about=about, created_at=at, due_at=at
    )


def customer_topic(customer: Customer, what: str) -> Topic | None:
    """The topic of something that happened to a customer: a user's or, for a lead, a contact's; None for no topic."""
    kind = "contact" if customer.role == "lead" else "user"
    name = f"{kind}.{what}"
    return Topic(name) if name in Topic.values else None


def announce_customer_change(customer: Customer, what: str, *, at: datetime, **about: Any) -> None:
    """Announce what happened to a customer under the topic of users or of contacts, where there is one."""
    topic = customer_topic(customer, what)
    if topic is not None:
        announce(topic, customer=customer, at=at, **about)
