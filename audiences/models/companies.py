"""Companies and memberships."""

from datetime import datetime
from typing import Self

from django.db import models

from audiences import change_log
from audiences.models.customers import Customer
from audiences.models.presence import SESSION_IDLE_TIMEOUT, presence_trigger


class CompanyQuerySet(models.QuerySet["Company"]):
    def present(self) -> Self:
        return self.filter(archived_at=None)


class Company(models.Model):
    """A company of customers, identified by the `company_id` of the customer's system."""

    company_id = models.TextField("company ID", unique=True)
    name = models.TextField(blank=True, default="")
    plan = models.TextField(blank=True, default="")
    monthly_spend = models.IntegerField(null=True, blank=True)
    size = models.IntegerField(null=True, blank=True)
    industry = models.TextField(blank=True, default="")
    website = models.TextField(blank=True, default="")
    # When the company was created in the sender's system; created_at is when this row was.
    remote_created_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(null=True, blank=True)
    # As for customers; a visit of any member belongs to the session.
    previous_last_seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    present_since_at = models.DateTimeField(null=True, blank=True, editable=False)
    session_count = models.IntegerField("web sessions", default=0)
    attributes = models.JSONField("custom attributes", default=dict, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    tags = models.ManyToManyField("audiences.Tag", through="audiences.CompanyTag", related_name="companies")

    objects = CompanyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "companies"
        constraints = [models.CheckConstraint(name="company_id_is_not_empty", condition=~models.Q(company_id=""))]
        triggers = [presence_trigger(), *change_log.company_triggers()]

    def __str__(self) -> str:
        return self.name or self.company_id

    def last_seen_before(self, at: datetime, *, customer: Customer) -> datetime | None:
        """Return the last-seen value from before the session of a customer, to which a visit at `at` belongs.

        If another member began the company's session earlier, its begin stands for the sightings before the customer's.
        """
        since, recently = customer.present_since_at, at - SESSION_IDLE_TIMEOUT
        if since is None or customer.last_seen_at is None or customer.last_seen_at < recently:
            return self.last_seen_at
        if self.present_since_at is None or self.last_seen_at is None:
            return self.last_seen_at
        if since <= self.present_since_at:
            return self.previous_last_seen_at
        return self.present_since_at if self.last_seen_at >= recently else self.last_seen_at


class Membership(models.Model):
    """The membership of a customer in a company."""

    customer = models.ForeignKey("audiences.Customer", on_delete=models.CASCADE, related_name="memberships")
    company = models.ForeignKey(Company, on_delete=models.CASCADE, related_name="memberships")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="member_once", fields=("customer", "company"))]
        triggers = change_log.row_triggers(
            # The number of users is a fact of the company, so other members change too.
            bits=str(change_log.BIT["membership"] | change_log.BIT["company.user_count"]),
            of=("customer_id", "company_id"),
        )

    def __str__(self) -> str:
        return f"{self.customer} at {self.company}"
