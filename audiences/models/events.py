"""What customers did, and the summary of it that rules read."""

from django.db import connection, models


class Event(models.Model):
    """Something a customer did; the same name in the same second is the same event (wire.md 5.12)."""

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


class EventSummaryQuerySet(models.QuerySet["EventSummary"]):
    """Questions about what customers did."""

    def names(self, *, most: int) -> list[str]:
        """The first names of events there are, in order, however many rows have them."""
        # DISTINCT would read every row; this takes one step of the index for each name.
        with connection.cursor() as cursor:
            cursor.execute(
                """
                WITH RECURSIVE step (name) AS (
                    (SELECT name FROM audiences_eventsummary ORDER BY name LIMIT 1)
                    UNION ALL
                    SELECT (SELECT name FROM audiences_eventsummary e WHERE e.name > step.name ORDER BY name LIMIT 1)
                    FROM step WHERE step.name IS NOT NULL
                ) SELECT name FROM step WHERE name IS NOT NULL LIMIT %s
                """,
                [most],
            )
            return [name for (name,) in cursor.fetchall()]


class EventSummary(models.Model):
    """How often, first and last a customer did something: kept on intake, so no rule scans the events."""

    customer = models.ForeignKey("audiences.Customer", on_delete=models.CASCADE, related_name="event_summaries")
    name = models.TextField()
    count = models.IntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    objects = EventSummaryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "event summaries"
        constraints = [
            models.UniqueConstraint(name="one_summary_per_event", fields=("customer", "name")),
            models.CheckConstraint(name="event_happened", condition=models.Q(count__gte=1)),
            models.CheckConstraint(name="first_before_last", condition=models.Q(first_at__lte=models.F("last_at"))),
        ]
        indexes = [models.Index(name="event_summary_name", fields=("name",))]

    def __str__(self) -> str:
        return f"{self.name} by {self.customer}, {self.count} times"
