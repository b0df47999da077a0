"""Consent of customers: topics of messages and opt-outs of them (behaviour 4.28), and double opt-in (behaviour 4.30).

An opt-out holds for every message with the topic, by any channel. Rounds, launches and claims read the table, and
triggers write each change to the change log. A confirmation is stored with the customer (`Customer.opted_in_at`).
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Self

import pgtrigger
from django.db import IntegrityError, models, transaction
from django.db.models import Exists, Func, OuterRef, Q, Value
from django.db.models.functions import Greatest, Lower
from django.db.models.lookups import LessThanOrEqual

from audiences import change_log
from audiences.models.customers import Customer, CustomerQuerySet, Role
from audiences.models.suppression import HASH_FUNCTION, has_same_address, hash_sql


class MessageTopicQuerySet(models.QuerySet["MessageTopic"]):
    def offered(self) -> Self:
        """Return the topics that new messages can have, by name."""
        return self.filter(is_archived=False).order_by(Lower("name"))


class MessageTopic(models.Model):
    """A topic of messages, such as "Tips". Names are unique regardless of case."""

    name = models.CharField(max_length=100, help_text="For example: Product news. Customers see it.")
    description = models.CharField(
        max_length=300, blank=True, default="", help_text="Customers see it below the name, where they choose topics."
    )
    is_archived = models.BooleanField(
        "archived",
        default=False,
        help_text="New messages cannot have it, and customers do not see it. Opt-outs still hold.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MessageTopicQuerySet.as_manager()

    class Meta:
        verbose_name = "topic"
        constraints = [
            models.UniqueConstraint(
                Lower("name"), name="topic_name_once", violation_error_message="A topic with this name already exists."
            ),
            models.CheckConstraint(name="topic_has_a_name", condition=~models.Q(name="")),
        ]

    def __str__(self) -> str:
        return self.name


class OptOutSource(models.TextChoices):
    """Where an opt-out came from."""

    CUSTOMER = "customer", "The customer’s own request"
    API = "api", "The API"
    STAFF = "staff", "A teammate"


class TopicOptOutQuerySet(models.QuerySet["TopicOptOut"]):
    def opt_out(self, customers: Collection[int], topic: MessageTopic, *, source: OptOutSource, at: datetime) -> None:
        """Opt customers out of a topic. Lock them first. An opt-out becomes the customer's own, never the reverse."""
        rows = [
            TopicOptOut(customer_id=customer, topic=topic, source=source, created_at=at)
            for customer in sorted(customers)
        ]
        TopicOptOut.objects.bulk_create(rows, ignore_conflicts=True)
        if source is OptOutSource.CUSTOMER:
            others = self.filter(customer__in=customers, topic=topic).exclude(source=source)
            others.update(source=source, created_at=at)


class TopicOptOut(models.Model):
    """A customer who gets no messages with a topic."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="topic_opt_outs", db_index=False)
    topic = models.ForeignKey(MessageTopic, on_delete=models.PROTECT, related_name="opt_outs")
    source = models.CharField(max_length=16, choices=OptOutSource)
    created_at = models.DateTimeField("since")

    objects = TopicOptOutQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="opted_out_of_topic_once", fields=("customer", "topic")),
            models.CheckConstraint(name="opt_out_source_is_known", condition=models.Q(source__in=OptOutSource.values)),
        ]
        triggers = change_log.row_triggers("topic_id", bits=str(change_log.BIT["topic"]))

    def __str__(self) -> str:
        return f"{self.customer} without {self.topic}"


def opted_out_sql(topic: str, *, customer: str) -> str:
    """Return SQL for whether a customer opted out of a topic."""
    return f"EXISTS (SELECT FROM audiences_topicoptout t WHERE t.customer_id = {customer} AND t.topic_id = {topic})"


# An address gets at most one confirmation email within this time, from the latest of these moments.
CONFIRMATION_INTERVAL = timedelta(hours=24)
MOMENTS = ("requested_at", "taken_at", "sent_at")
# More than this many in an hour wait for a later one, so that no stranger makes the workspace a source of mass email.
CONFIRMATIONS_PER_HOUR = 1000


class MailStatus(models.TextChoices):
    """The status of a confirmation email."""

    WAITING = "waiting", "Waiting"
    SENDING = "sending", "Sending"  # Committed before the first byte leaves.
    UNCERTAIN = "uncertain", "Uncertain"  # Sent or not: unknown.
    SENT = "sent", "Sent"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"


class ConfirmationMailQuerySet(models.QuerySet["ConfirmationMail"]):
    def due(self, at: datetime) -> Self:
        """Return the emails due at `at`."""
        return self.filter(status=MailStatus.WAITING, due_at__lte=at)

    def of_address(self, *addresses: str | None) -> Self:
        """Return the rows of addresses in any spelling."""
        hashes = [Func(Value(one), function=HASH_FUNCTION, output_field=models.BinaryField()) for one in addresses]
        return self.filter(address_hash__in=hashes)

    def without_owner(self) -> Self:
        """Return the rows with an address that no customer has, in any spelling."""
        return self.filter(~Exists(Customer.objects.filter(has_same_address("address"))), address__isnull=False)

    def renewable(self, at: datetime) -> Self:
        """Return the rows that may be renewed: those that never left at once, the others after 24 hours."""
        last = Greatest(*MOMENTS)  # Of those that are not null.
        never_left = Q(status=MailStatus.SKIPPED) | Q(status=MailStatus.FAILED, taken_at=None)
        rows = self.filter(never_left | Q(LessThanOrEqual(last, at - CONFIRMATION_INTERVAL)))
        return rows.exclude(status=MailStatus.SENDING)

    def request(self, address: str, *, customer: Customer, at: datetime) -> bool:
        """Write a confirmation email, unless the address got one within the last 24 hours. Return whether it did.

        Lock the customer first. The one row of an address is renewed, so two requests at once write one email.
        """
        hour = timedelta(hours=1)
        busy = ConfirmationMail.objects.filter(due_at__gt=at - hour).order_by("-due_at")
        one_too_many = busy.values_list("due_at", flat=True)[CONFIRMATIONS_PER_HOUR - 1 : CONFIRMATIONS_PER_HOUR]
        due_at = max([at, *(earlier + hour for earlier in one_too_many)])
        new = {"address": address, "customer": customer, "requested_at": at, "due_at": due_at}
        rows = ConfirmationMail.objects.of_address(address)
        if not rows.exists():
            try:
                with transaction.atomic():
                    ConfirmationMail.objects.create(**new)
            except IntegrityError:
                return False  # Another request has just written it.
            return True
        unsent = {"attempts": 0, "taken_at": None, "sent_at": None, "detail": "", "provider_id": ""}
        renewed = rows.renewable(at).update(status=MailStatus.WAITING, confirmed_at=None, **new, **unsent)
        return bool(renewed)


class ConfirmationMail(models.Model):
    """The newest email that asks the owner of an address to confirm it; an address has one row.

    It is written in the transaction that stores the address, and claimed before it is sent.
    """

    # Null once the person was erased; the hash keeps the 24 hours.
    address = models.TextField(null=True)  # noqa: DJ001
    address_hash = models.BinaryField(editable=False)
    # The customer who gave the address last. The confirmation holds for each customer who has it.
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="confirmation_mails")
    requested_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=16, choices=MailStatus, default=MailStatus.WAITING)
    due_at = models.DateTimeField()
    # The claim while sending, and the end of its lease.
    claim = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    taken_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    # Why it was not sent, or not yet; staff read this.
    detail = models.TextField(blank=True, default="")
    provider_id = models.CharField(max_length=255, blank=True, default="")

    objects = ConfirmationMailQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="one_confirmation_per_address", fields=("address_hash",)),
            models.CheckConstraint(name="confirmation_status_is_known", condition=Q(status__in=MailStatus.values)),
        ]
        indexes = [
            models.Index(name="confirmation_due", fields=("due_at", "id"), condition=Q(status="waiting")),
            # For the limit of an hour, also of those that were sent.
            models.Index(name="confirmation_of_hour", fields=("due_at",)),
            models.Index(name="confirmation_in_hand", fields=("leased_until",), condition=Q(status="sending")),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="address_is_hashed",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func=f"NEW.address_hash := {hash_sql('NEW.address')}; RETURN NEW;",
            ),
            # A worker may have it in hand while the person is erased.
            pgtrigger.Trigger(
                name="erased_has_no_details",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition("NEW.address IS NULL"),
                func="NEW.detail := ''; NEW.provider_id := ''; RETURN NEW;",
            ),
            pgtrigger.Trigger(
                name="at_most_one_a_day",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "OLD.address_hash IS DISTINCT FROM NEW.address_hash OR (OLD.requested_at IS DISTINCT FROM"
                    " NEW.requested_at AND OLD.status <> 'skipped' AND (OLD.status <> 'failed' OR OLD.taken_at IS NOT"
                    " NULL) AND NEW.requested_at < greatest(OLD.requested_at, OLD.taken_at, OLD.sent_at)"
                    " + interval '24 hours')"
                ),
                func="""
                RAISE EXCEPTION 'An address gets at most one confirmation email within 24 hours.'
                    USING ERRCODE = 'check_violation';
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"Confirmation of {self.address or 'an erased address'}"

    @property
    def may_be_renewed_at(self) -> datetime:
        """When another email to the address may be requested, if this one left."""
        return max(at for name in MOMENTS if (at := getattr(self, name)) is not None) + CONFIRMATION_INTERVAL


# Whether the customer `c` must still confirm their address: a lead, or a user whose address is not proved. The same
# rule follows as a condition of a query, and for one customer.
HAS_NOT_CONFIRMED = f"(c.opted_in_at IS NULL AND (c.role = '{Role.LEAD}' OR c.email_is_said))"
NOT_CONFIRMED = Q(Q(role=Role.LEAD) | Q(email_is_said=True), opted_in_at=None)


def has_not_confirmed(customer: Customer) -> bool:
    return customer.opted_in_at is None and (customer.role == Role.LEAD or customer.email_is_said)


def askable_customers() -> CustomerQuerySet:
    """Return the customers whom a confirmation email can give emails to an audience."""
    reachable = {"unsubscribed_from_emails": False, "has_hard_bounced": False, "marked_email_as_spam": False}
    return Customer.objects.present().filter(NOT_CONFIRMED, email__isnull=False, **reachable)


def askable_now(*, at: datetime) -> CustomerQuerySet:
    """Return those of them whose address may get an email now."""
    hashed = Func(OuterRef("email"), function=HASH_FUNCTION, output_field=models.BinaryField())
    mails = ConfirmationMail.objects.filter(address_hash=hashed)
    return askable_customers().filter(~Exists(mails) | Exists(mails.renewable(at)))


def confirm_address(mail: ConfirmationMail, *, at: datetime) -> int:
    """Store that the owner of the address confirmed it, for each customer who has it now. Return their number.

    Lock these customers first. A customer who confirmed it before keeps that time.
    """
    if mail.address is None:
        return 0
    owners = Customer.objects.with_address(mail.address)
    owners.filter(opted_in_at=None).update(opted_in_at=at, updated_at=at)
    ConfirmationMail.objects.filter(pk=mail.pk).update(confirmed_at=at)
    return owners.count()
