"""Preferences of the recipient of a copy: topics, and whether they get email at all (behaviour 4.28)."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet
from django.db.models.functions import Lower

from audiences.models import Customer, MessageTopic, OptOutSource, TopicOptOut
from audiences.models.suppression import has_address
from audiences.transactions import retried
from delivery.models import DeliveryRecord
from delivery.tracking import links


def topics_for(record: DeliveryRecord) -> QuerySet[MessageTopic]:
    """Return the topics that the recipient can choose, by name: also an archived one if it is that of the message."""
    return MessageTopic.objects.filter(Q(is_archived=False) | Q(pk=record.message.topic_id)).order_by(Lower("name"))


def topics_opted_out_of(record: DeliveryRecord) -> set[int]:
    return set(TopicOptOut.objects.filter(customer=record.customer_id).values_list("topic", flat=True))


def gets_email(record: DeliveryRecord) -> bool:
    """Return whether the recipient gets email at all."""
    return Customer.objects.filter(pk=record.customer_id, unsubscribed_from_emails=False).exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The page as it was shown and as it came back: keys of topics, and "yes" or "no" for email at all.

    A page that was opened earlier changes nothing that it did not show, and undoes no opt-out that came since.
    """

    offered: Collection[str]
    shown_without: Collection[str]  # Those of the offered topics that had no tick.
    chosen: Collection[str]
    email_shown: str
    email: str


@retried
def unsubscribe_from_message(record: DeliveryRecord, *, at: datetime) -> None:
    """Unsubscribe with one click: from the topic of the message, or from all email if it has none. Idempotent."""
    if record.message.topic is None:
        links.unsubscribe(record, at=at)
    else:
        change_topics(record, opted_out_of=[record.message.topic], at=at)
        links.mark_unsubscribed(record, at=at)


@retried
def change_topics(
    record: DeliveryRecord,
    *,
    opted_out_of: Collection[MessageTopic] = (),
    subscribed_to: Collection[MessageTopic] = (),
    at: datetime,
) -> None:
    """Opt the recipient out of some topics and back in to others, at their own request.

    This holds for every customer who has the address of the copy now: one inbox decides once.
    """
    record = links.lock_customer_and_reload(record)
    addresses = filter(None, [record.recipient_address])
    found = Customer.objects.filter(Q(pk=record.customer_id) | has_address(addresses)).order_by("pk")
    customers = list(found.values_list("pk", flat=True))
    for topic in opted_out_of:
        TopicOptOut.objects.opt_out(customers, topic, source=OptOutSource.CUSTOMER, at=at)
    TopicOptOut.objects.filter(customer__in=customers, topic__in=subscribed_to).delete()


@retried
def save_preferences(record: DeliveryRecord, choices: Choices, *, at: datetime) -> None:
    """Save the choices of the page.

    Each offered topic without a tick is opted out of, because another customer may have got the address of the copy.
    """
    topics = {str(topic.pk): topic for topic in topics_for(record) if str(topic.pk) in choices.offered}
    change_topics(
        record,
        opted_out_of=[topic for key, topic in topics.items() if key not in choices.chosen],
        subscribed_to=[
            topic for key, topic in topics.items() if key in choices.chosen and key in choices.shown_without
        ],
        at=at,
    )
    if str(record.message.topic_id) in topics.keys() - {*choices.chosen, *choices.shown_without}:
        links.mark_unsubscribed(record, at=at)
    if choices.email == "no" and choices.email_shown != "no":
        links.unsubscribe(record, at=at)
    elif choices.email == "yes" and choices.email_shown == "no":
        links.subscribe_again(record, at=at)
