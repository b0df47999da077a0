"""Customers (users and leads), their devices for pushes, and notes about them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

import pgtrigger
from django.conf import settings
from django.db import models

from audiences import change_log, customer_search
from audiences.models import suppression
from audiences.models.presence import presence_trigger


class Role(models.TextChoices):
    """A user is identified by user_id or email; a lead wrote or visited without either."""

    USER = "user"
    LEAD = "lead"


class CustomerQuerySet(models.QuerySet["Customer"]):
    def present(self) -> Self:
        """Exclude archived customers, which never match an audience."""
        return self.filter(archived_at=None)

    def users(self) -> Self:
        return self.filter(role=Role.USER)

    def find(self, typed: str, *, limit: int) -> list["Customer"]:
        """Return the customers whom a teammate searches for (`customer_search`), best matches first."""
        keys = customer_search.find_keys(typed, limit=limit)
        rows = self.in_bulk(keys)
        return [rows[key] for key in keys if key in rows]

    def lock(self) -> list[int]:
        """Lock the rows until the transaction ends, in primary-key order as everywhere; return their keys."""
        return list(self.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))

    def with_address(self, *addresses: str) -> Self:
        """Return the customers who have one of these addresses, in any spelling."""
        return self.filter(suppression.has_address(addresses))

    def archive(self, *, at: datetime) -> int:
        """Archive the customers, which removes them from every audience. Their records stay."""
        return self.filter(archived_at=None).update(archived_at=at, updated_at=at)


class Customer(models.Model):
    """A person who can get messages. Common attributes are columns, the others are JSON (behaviour 3)."""

    # Null if missing, not "", because they are unique.
    user_id = models.TextField("user ID", null=True, blank=True)  # noqa: DJ001
    email = models.TextField(null=True, blank=True)  # noqa: DJ001
    # True if the address is unproved: only a visitor typed it, or a page without proof sent it.
    email_is_said = models.BooleanField(default=False, db_default=False, editable=False)
    role = models.CharField(max_length=8, choices=Role, default=Role.USER)
    name = models.TextField(blank=True, default="")
    phone = models.TextField(blank=True, default="")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    signed_up_at = models.DateTimeField(null=True, blank=True)
    first_seen_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    # Of the current or last session: the last-seen value from before it, and its first sighting (behaviour 4.16).
    previous_last_seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    present_since_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_contacted_at = models.DateTimeField(null=True, blank=True)
    last_heard_from_at = models.DateTimeField(null=True, blank=True)
    last_opened_email_at = models.DateTimeField(null=True, blank=True)
    last_clicked_email_at = models.DateTimeField(null=True, blank=True)
    session_count = models.IntegerField("web sessions", default=0)
    session_started_at = models.DateTimeField(null=True, blank=True)
    # The last time GET /conversations ran matching for this customer; at most once per 15 minutes (behaviour 4.7).
    checked_at = models.DateTimeField(null=True, blank=True)

    unsubscribed_from_emails = models.BooleanField(default=False)
    # When the customer opted out themselves. No sync undoes that (behaviour 4.11).
    unsubscribed_by_customer_at = models.DateTimeField(null=True, blank=True)
    has_hard_bounced = models.BooleanField(default=False)
    marked_email_as_spam = models.BooleanField(default=False)
    # True if the flag comes only from a listed address, which the customer got later: a new address clears it.
    opt_out_is_of_address = models.BooleanField(default=False, db_default=False, editable=False)
    complaint_is_of_address = models.BooleanField(default=False, db_default=False, editable=False)

    # When the owner of the address confirmed it (double opt-in, behaviour 4.30). A new address clears it.
    opted_in_at = models.DateTimeField(null=True, blank=True, editable=False)

    timezone = models.TextField("time zone", blank=True, default="")
    country = models.TextField(blank=True, default="")
    city = models.TextField(blank=True, default="")
    language = models.TextField(blank=True, default="")
    browser = models.TextField(blank=True, default="")
    os = models.TextField("OS", blank=True, default="")
    user_agent = models.TextField(blank=True, default="")
    last_seen_ip = models.TextField("last seen IP", blank=True, default="")
    details = models.JSONField(default=dict, blank=True)
    attributes = models.JSONField("custom attributes", default=dict, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    companies = models.ManyToManyField("audiences.Company", through="audiences.Membership", related_name="customers")
    tags = models.ManyToManyField("audiences.Tag", through="audiences.CustomerTag", related_name="customers")

    objects = CustomerQuerySet.as_manager()

    class Meta:
        permissions = [("answer_requests", "Can export and erase all that is kept of a customer")]
        constraints = [
            # Partial, so that foreign keys cannot refer to it. Setting a user_id then does not wait for transactions
            # that insert rows which refer to the customer.
            models.UniqueConstraint(
                name="one_customer_per_user_id",
                fields=("user_id",),
                condition=models.Q(user_id__isnull=False),
                violation_error_message="Another customer has this user ID.",
            ),
            models.UniqueConstraint(
                name="one_customer_per_known_email_without_user_id",
                fields=("email",),
                # Visitors can type any address, any number of times.
                condition=models.Q(user_id=None, email__isnull=False, email_is_said=False),
                violation_error_message="Another customer without a user ID has this email.",
            ),
            models.CheckConstraint(name="email_is_lower_case", condition=~models.Q(email__regex="[A-Z]")),
            models.CheckConstraint(name="email_is_not_empty", condition=~models.Q(email="")),
            models.CheckConstraint(name="user_id_is_not_empty", condition=~models.Q(user_id="")),
            models.CheckConstraint(name="role_is_known", condition=models.Q(role__in=Role.values)),
        ]
        indexes = [
            # Finds exact addresses, and addresses by their start. Migration 0050 has the indexes of the names.
            models.Index(name="customer_email", fields=("email",), opclasses=["text_pattern_ops"]),
            models.Index(
                models.Func(models.F("email"), function=suppression.COMPARABLE_FUNCTION),
                name="customer_international_email",
                condition=models.Q(email__regex=suppression.INTERNATIONAL),
            ),
            models.Index(
                models.F("last_seen_at").desc(nulls_last=True), models.F("id").desc(), name="customer_seen_last"
            ),
        ]
        triggers = [
            presence_trigger(),
            *suppression.customer_triggers(),
            pgtrigger.Trigger(
                name="opt_in_is_of_address",
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("email"),
                # A merge moves an address together with its confirmation.
                condition=pgtrigger.Condition(
                    "OLD.email IS DISTINCT FROM NEW.email AND OLD.opted_in_at IS NOT DISTINCT FROM NEW.opted_in_at"
                ),
                func="NEW.opted_in_at := NULL; RETURN NEW;",
            ),
            *change_log.customer_triggers(),
        ]

    def __str__(self) -> str:
        return self.name or self.email or self.user_id or f"{self.get_role_display()} {self.pk}"

    @property
    def proved_email(self) -> str | None:
        return None if self.email_is_said else self.email

    @property
    def is_erased(self) -> bool:
        """Whether the customer's identifying data was erased."""
        return self.archived_at is not None and not (self.email or self.user_id or self.name)

    @property
    def first_name(self) -> str:
        """The name up to its first space, as in rules."""
        return self.name.partition(" ")[0]

    @property
    def last_name(self) -> str:
        """The name after its first space."""
        return self.name.partition(" ")[2].lstrip(" ")


class Platform(models.TextChoices):
    """The platform of a device."""

    ANDROID = "android", "Android"
    IOS = "ios", "iOS"
    WEB = "web", "Web"


class DeviceQuerySet(models.QuerySet["Device"]):
    def live(self) -> Self:
        """Return devices that get pushes."""
        return self.filter(retired_at=None)

    def retire(self, tokens: Iterable[str], *, at: datetime) -> None:
        """Retire devices whose tokens are invalid. One statement each, so that no transaction waits for another."""
        for token in tokens:
            self.filter(token=token, retired_at=None).update(retired_at=at)


class Device(models.Model):
    """A phone or browser for pushes. `retired_at` is set once its token is invalid."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="devices")
    token = models.TextField(unique=True)
    platform = models.CharField(max_length=8, choices=Platform, default=Platform.ANDROID)
    created_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        triggers = change_log.row_triggers("retired_at", bits=str(change_log.BIT["device"]))

    def __str__(self) -> str:
        return f"{self.get_platform_display()} of {self.customer}"


class Note(models.Model):
    """An internal note about a customer, which customers never see. `teammate` is null if an integration wrote it."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="notes")
    teammate = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    body = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="note_newest_first", fields=("customer", "-created_at", "-id"))]

    def __str__(self) -> str:
        return f"Note about {self.customer}"
