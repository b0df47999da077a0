"""Delivery records: the outbox and the audit log in one row (behaviour 3)."""

from datetime import datetime
from typing import Self
from uuid import UUID

import pgtrigger
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery

from delivery.models import count, record_log
from messaging.models import RUNNING, Message, MessageVersion


class Status(models.TextChoices):
    """The status of a delivery; behaviour 3 has the table of transitions."""

    WAITING = "waiting", "Waiting"
    SENDING = "sending", "Sending"  # Committed before the first byte leaves.
    UNCERTAIN = "uncertain", "Uncertain"  # Sent or not: unknown.
    SENT = "sent", "Sent"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"
    WITHDRAWN = "withdrawn", "Withdrawn"


class Reason(models.TextChoices):
    """Why a record waits, was skipped or withdrawn; staff read the label."""

    NONE = "", ""
    QUEUED = "queued", "Queued"
    WINDOW = "window", "Waits for the delivery window to open"
    VISIT = "visit", "Waits for the customer's next visit"
    RETRY = "retry", "Will be tried again"
    PAUSED = "paused", "The message is paused"
    CAP = "cap", "Frequency cap reached"
    SAME_INBOX = "same_inbox", "Already sent to this address"
    NO_EMAIL = "no_email", "Has no email address"
    UNSUBSCRIBED = "unsubscribed", "Unsubscribed from emails"
    NOT_CONFIRMED = "not_confirmed", "Has not confirmed the address"
    OPTED_OUT = "opted_out", "Opted out of the topic"
    BOUNCED = "bounced", "Their email bounced"
    COMPLAINED = "complained", "Marked an email as spam"
    NO_DEVICE = "no_device", "Has no device for mobile push"
    NO_COMPANY = "no_company", "Not in a company"
    LEFT_COMPANY = "left_company", "No longer in this company"
    MATCHED_AT_LAUNCH = "matched_at_launch", "Matched already at go-live"
    ARCHIVED = "archived", "The customer is archived"
    NO_LONGER_MATCHES = "no_longer_matches", "No longer matches the audience"
    STOPPED = "stopped", "The message was stopped"
    MERGED = "merged", "Merged with a customer who had received it"
    REJECTED = "rejected", "Refused"
    GAVE_UP = "gave_up", "Gave up after several tries"
    CONTENT = "content", "The text could not be rendered"
    WORKER_DIED = "worker_died", "The worker stopped while sending"
    LOST_TOUCH = "lost_touch", "The connection was lost while sending"


# The label of WINDOW for a message without delivery times of its own.
QUIET_HOURS = "Waits for quiet hours to end"

NEXT: dict[Status, tuple[Status, ...]] = {
    Status.WAITING: (Status.SENDING, Status.SKIPPED, Status.WITHDRAWN, Status.SENT),
    Status.SENDING: (Status.SENT, Status.FAILED, Status.UNCERTAIN, Status.WAITING),
    Status.UNCERTAIN: (Status.SENT, Status.FAILED, Status.WAITING),
    Status.WITHDRAWN: (Status.WAITING,),
    Status.SENT: (),
    Status.FAILED: (),
    Status.SKIPPED: (),
}
# Statuses that keep a one-off from being sent.
UNDONE = (Status.WAITING, Status.SENDING, Status.UNCERTAIN)
# Statuses that count as received when a message is sent to the rest or made ongoing (behaviour 4.10).
GOT_IT = (*UNDONE, Status.SENT)

# Statuses of copies that are, or may be, in an inbox, so that the address gets no second one.
IN_AN_INBOX = (Status.SENDING, Status.UNCERTAIN, Status.SENT)

# The provider has its own id for the copy, and not our Message-ID.
NAMED_BY_PROVIDER = ~Q(provider_id="") & ~Q(provider_id__regex=r"^<[0-9]+\.[0-9A-Za-z-]{16}@")


def transitions_sql() -> str:
    """Return the allowed transitions as SQL for the trigger."""
    return ", ".join(f"('{before}', '{after}')" for before, afters in NEXT.items() for after in afters)


def reason_label(reason: Reason, message: Message) -> str:
    """Return a reason in words. The topic is the message's own, which never changes once there are records."""
    if reason == Reason.OPTED_OUT:
        return f"{reason.label} “{message.topic}”"
    return QUIET_HOURS if reason == Reason.WINDOW and not message.window else str(reason.label)


class DeliveryRecordQuerySet(models.QuerySet["DeliveryRecord"]):
    def due(self, at: datetime) -> Self:
        """Records that may be sent at `at`."""
        return self.filter(status=Status.WAITING, due_at__lte=at, message__state__in=RUNNING)

    def first_waiting(self) -> Subquery:
        """Return the key of the first waiting record of each message of an outer query, NULL if none waits.

        With an order and a limit PostgreSQL looks it up for each message. A join would read the waiting records of all
        messages if the statistics are older than a launch.
        """
        waiting = self.filter(message=OuterRef("pk"), status=Status.WAITING)
        return Subquery(waiting.order_by("due_at", "pk").values("pk")[:1])

    def abandoned(self, at: datetime) -> Self:
        """Claimed records whose lease has expired."""
        return self.filter(status=Status.SENDING, leased_until__lt=at)

    def named_by_provider(self, provider_id: str) -> Self:
        """Records with this id of a provider."""
        return self.filter(NAMED_BY_PROVIDER, provider_id=provider_id)

    def mark_sending(self, *, claim: UUID, until: datetime) -> int:
        """Record a claim and its lease, before the first byte leaves."""
        return self.filter(status=Status.WAITING).update(
            status=Status.SENDING, claim=claim, leased_until=until, attempts=F("attempts") + 1, reason=Reason.NONE
        )

    def mark_failed(self, *, reason: Reason, detail: str) -> int:
        """Settle records that cannot be sent, with the reason."""
        return self.filter(status=Status.SENDING).update(
            status=Status.FAILED, reason=reason, detail=detail, claim=None, leased_until=None, due_at=None
        )

    def mark_uncertain(self, *, reason: Reason, detail: str) -> int:
        """Record that the copy may or may not have been sent; it is never sent again automatically."""
        return self.filter(status=Status.SENDING).update(
            status=Status.UNCERTAIN, reason=reason, detail=detail, leased_until=None, due_at=None
        )

    def put_back(self, *, reason: Reason, due_at: datetime, detail: str = "") -> int:
        """Return records to the queue, to be tried again later."""
        return self.filter(status=Status.SENDING).update(
            status=Status.WAITING, reason=reason, detail=detail, due_at=due_at, claim=None, leased_until=None
        )

    def put_back_unsent(self, *, due_at: datetime | None, detail: str) -> int:
        """Return records to the queue without a used attempt, as nothing has left. None keeps `due_at`."""
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
        """Settle records whose customer cannot be reached."""
        return self.filter(status=Status.WAITING).update(
            status=Status.SKIPPED, reason=reason, detail=detail, due_at=None
        )

    def withdraw(self, *, reason: Reason) -> int:
        """Withdraw waiting records."""
        return self.filter(status=Status.WAITING).update(status=Status.WITHDRAWN, reason=reason, due_at=None)

    def counts(self) -> dict[str, int]:
        """Return the number of records by status, zeros included."""
        found = dict(self.order_by().values_list("status").annotate(n=models.Count("pk")))
        return {status.value: found.get(status.value, 0) for status in Status}


class DeliveryRecord(models.Model):
    """One message for one customer (and company): created by a match, settled when it was sent or cannot be."""

    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="records", db_index=False)
    version = models.ForeignKey(MessageVersion, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    customer = models.ForeignKey("audiences.Customer", on_delete=models.PROTECT, related_name="records")
    # Null unless the message goes once per company, or is a direct message about a company.
    company = models.ForeignKey(
        "audiences.Company", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    reason = models.CharField(max_length=32, choices=Reason, blank=True, default=Reason.NONE)
    # The words of the provider or the server; empty if the reason says it all.
    detail = models.TextField(blank=True, default="")

    matched_at = models.DateTimeField()
    # The last-seen values of the match, from before its visit updated them (behaviour 4.8).
    judged_last_seen_at = models.DateTimeField(null=True, blank=True)
    judged_company_last_seen_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True)
    dismissed_at = models.DateTimeField(null=True, blank=True)
    clicked_at = models.DateTimeField(null=True, blank=True)
    replied_at = models.DateTimeField(null=True, blank=True)
    bounced_at = models.DateTimeField(null=True, blank=True)
    # When a server or provider reported that the mailbox does not exist; `bounced_at` has the other bounces too.
    hard_bounced_at = models.DateTimeField(null=True, blank=True)
    complained_at = models.DateTimeField(null=True, blank=True)
    unsubscribed_at = models.DateTimeField(null=True, blank=True)

    attempts = models.PositiveSmallIntegerField(default=0)
    # The claim while sending, and the end of its lease.
    claim = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    # When it was last claimed: the best known moment of sending for an uncertain record.
    taken_at = models.DateTimeField(null=True, blank=True)
    # The address it goes to, if one inbox receives the message once; else null.
    address = models.TextField(null=True, blank=True)  # noqa: DJ001
    # Since when the frequency cap has held this record; null if it never did.
    capped_since = models.DateTimeField(null=True, blank=True)
    provider_id = models.TextField(blank=True, default="")
    # The values of the variables as sent: the copy is version + variables, never today's data.
    variables = models.JSONField(default=dict, blank=True)
    # The values that the rules named when it matched (delivery.eligibility.named_values); null if they were not kept.
    judged_values = models.JSONField(null=True, blank=True)
    # When the retention policy deleted the variables and these values; null if it has not.
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
            # Workers search for these every two seconds, among all others that are due.
            models.Index(
                name="record_due_again",
                fields=("message", "due_at", "id"),
                condition=Q(status=Status.WAITING, reason__in=(Reason.WINDOW, Reason.CAP)),
            ),
            models.Index(name="record_uncertain", fields=("message",), condition=Q(status=Status.UNCERTAIN)),
            # Ids of providers; by SMTP it is our own Message-ID, which names the record.
            models.Index(name="record_of_provider", fields=("provider_id",), condition=NAMED_BY_PROVIDER),
            BrinIndex(name="record_sent_at", fields=("sent_at",), pages_per_range=32, autosummarize=True),
            models.Index(name="record_sending", fields=("leased_until",), condition=Q(status=Status.SENDING)),
            # The few records that staff look for: not sent, and why.
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
                IF OLD.status = 'waiting' AND NEW.status IN ('withdrawn', 'skipped') AND NEW.reason <> 'merged'
                    AND EXISTS (SELECT FROM delivery_devicecopy d WHERE d.record_id = OLD.id) THEN
                    RAISE EXCEPTION 'A push that a device has, or may have, is never withdrawn or skipped.'
                        USING ERRCODE = 'check_violation';
                END IF;
                IF (OLD.status IN ('waiting', 'withdrawn') AND NEW.status = 'sent') OR OLD.status = 'withdrawn' THEN
                    SELECT channel, send_type INTO of_message FROM messaging_message WHERE id = NEW.message_id;
                    IF NEW.status = 'sent' AND of_message.channel <> 'in_app' THEN
                        RAISE EXCEPTION 'Only an in-app record is sent without being handed over.'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    IF OLD.status = 'withdrawn' AND of_message.send_type <> 'ongoing' THEN
                        RAISE EXCEPTION 'Only a withdrawn record of an ongoing message can wait again.'
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
            *count.TRIGGERS,
            *record_log.TRIGGERS,
        ]

    def __str__(self) -> str:
        return f"{self.message} to {self.customer}"

    @property
    def recipient_address(self) -> str | None:
        """The address that the email went to; if that was not stored, the customer's, unless it is not proved."""
        return self.address or self.customer.proved_email

    @property
    def why(self) -> str:
        """The reason as text, with the provider's own words if there are any."""
        if self.status == Status.WAITING and self.message.state == "paused":
            return str(Reason.PAUSED.label)
        label = reason_label(Reason(self.reason), self.message)
        return f"{label}: {self.detail}" if label and self.detail else label or self.detail
