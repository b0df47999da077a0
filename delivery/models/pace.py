"""How fast a channel may go, for all workers together: a limit a second, and one a day while it warms up."""

from datetime import date

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from messaging.models import Channel


def check_plan(plan: object) -> None:
    """Refuse a plan that is not a list of whole numbers above zero, each at least the one before."""
    if not isinstance(plan, list) or not all(type(limit) is int and limit > 0 for limit in plan):
        raise ValidationError("A warm-up plan is a list of whole numbers: how many may go out on each day.")
    if plan != sorted(plan):
        raise ValidationError("A warm-up plan grows: no day may have less than the day before.")


class Pace(models.Model):
    """The limits of one channel, which staff set, and where it stands, which workers keep. No row is no limit."""

    channel = models.CharField(primary_key=True, max_length=8, choices=Channel)
    per_second = models.DecimalField(
        "messages per second",
        max_digits=8,
        decimal_places=3,
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001)],
        help_text="For all workers together. Empty: as fast as they can.",
    )
    warm_up = models.JSONField(
        "warm-up plan",
        default=list,
        blank=True,
        validators=[check_plan],
        help_text="How many may go out on the first day, the second, and so on. After the last there is no limit.",
    )
    warm_up_from = models.DateField("first day of the warm-up", null=True, blank=True)

    # When the next copy may go, by the database's clock; and how many went on which of the workspace's days.
    next_at = models.DateTimeField(null=True, blank=True, editable=False)
    day = models.DateField(null=True, blank=True, editable=False)
    taken_today = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        verbose_name_plural = "paces"
        constraints = [
            models.CheckConstraint(
                name="pace_is_above_zero",
                condition=models.Q(per_second=None) | models.Q(per_second__gt=0),
                violation_error_message="To hand over nothing at all, pause the messages.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_channel_display()}: {self.in_words}"

    def clean(self) -> None:
        """Refuse a plan that never begins."""
        if self.warm_up and self.warm_up_from is None:
            raise ValidationError({"warm_up_from": "Say on which day the warm-up begins."})

    @property
    def in_words(self) -> str:
        """The limits as staff read them."""
        said = [f"{self.per_second.normalize():f} a second"] if self.per_second else []
        if self.warm_up and self.warm_up_from:
            said.append(f"warming up from {self.warm_up_from:%-d %B %Y} over {len(self.warm_up)} days")
        return ", ".join(said) or "no limit"

    @property
    def is_limited(self) -> bool:
        """Whether anything holds it back, on some day."""
        return self.per_second is not None or bool(self.warm_up and self.warm_up_from)

    def limit_on(self, day: date) -> int | None:
        """How many may go out on a day; None for as many as can."""
        if not self.warm_up or self.warm_up_from is None:
            return None
        number = (day - self.warm_up_from).days
        return None if number >= len(self.warm_up) else 0 if number < 0 else self.warm_up[number]

    def left_on(self, day: date) -> int | None:
        """How many may still go out on a day, as far as is known; None for as many as can."""
        limit = self.limit_on(day)
        taken = self.taken_today if self.day == day else 0
        return None if limit is None else max(0, limit - taken)


def growing_plan(*, first: int, until: int, growth: float = 2.0) -> list[int]:
    """A plan to begin with: so many on the first day, each day so many times more, until it is enough for good."""
    days = [first]
    while days[-1] < until:
        days.append(min(until, max(days[-1] + 1, int(days[-1] * growth))))
    return days
