"""Preferences of the recipient of a copy: topics, and whether they get email at all (behaviour 4.28)."""

from collections.abc import Collection
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


def unsubscribe_from_message(record: DeliveryRecord, *, at: datetime) -> None:
    """Unsubscribe with one click: from the topic of the message, or from all email if it has none. Idempotent."""
    if record.message.topic is None:
        links.unsubscribe(record, at=at)
    else:
        change_topics(record, opted_out_of=[record.message.topic], at=at)


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
        if topic.pk == record.message.topic_id:
            DeliveryRecord.objects.filter(pk=record.pk, unsubscribed_at=None).update(unsubscribed_at=at)
    TopicOptOut.objects.filter(customer__in=customers, topic__in=subscribed_to).delete()


@retried
def save_preferences(
    record: DeliveryRecord, *, offered: Collection[str], chosen: Collection[str], gets_email: bool | None, at: datetime
) -> None:
    """Save the choices of the page: the topics that it offered, those that are ticked, and whether email comes at all.
    None leaves that as it is.

    Only a change is stored, so that a page that was opened earlier undoes nothing else.
    """
    topics = [topic for topic in topics_for(record) if str(topic.pk) in offered]
    was_out = topics_opted_out_of(record)
    change_topics(
        record,
        opted_out_of=[topic for topic in topics if str(topic.pk) not in chosen and topic.pk not in was_out],
        subscribed_to=[topic for topic in topics if str(topic.pk) in chosen and topic.pk in was_out],
        at=at,
    )
    is_out = Customer.objects.filter(pk=record.customer_id, unsubscribed_from_emails=True).exists()
    if gets_email is False and not is_out:
        links.unsubscribe(record, at=at)
    elif gets_email and is_out:
        links.subscribe_again(record, at=at)
