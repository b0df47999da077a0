"""The one table of the console itself: roles that need a second factor."""

from django.core.validators import MaxValueValidator
from django.db import models

from outbound.roles import Role

GRACE_DAYS_MAX = 90


class SecondFactorRule(models.Model):
    """A role whose teammates need a second factor. There is no row for other roles."""

    role = models.CharField(max_length=20, choices=Role.choices, unique=True)
    required_since = models.DateTimeField()
    grace_days = models.PositiveSmallIntegerField(validators=[MaxValueValidator(GRACE_DAYS_MAX)])

    class Meta:
        constraints = [
            models.CheckConstraint(name="second_factor_of_known_role", condition=models.Q(role__in=Role.values)),
            models.CheckConstraint(name="grace_of_at_most_90_days", condition=models.Q(grace_days__lte=GRACE_DAYS_MAX)),
        ]

    def __str__(self) -> str:
        return f"{self.role}: since {self.required_since:%Y-%m-%d}, {self.grace_days} days"
