"""The delivery record: the outbox and the audit in one row (behaviour 3).

Over 120 lines because the table of states, its trigger and the methods that move it belong side by side.
"""

from datetime import datetime
from typing import Self
from uuid import UUID

import pgtrigger
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q

from delivery.models.count import TRIGGERS
from messaging.models import RUNNING, Message, MessageVersion


class Status(models.TextChoices):
    """How far a delivery is; behaviour 3 has the table of what each means and goes to."""

    WAITING = "waiting", "Waiting"
    SENDING = "sending", "Sending"  # Committed before the first byte leaves.
    UNCERTAIN = "uncertain", "Uncertain"  # Handed over or not: nobody can know.
    SENT = "sent", "Sent"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"
    WITHDRAWN = "withdrawn", "Withdrawn"


class Reason(models.TextChoices):
    """Why a record waits, was skipped or withdrawn; the label is what staff read."""

    NONE = "", ""
    QUEUED = "queued", "Queued"
    WINDOW = "window", "Waits for the delivery window to open"
    VISIT = "visit", "Waits for the customer's next visit"
    RETRY = "retry", "Will be tried again"
    PAUSED = "paused", "The message is paused"
    CAP = "cap", "The customer has had enough messages for now"
    SAME_INBOX = "same_inbox", "Somebody else has it at the same address"
    NO_EMAIL = "no_email", "Has no email address"
    UNSUBSCRIBED = "unsubscribed", "Unsubscribed from emails"
    BOUNCED = "bounced", "Their email bounced"
    COMPLAINED = "complained", "Marked an email as spam"
    NO_DEVICE = "no_device", "Has no device for mobile push"
    NO_COMPANY = "no_company", "In no company"
    LEFT_COMPANY = "left_company", "No longer in this company"
    ARCHIVED = "archived", "The customer is archived"
    NO_LONGER_MATCHES = "no_longer_matches", "No longer matches the audience"
    STOPPED = "stopped", "The message was stopped"
    MERGED = "merged", "Merged with another customer who had it"
    REJECTED = "rejected", "Refused"
    GAVE_UP = "gave_up", "Gave up after several tries"
    CONTENT = "content", "The text could not be filled in"
    WORKER_DIED = "worker_died", "The worker ended while handing it over"
    LOST_TOUCH = "lost_touch", "The connection was lost while handing it over"


NEXT: dict[Status, tuple[Status, ...]] = {
    Status.WAITING: (Status.SENDING, Status.SKIPPED, Status.WITHDRAWN, Status.SENT),
    Status.SENDING: (Status.SENT, Status.FAILED, Status.UNCERTAIN, Status.WAITING),
    Status.UNCERTAIN: (Status.SENT, Status.FAILED, Status.WAITING),
    Status.WITHDRAWN: (Status.WAITING,),
    Status.SENT: (),
    Status.FAILED: (),
    Status.SKIPPED: (),
}
# What still stands between a one-off and being sent.
UNDONE = (Status.WAITING, Status.SENDING, Status.UNCERTAIN)
# Who counts as having got it when a message is sent "to the rest" or made ongoing (behaviour 4.10).
GOT_IT = (*UNDONE, Status.SENT)

# Where it is, or may be, in somebody's inbox, so that nobody else gets it there.
IN_AN_INBOX = (Status.SENDING, Status.UNCERTAIN, Status.SENT)

# Whether a provider's own name for a copy is known, and no Message-ID of ours.
NAMED_BY_PROVIDER = ~Q(provider_id="") & ~Q(provider_id__regex=r"^<[0-9]+\.[0-9A-Za-z-]{16}@")


def transitions_sql() -> str:
    """The table of states as the trigger reads it."""
    return ", ".join(f"('{before}', '{after}')" for before, afters in NEXT.items() for after in afters)


class DeliveryRecordQuerySet(models.QuerySet["DeliveryRecord"]):
    """Questions about records, and what happens to many at once."""

    def due(self, at: datetime) -> Self:
        """Those that may be handed over now."""
        return self.filter(status=Status.WAITING, due_at__lte=at, message__state__in=RUNNING)

    def abandoned(self, at: datetime) -> Self:
        """Those a worker has held for longer than its lease."""
        return self.filter(status=Status.SENDING, leased_until__lt=at)

    def named_by_provider(self, provider_id: str) -> Self:
        """Those a provider calls by this id."""
        return self.filter(NAMED_BY_PROVIDER, provider_id=provider_id)

    def undone(self) -> Self:
        """Those that still stand between a one-off and being sent."""
        return self.filter(status__in=UNDONE)

    def mark_sending(self, *, claim: UUID, until: datetime) -> int:
        """Note, before the first byte leaves, who has them in hand and until when."""
        return self.filter(status=Status.WAITING).update(
            status=Status.SENDING, claim=claim, leased_until=until, attempts=F("attempts") + 1, reason=Reason.NONE
        )

    def mark_sent(self, *, at: datetime) -> int:
        """Settle those handed over."""
        return self.filter(status=Status.SENDING).update(
            status=Status.SENT, sent_at=at, reason=Reason.NONE, detail="", claim=None, leased_until=None, due_at=None
        )

    def mark_failed(self, *, reason: Reason, detail: str) -> int:
        """Settle those that will not go, with the reason in words."""
        return self.filter(status=Status.SENDING).update(
            status=Status.FAILED, reason=reason, detail=detail, claim=None, leased_until=None, due_at=None
        )

    def mark_uncertain(self, *, reason: Reason, detail: str) -> int:
        """Note that nobody can know whether they were handed over; the machine never sends them again."""
        return self.filter(status=Status.SENDING).update(
            status=Status.UNCERTAIN, reason=reason, detail=detail, leased_until=None, due_at=None
        )

    def put_back(self, *, reason: Reason, due_at: datetime, detail: str = "") -> int:
        """Have them wait again: not begun after all, or to be tried later."""
        return self.filter(status=Status.SENDING).update(
            status=Status.WAITING, reason=reason, detail=detail, due_at=due_at, claim=None, leased_until=None
        )

    def put_back_unsent(self, *, due_at: datetime | None, detail: str) -> int:
        """Have them wait again without a try used up: nothing has left; None has them due as they were."""
        later = {} if due_at is None else {"due_at": due_at}
        return self.filter(status=Status.SENDING).update(
            status=Status.WAITING,
            reason=Reason.QUEUED if due_at is None else Reason.RETRY,
            detail=detail,
            claim=None,
            leased_until=None,
            address=None,
            attempts=F("attempts") - 1,
            **later,
        )

    def skip(self, *, reason: Reason, detail: str = "") -> int:
        """Settle those that cannot be reached."""
        return self.filter(status=Status.WAITING).update(
            status=Status.SKIPPED, reason=reason, detail=detail, due_at=None
        )

    def withdraw(self, *, reason: Reason) -> int:
        """Take back what has not begun."""
        return self.filter(status=Status.WAITING).update(status=Status.WITHDRAWN, reason=reason, due_at=None)

    def counts(self) -> dict[str, int]:
        """How many there are of each status, all of them named."""
        found = dict(self.order_by().values_list("status").annotate(n=models.Count("pk")))
        return {status.value: found.get(status.value, 0) for status in Status}

    def people(self) -> int:
        """How many customers they are of."""
        return self.aggregate(n=models.Count("customer", distinct=True))["n"]


class DeliveryRecord(models.Model):
    """One message for one customer (and company): made when they match, settled when it reached them or will not."""

    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="records", db_index=False)
    version = models.ForeignKey(MessageVersion, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    customer = models.ForeignKey("audiences.Customer", on_delete=models.PROTECT, related_name="records")
    # Null unless the message goes once per company, or is to one person about a company.
    company = models.ForeignKey(
        "audiences.Company", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    reason = models.CharField(max_length=32, choices=Reason, blank=True, default=Reason.NONE)
    # The provider's or the machine's own words; empty where the reason says it all.
    detail = models.TextField(blank=True, default="")

    matched_at = models.DateTimeField()
    # The last-seens it was judged by, before the visit that matched it moved them (behaviour 4.8).
    judged_last_seen_at = models.DateTimeField(null=True, blank=True)
    judged_company_last_seen_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True)
    dismissed_at = models.DateTimeField(null=True, blank=True)
    clicked_at = models.DateTimeField(null=True, blank=True)
    replied_at = models.DateTimeField(null=True, blank=True)
    bounced_at = models.DateTimeField(null=True, blank=True)
    complained_at = models.DateTimeField(null=True, blank=True)
    unsubscribed_at = models.DateTimeField(null=True, blank=True)

    attempts = models.PositiveSmallIntegerField(default=0)
    # Who has it in hand while sending, and until when that is believed.
    claim = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    # When it was last taken in hand: as close to when it left as anybody knows of an uncertain one.
    taken_at = models.DateTimeField(null=True, blank=True)
    # The address it goes to, where one inbox gets a message once; null where that is not asked.
    address = models.TextField(null=True, blank=True)  # noqa: DJ001
    # Since when the customer has had enough messages for this one to go; null where they never had.
    capped_since = models.DateTimeField(null=True, blank=True)
    provider_id = models.TextField(blank=True, default="")
    # The variables' values as sent: how it read to them is version + variables, never today's data.
    variables = models.JSONField(default=dict, blank=True)
    # When what was filled in was deleted, having been kept long enough; null while it is there, or was never.
    forgotten_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryRecordQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="delivered_once", fields=("message", "customer", "company"), nulls_distinct=False
            ),
            models.UniqueConstraint(
                name="same_inbox_once",
                fields=("message", "address", "company"),
                condition=Q(status__in=IN_AN_INBOX, address__isnull=False),
                nulls_distinct=False,
            ),
            models.CheckConstraint(name="status_is_known", condition=Q(status__in=Status.values)),
            models.CheckConstraint(
                name="sent_at_a_moment",
                condition=Q(status=Status.SENT, sent_at__isnull=False) | (~Q(status=Status.SENT) & Q(sent_at=None)),
            ),
            models.CheckConstraint(
                name="waits_for_a_time_or_a_visit",
                condition=~Q(status=Status.WAITING) | Q(due_at__isnull=False) | Q(reason=Reason.VISIT),
            ),
            models.CheckConstraint(
                name="in_somebodys_hand_while_sending",
                condition=~Q(status=Status.SENDING) | Q(claim__isnull=False, leased_until__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="record_due", fields=("message", "due_at", "id"), condition=Q(status=Status.WAITING)),
            models.Index(name="record_uncertain", fields=("message",), condition=Q(status=Status.UNCERTAIN)),
            # What providers call their copies; by SMTP it is our own Message-ID, which names the record itself.
            models.Index(name="record_of_provider", fields=("provider_id",), condition=NAMED_BY_PROVIDER),
            BrinIndex(name="record_sent_at", fields=("sent_at",), pages_per_range=32, autosummarize=True),
            models.Index(name="record_sending", fields=("leased_until",), condition=Q(status=Status.SENDING)),
            # The few among many that staff look for: who will not get it, and why.
            models.Index(
                name="record_not_sent",
                fields=("message", "status", "customer"),
                condition=Q(status__in=(Status.FAILED, Status.SKIPPED, Status.WITHDRAWN)),
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="statuses_follow_each_other",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition("OLD.status <> NEW.status"),
                declare=[("of_message", "record")],
                func=f"""
                IF (OLD.status, NEW.status) NOT IN (VALUES {transitions_sql()})
                    AND NOT (coalesce(current_setting('outbound.merging', true), '') = 'on'
                        AND NEW.status = 'skipped' AND NEW.reason = 'merged') THEN
                    RAISE EXCEPTION 'A record cannot go from % to %.', OLD.status, NEW.status
                        USING ERRCODE = 'check_violation';
                END IF;
                IF (OLD.status IN ('waiting', 'withdrawn') AND NEW.status = 'sent') OR OLD.status = 'withdrawn' THEN
                    SELECT channel, send_type INTO of_message FROM messaging_message WHERE id = NEW.message_id;
                    IF NEW.status = 'sent' AND of_message.channel <> 'in_app' THEN
                        RAISE EXCEPTION 'Only an in-app record is sent without being handed over.'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    IF OLD.status = 'withdrawn' AND of_message.send_type <> 'ongoing' THEN
                        RAISE EXCEPTION 'Only an ongoing message takes up again what was withdrawn.'
                            USING ERRCODE = 'check_violation';
                    END IF;
                END IF;
                RETURN NEW;
                """,
            ),
            pgtrigger.Trigger(
                name="of_one_message_and_customer",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "((OLD.message_id, OLD.customer_id, OLD.company_id)"
                    " IS DISTINCT FROM (NEW.message_id, NEW.customer_id, NEW.company_id))"
                ),
                func="""
                IF NEW.message_id = OLD.message_id AND NEW.company_id IS NOT DISTINCT FROM OLD.company_id
                    AND coalesce(current_setting('outbound.merging', true), '') = 'on' THEN
                    RETURN NEW;
                END IF;
                RAISE EXCEPTION 'A record never changes its message, customer or company.'
                    USING ERRCODE = 'check_violation';
                """,
            ),
            pgtrigger.Trigger(
                name="never_deleted",
                when=pgtrigger.Before,
                operation=pgtrigger.Delete,
                func="""
                RAISE EXCEPTION 'A delivery record is never deleted.' USING ERRCODE = 'check_violation';
                """,
            ),
            *TRIGGERS,
        ]

    def __str__(self) -> str:
        return f"{self.message} to {self.customer}"

    @property
    def why(self) -> str:
        """The reason in words, with the provider's own where there are any."""
        if self.status == Status.WAITING and self.message.state == "paused":
            return str(Reason.PAUSED.label)
        label = self.get_reason_display()
        return f"{label}: {self.detail}" if label and self.detail else label or self.detail
