"""Events of customers, and their summaries for rules."""

from typing import Self

import pgtrigger
from django.db import models

from audiences import change_log


class Event(models.Model):
    """An event of a customer. The same name in the same second is the same event (wire 5.12)."""

    customer = models.ForeignKey("audiences.Customer", on_delete=models.CASCADE, related_name="events")
    name = models.TextField()
    happened_at = models.DateTimeField()
    metadata = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="event_once_a_second", fields=("customer", "name", "happened_at")),
            models.CheckConstraint(name="event_name_is_lower_case", condition=~models.Q(name__regex="[A-Z]")),
        ]

    def __str__(self) -> str:
        return f"{self.name} by {self.customer}"


class EventNameQuerySet(models.QuerySet["EventName"]):
    def offered(self) -> Self:
        """Return names that are not retired, for menus."""
        return self.filter(retired_at=None)


class EventName(models.Model):
    """A name of events. A trigger on the summaries inserts each new name."""

    name = models.TextField(unique=True)
    created_at = models.DateTimeField()
    # Events with a retired name are still recorded, but menus do not offer it. None: in use.
    retired_at = models.DateTimeField(null=True, blank=True)

    objects = EventNameQuerySet.as_manager()

    class Meta:
        verbose_name = "event"
        verbose_name_plural = "events"

    def __str__(self) -> str:
        return self.name


class EventSummary(models.Model):
    """Count, first and last time of a customer's event. Intake updates it, so that rules never scan the events."""

    customer = models.ForeignKey("audiences.Customer", on_delete=models.CASCADE, related_name="event_summaries")
    name = models.TextField()
    count = models.IntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "event summaries"
        constraints = [
            models.UniqueConstraint(name="one_summary_per_event", fields=("customer", "name")),
            models.CheckConstraint(name="event_happened", condition=models.Q(count__gte=1)),
            models.CheckConstraint(name="first_before_last", condition=models.Q(first_at__lte=models.F("last_at"))),
        ]
        indexes = [models.Index(name="event_summary_name", fields=("name",))]
        triggers = [
            *change_log.row_triggers("name", "count", "first_at", "last_at", bits=change_log.EVENT_BIT),
            pgtrigger.Trigger(
                name="event_name_is_listed",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="added"),
                # In the order of the names, so that two statements cannot deadlock.
                func="""
                INSERT INTO audiences_eventname (name, created_at)
                SELECT name, min(first_at) FROM added
                WHERE NOT EXISTS (SELECT FROM audiences_eventname n WHERE n.name = added.name)
                GROUP BY name ORDER BY name ON CONFLICT DO NOTHING;
                RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} by {self.customer}, {self.count} times"
