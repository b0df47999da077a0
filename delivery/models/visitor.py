"""Visitors: browsers of unknown users, with the leads that their first words created; and counts of refused ones.

See behaviour 4.14.
"""

from datetime import date

from django.db import connection, models


class Visitor(models.Model):
    """One browser that wrote to us. Kept until its user logs in: then the lead becomes that user."""

    key = models.UUIDField(primary_key=True)
    customer = models.ForeignKey("audiences.Customer", on_delete=models.PROTECT, related_name="visitors")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.key} of {self.customer}"


class Refusal(models.TextChoices):
    """Why a user_hash was not accepted."""

    NOT_SIGNED = "not_signed", "The user_hash was missing or wrong"
    ADDRESS_FORM = "address_form", "The address was not in lower case"
    USER_ID_FORM = "user_id_form", "The user_id was not in its stored form"


class RefusedVisitors(models.Model):
    """The visitors refused on one day of the workspace, for one reason."""

    day = models.DateField()
    reason = models.CharField(max_length=12, choices=Refusal)
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="refused_visitors_are_counted_once", fields=("day", "reason")),
            models.CheckConstraint(name="refusal_reason_is_known", condition=models.Q(reason__in=Refusal.values)),
        ]

    def __str__(self) -> str:
        return f"{self.count} on {self.day}: {self.get_reason_display()}"

    @classmethod
    def add(cls, day: date, reason: Refusal) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO delivery_refusedvisitors AS r (day, reason, count) VALUES (%s, %s, 1)"
                " ON CONFLICT (day, reason) DO UPDATE SET count = r.count + 1",
                [day, reason],
            )
