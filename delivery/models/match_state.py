"""Match states: up to where the change log was read for each message; and pairs that rounds missed (behaviour 4.20)."""

from collections.abc import Iterable
from datetime import datetime

from django.db import models
from django.db.models.expressions import RawSQL

from messaging.models import Message


def key_array(keys: Iterable[int]) -> RawSQL:
    """Return keys for `__in` as one parameter: a thousand parameters take longer to prepare than to look up."""
    return RawSQL("SELECT unnest(%s::bigint[])", [list(keys)])


class MatchStateQuerySet(models.QuerySet["MatchState"]):
    def move_forward(self, messages: Iterable[int], *, horizon: int, at: datetime | None) -> int:
        """Record that these messages have read the log up to `horizon`, and boundaries up to `at` if it is given.

        A state that was deleted meanwhile stays deleted.
        """
        judged = {} if at is None else {"at": at}
        return self.filter(message__in=key_array(messages), horizon__lte=horizon).update(horizon=horizon, **judged)


class MatchState(models.Model):
    """Everyone who matches at `at`, by the entries of the change log below `horizon`, has a record of this message.

    Without a state, or if the rules have another fingerprint now, the next round judges everyone. The fingerprint is ""
    until the first full match has ended.
    """

    message = models.OneToOneField(Message, primary_key=True, on_delete=models.CASCADE, related_name="match_state")
    horizon = models.BigIntegerField()
    # The database cluster that counts these transactions; "" if its id cannot be read.
    cluster = models.CharField(max_length=20, default="", db_default="")
    at = models.DateTimeField()
    fingerprint = models.CharField(max_length=32)
    # When the last full match that verifies the rounds began, and the first customer it has not judged; null when done.
    verifying_since = models.DateTimeField(null=True)
    verify_from = models.BigIntegerField(null=True)

    objects = MatchStateQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.message} matched at {self.at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def begin_full_match(cls, message: Message, *, horizon: int, cluster: str, at: datetime) -> None:
        """Have entries at or above the horizon stay in the log while everyone is judged. An older state does so too."""
        of_others = ~models.Q(cluster=cluster) | models.Q(horizon__gt=horizon)
        MatchState.objects.filter(of_others, message=message).delete()
        MatchState.objects.bulk_create(
            [MatchState(message=message, horizon=horizon, cluster=cluster, at=at)], ignore_conflicts=True
        )

    @classmethod
    def record_full_match(cls, message: Message, *, horizon: int, at: datetime, fingerprint: str) -> None:
        """Record that everyone was judged, unless entries since then were truncated and the state with them."""
        MatchState.objects.filter(message=message).update(horizon=horizon, at=at, fingerprint=fingerprint)


class MissedMatch(models.Model):
    """A pair that a full match found and the rounds had missed. It must never happen, so it raises an alarm."""

    # A defect could concern every customer of a message.
    MAX_STORED = 100

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="+")
    # Without foreign keys: they are only to be read by staff.
    customer_id = models.BigIntegerField()
    company_id = models.BigIntegerField(null=True)
    found_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        verbose_name_plural = "missed matches"
        indexes = [models.Index(name="missed_match_found", fields=("found_at",))]

    def __str__(self) -> str:
        company = f" in company {self.company_id}" if self.company_id else ""
        return f"“{self.message}” missed customer {self.customer_id}{company}"
