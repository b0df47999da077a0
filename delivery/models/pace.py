"""Pace: the limits of a channel for all workers together, per second, and per day while it warms up."""

from datetime import date

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from messaging.models import Channel


def check_plan(plan: object) -> None:
    """Raise ValidationError unless the plan is a list of positive whole numbers that never decrease."""
    if not isinstance(plan, list) or not all(type(limit) is int and limit > 0 for limit in plan):
        raise ValidationError("A warm-up plan is a list of whole numbers: the limit of each day.")
    if plan != sorted(plan):
        raise ValidationError("A warm-up plan must not decrease from one day to the next.")


class Pace(models.Model):
    """The limits of one channel, set by staff, and the current usage, updated by workers. No row means no limit."""

    channel = models.CharField(primary_key=True, max_length=8, choices=Channel)
    per_second = models.DecimalField(
        "messages per second",
        max_digits=8,
        decimal_places=3,
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001)],
        help_text="For all workers together. Leave empty for no limit.",
    )
    warm_up = models.JSONField(
        "warm-up plan",
        default=list,
        blank=True,
        validators=[check_plan],
        help_text="The limit of the first day, the second day, and so on. After the last day there is no limit.",
    )
    warm_up_from = models.DateField("first day of the warm-up", null=True, blank=True)

    # When the next copy may go, by the database's clock; and how many went on that day of the workspace.
    next_at = models.DateTimeField(null=True, blank=True, editable=False)
    day = models.DateField(null=True, blank=True, editable=False)
    taken_today = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        verbose_name_plural = "paces"
        constraints = [
            models.CheckConstraint(
                name="pace_is_above_zero",
                condition=models.Q(per_second=None) | models.Q(per_second__gt=0),
                violation_error_message="The rate must be above zero. To send nothing, pause the messages.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_channel_display()}: {self.in_words}"

    def clean(self) -> None:
        """Require a first day for a warm-up plan."""
        if self.warm_up and self.warm_up_from is None:
            raise ValidationError({"warm_up_from": "Choose the first day of the warm-up."})

    @property
    def in_words(self) -> str:
        """The limits as text for staff."""
        said = [f"{self.per_second.normalize():f} a second"] if self.per_second else []
        if self.warm_up and self.warm_up_from:
            said.append(f"warming up from {self.warm_up_from:%-d %B %Y} over {len(self.warm_up)} days")
        return ", ".join(said) or "no limit"

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit, on any day."""
        return self.per_second is not None or bool(self.warm_up and self.warm_up_from)

    def limit_on(self, day: date) -> int | None:
        """Return the limit of a day; None if there is none."""
        if not self.warm_up or self.warm_up_from is None:
            return None
        number = (day - self.warm_up_from).days
        return None if number >= len(self.warm_up) else 0 if number < 0 else self.warm_up[number]

    def left_on(self, day: date) -> int | None:
        """Return how many more may be sent on a day; None if there is no limit."""
        limit = self.limit_on(day)
        taken = self.taken_today if self.day == day else 0
        return None if limit is None else max(0, limit - taken)


def growing_plan(*, first: int, until: int, growth: float = 2.0) -> list[int]:
    """Return a plan to start with: `first` on the first day, each day `growth` times more, up to `until`."""
    days = [first]
    while days[-1] < until:
        days.append(min(until, max(days[-1] + 1, int(days[-1] * growth))))
    return days
