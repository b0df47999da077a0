"""Refused visitors: how many per day could not prove their identity. Two or three rows a day."""

from datetime import date

from django.db import connection, models


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
