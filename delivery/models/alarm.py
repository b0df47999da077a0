"""What is stuck right now, as teammates are told of it: once when it begins, once when it is over."""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Case, F, Value, When

# A channel that has refused nothing for so long is not resting any more: it is tried each minute while it does.
OUTAGE_OVER_AFTER = timedelta(minutes=3)
MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL = timedelta(seconds=5), timedelta(minutes=1)


class Kind(models.TextChoices):
    """What can be stuck, in the order it is shown in."""

    BEAT = "beat", "Beat is silent"
    SWEEP = "sweep", "The sweep is silent"
    CHANNEL = "channel", "A channel rests"
    DUE = "due", "Copies are not handed over"
    TROUBLE = "trouble", "A message cannot go on"
    UNCERTAIN = "uncertain", "Copies are uncertain"
    ANSWERS = "answers", "Answers are not mailed"
    WEBHOOKS = "webhooks", "Webhooks are not delivered"
    REFUSED = "refused", "Visitors are refused"


class Alarm(models.Model):
    """One time that something was stuck, from when it was found until it was found no more."""

    kind = models.CharField(max_length=12, choices=Kind)
    description = models.TextField()
    began_at = models.DateTimeField()
    # When it was last found; some while after that it is over.
    seen_at = models.DateTimeField()
    over_at = models.DateTimeField(null=True, blank=True)
    # When teammates were told that it began, and that it is over; null until they were.
    told_at = models.DateTimeField(null=True, blank=True)
    told_over_at = models.DateTimeField(null=True, blank=True)
    # Until when somebody is telling them.
    telling_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="one_alarm_of_a_kind", fields=("kind",), condition=models.Q(over_at__isnull=True)
            ),
            models.CheckConstraint(name="alarm_kind_is_known", condition=models.Q(kind__in=Kind.values)),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} since {self.began_at:%Y-%m-%d %H:%M}"


class ChannelOutage(models.Model):
    """A channel that takes nothing: since when, when it last refused, and in which words."""

    channel = models.CharField(primary_key=True, max_length=8)
    since = models.DateTimeField()
    last_at = models.DateTimeField()
    why = models.TextField(blank=True, default="")

    class Meta:
        db_table = "delivery_rest"

    def __str__(self) -> str:
        return f"{self.channel} since {self.since:%Y-%m-%d %H:%M}"

    @property
    def retry_at(self) -> datetime:
        """When anybody tries it again: it is left alone the longer, the longer it has been resting."""
        return self.last_at + min(max(self.last_at - self.since, MIN_RETRY_INTERVAL), MAX_RETRY_INTERVAL)

    @classmethod
    def unavailable_channels(cls, *, at: datetime) -> set[str]:
        """The channels that are left alone right now, by all workers."""
        recent = cls.objects.filter(last_at__gt=at - MAX_RETRY_INTERVAL, last_at__lte=at + MAX_RETRY_INTERVAL)
        return {rest.channel for rest in recent if at < rest.retry_at}

    @classmethod
    def record_refusal(cls, channel: str, *, why: str, at: datetime) -> None:
        """Note that a channel took nothing just now: it rests since then, or since the first time without a break."""
        fresh = {"since": at, "last_at": at, "why": why}
        rows = cls.objects.filter(pk=channel)
        # The last refusal is read as it was before this statement.
        since = Case(When(last_at__lt=at - OUTAGE_OVER_AFTER, then=Value(at)), default=F("since"))
        if not rows.update(since=since, last_at=at, why=why):
            ChannelOutage.objects.bulk_create([ChannelOutage(channel=channel, **fresh)], ignore_conflicts=True)
