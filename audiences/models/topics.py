"""Topics of messages, and the customers who opted out of one (behaviour 4.28).

An opt-out holds for every message with the topic, by any channel. Rounds, launches and claims read the table, and
triggers write each change to the change log.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Self

from django.db import models
from django.db.models.functions import Lower

from audiences import change_log
from audiences.models.customers import Customer


class MessageTopicQuerySet(models.QuerySet["MessageTopic"]):
    def offered(self) -> Self:
        """Return the topics that new messages can have, by name."""
        return self.filter(is_archived=False).order_by(Lower("name"))


class MessageTopic(models.Model):
    """A topic of messages, such as "Tips". Names are unique regardless of case."""

    name = models.CharField(max_length=100, help_text="For example: Product news. Customers see it.")
    description = models.CharField(
        max_length=300, blank=True, default="", help_text="Customers see it below the name, where they choose topics."
    )
    is_archived = models.BooleanField(
        "archived",
        default=False,
        help_text="New messages cannot have it, and customers do not see it. Opt-outs still hold.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MessageTopicQuerySet.as_manager()

    class Meta:
        verbose_name = "topic"
        constraints = [
            models.UniqueConstraint(
                Lower("name"), name="topic_name_once", violation_error_message="A topic with this name already exists."
            ),
            models.CheckConstraint(name="topic_has_a_name", condition=~models.Q(name="")),
        ]

    def __str__(self) -> str:
        return self.name


class OptOutSource(models.TextChoices):
    """Where an opt-out came from."""

    CUSTOMER = "customer", "The customer’s own request"
    API = "api", "The API"
    STAFF = "staff", "A teammate"


class TopicOptOutQuerySet(models.QuerySet["TopicOptOut"]):
    def opt_out(self, customers: Collection[int], topic: MessageTopic, *, source: OptOutSource, at: datetime) -> None:
        """Opt customers out of a topic. Lock them first. An opt-out becomes the customer's own, never the reverse."""
        rows = [
            TopicOptOut(customer_id=customer, topic=topic, source=source, created_at=at)
            for customer in sorted(customers)
        ]
        TopicOptOut.objects.bulk_create(rows, ignore_conflicts=True)
        if source is OptOutSource.CUSTOMER:
            others = self.filter(customer__in=customers, topic=topic).exclude(source=source)
            others.update(source=source, created_at=at)


class TopicOptOut(models.Model):
    """A customer who gets no messages with a topic."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="topic_opt_outs", db_index=False)
    topic = models.ForeignKey(MessageTopic, on_delete=models.PROTECT, related_name="opt_outs")
    source = models.CharField(max_length=16, choices=OptOutSource)
    created_at = models.DateTimeField("since")

    objects = TopicOptOutQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="opted_out_of_topic_once", fields=("customer", "topic")),
            models.CheckConstraint(name="opt_out_source_is_known", condition=models.Q(source__in=OptOutSource.values)),
        ]
        triggers = change_log.row_triggers("topic_id", bits=str(change_log.BIT["topic"]))

    def __str__(self) -> str:
        return f"{self.customer} without {self.topic}"


def opted_out_sql(topic: str, *, customer: str) -> str:
    """Return SQL for whether a customer opted out of a topic."""
    return f"EXISTS (SELECT FROM audiences_topicoptout t WHERE t.customer_id = {customer} AND t.topic_id = {topic})"
