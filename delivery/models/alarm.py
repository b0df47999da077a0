"""Alarms about stuck work, emailed to teammates when they begin and when they are over; and channel outages."""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Case, F, Value, When

# An outage is over after this long without a refusal: an unavailable channel is tried every minute.
OUTAGE_OVER_AFTER = timedelta(minutes=3)
MIN_RETRY_INTERVAL, MAX_RETRY_INTERVAL = timedelta(seconds=5), timedelta(minutes=1)


class Kind(models.TextChoices):
    """The kinds of alarms, in the order of display."""

    BEAT = "beat", "Scheduler (beat) not running"
    SWEEP = "sweep", "Minute sweep not running"
    CHANNEL = "channel", "Channel unavailable"
    DUE = "due", "Messages are stuck"
    TROUBLE = "trouble", "A message cannot be sent"
    PAUSED = "paused", "A message has paused itself"
    UNCERTAIN = "uncertain", "Deliveries are uncertain"
    ANSWERS = "answers", "Answer emails are not sent"
    WEBHOOKS = "webhooks", "Webhooks are not delivered"
    REFUSED = "refused", "Visitors are refused"
    MISSED = "missed", "Matching missed a customer"
    SECRET_KEY = "secret_key", "SECRET_KEY is too short"
    CLOCK = "clock", "A machine’s clock is wrong"
    DOMAIN = "domain", "Providers reject a sender’s domain"


class Alarm(models.Model):
    """One alarm, from when it was first found until it was over."""

    kind = models.CharField(max_length=12, choices=Kind)
    description = models.TextField()
    began_at = models.DateTimeField()
    # When it was last found; it is over a while after that.
    seen_at = models.DateTimeField()
    over_at = models.DateTimeField(null=True, blank=True)
    # When teammates were emailed that it began and that it is over; null until then.
    notified_at = models.DateTimeField(null=True, blank=True)
    end_notified_at = models.DateTimeField(null=True, blank=True)
    # Until when a worker has claimed the email.
    notifying_until = models.DateTimeField(null=True, blank=True)

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
    """A channel that takes nothing: since when, its last refusal, and the reason."""

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
        """When the channel is tried again: the longer the outage, the later."""
        return self.last_at + min(max(self.last_at - self.since, MIN_RETRY_INTERVAL), MAX_RETRY_INTERVAL)

    @classmethod
    def unavailable_channels(cls, *, at: datetime) -> set[str]:
        """Return the channels that all workers leave alone right now."""
        recent = cls.objects.filter(last_at__gt=at - MAX_RETRY_INTERVAL, last_at__lte=at + MAX_RETRY_INTERVAL)
        return {rest.channel for rest in recent if at < rest.retry_at}

    @classmethod
    def record_refusal(cls, channel: str, *, why: str, at: datetime) -> None:
        """Record that a channel took nothing just now. An outage begins now, or began at the first refusal in a row."""
        fresh = {"since": at, "last_at": at, "why": why}
        rows = cls.objects.filter(pk=channel)
        # The last refusal is read as it was before this statement.
        since = Case(When(last_at__lt=at - OUTAGE_OVER_AFTER, then=Value(at)), default=F("since"))
        if not rows.update(since=since, last_at=at, why=why):
            ChannelOutage.objects.bulk_create([ChannelOutage(channel=channel, **fresh)], ignore_conflicts=True)
