"""Suppression list: addresses that get no email to an audience, whoever has them (behaviour 4.22).

The list decides by address. Triggers copy it to the flags of every customer with the address, also of those who get it
later. So rules, lists and reachability read only the customer's row, and no code path bypasses the list. Nothing copies
flags to the list: a customer may state any address as theirs, so code lists only the address that an email went to. A
row is lifted, never deleted. Of an erased person only a keyed hash of the address stays.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import F, Func, OuterRef, Q, Value
from django.db.models.lookups import In


class SuppressionReason(models.TextChoices):
    """Why an address gets no email."""

    OPT_OUT = "opt_out", "Unsubscribed"
    HARD_BOUNCE = "hard_bounce", "The mailbox does not exist"
    COMPLAINT = "complaint", "Marked an email as spam"


class SuppressionSource(models.TextChoices):
    """Where an entry came from."""

    CUSTOMER = "customer", "The customer’s own request"
    SERVER = "server", "A mail server or provider"
    IMPORT = "import", "An imported file"
    STAFF = "staff", "A teammate"


HASH_FUNCTION = "audiences_address_hash"
# Two spellings of one address have the same value, such as a domain in Unicode and in its ASCII form. The function
# changes only addresses that match this pattern, if they are in lower case.
COMPARABLE_FUNCTION = "audiences_comparable_address"
INTERNATIONAL = "[^ -~]|xn--"
# For each reason, SQL for whether the flag of a customer is set.
FLAG_OF_REASON = {
    SuppressionReason.OPT_OUT: "{row}.unsubscribed_from_emails",
    SuppressionReason.HARD_BOUNCE: "{row}.has_hard_bounced",
    SuppressionReason.COMPLAINT: "{row}.marked_email_as_spam",
}
FLAG_COLUMNS = (
    *("unsubscribed_from_emails", "unsubscribed_by_customer_at", "opt_out_is_of_address", "has_hard_bounced"),
    *("marked_email_as_spam", "complaint_is_of_address"),
)


def hash_sql(address: str) -> str:
    """Return SQL for the keyed hash of an address. The migration creates the function, with a random key."""
    return f"{HASH_FUNCTION}({address})"


def comparable_sql(address: str) -> str:
    """Return SQL for the comparable form of an address. Only international addresses call the function."""
    is_plain = f"octet_length({address}) = length({address}) AND position('xn--' IN {address}) = 0"
    return f"(CASE WHEN {is_plain} THEN lower(btrim({address})) ELSE {COMPARABLE_FUNCTION}({address}) END)"


def same_address_sql(column: str, address: str) -> str:
    """Return SQL for whether a customer's column has an address, in any spelling. Both parts of it use an index."""
    comparable = f"{COMPARABLE_FUNCTION}({address})"
    is_international = f"{column} ~ '{INTERNATIONAL}'"
    return f"({column} = {comparable} OR ({is_international} AND {COMPARABLE_FUNCTION}({column}) = {comparable}))"


def has_address(addresses: Iterable[str]) -> Q:
    """Return the condition for customers who have one of these addresses, in any spelling."""
    text = models.TextField()
    forms: list[Func] = [Func(Value(one), function=COMPARABLE_FUNCTION, output_field=text) for one in addresses]
    return is_one_of(forms)


def has_same_address(column: str) -> Q:
    """Return the condition for customers of a subquery who have the address in a column of the outer query."""
    return is_one_of([Func(OuterRef(column), function=COMPARABLE_FUNCTION, output_field=models.TextField())])


def is_one_of(forms: list[Func]) -> Q:
    """Return the condition for customers whose address has one of these comparable forms."""
    text = models.TextField()
    is_international = Func(
        F("email"), template=f"%(expressions)s ~ '{INTERNATIONAL}'", output_field=models.BooleanField()
    )
    comparable = Func(F("email"), function=COMPARABLE_FUNCTION, output_field=text)
    return Q(email__in=forms) | Q(is_international) & Q(In(comparable, forms))


def flag_is_set_sql(row: str) -> str:
    """Return SQL for whether the flag for the reason of the entry `s` is set on a customer."""
    cases = " ".join(f"WHEN '{reason}' THEN {sql.format(row=row)}" for reason, sql in FLAG_OF_REASON.items())
    return f"(CASE s.reason {cases} END)"


# An active entry for the address of the customer `c`.
ACTIVE_ENTRY = f"audiences_suppression s WHERE s.address_hash = {hash_sql('c.email')} AND s.lifted_at IS NULL"


class SuppressionQuerySet(models.QuerySet["Suppression"]):
    def active(self) -> Self:
        return self.filter(lifted_at=None)

    def of_address(self, *addresses: str | None) -> Self:
        """Return the entries of an address in any spelling, also those of which only the hash is left."""
        hashes = [Func(Value(one), function=HASH_FUNCTION, output_field=models.BinaryField()) for one in addresses]
        return self.filter(address_hash__in=hashes)

    def suppress(
        self, address: str, reason: SuppressionReason, *, source: SuppressionSource, at: datetime, detail: str = ""
    ) -> None:
        """Add an address, unless it is on the list for this reason. Lock its customers first."""
        entry = Suppression(address=address, reason=reason, source=source, detail=detail, created_at=at)
        Suppression.objects.bulk_create([entry], ignore_conflicts=True)

    def lift(self, *, at: datetime, by: object = None) -> int:
        """Lift active entries; the customers with these addresses can get email again. Lock them first."""
        return self.active().update(lifted_at=at, lifted_by=by)


class Suppression(models.Model):
    """One reason why an address gets no email, until it is lifted."""

    # Null once the last person with the address was erased.
    address = models.TextField(null=True)  # noqa: DJ001
    address_hash = models.BinaryField(editable=False)
    reason = models.CharField(max_length=16, choices=SuppressionReason)
    source = models.CharField(max_length=16, choices=SuppressionSource)
    # The file or the message; empty if the source says it all.
    detail = models.TextField(blank=True, default="")
    created_at = models.DateTimeField("since")
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    lifted_at = models.DateTimeField(null=True, blank=True)
    # Null if the customer lifted it.
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = SuppressionQuerySet.as_manager()

    class Meta:
        verbose_name = "suppressed address"
        verbose_name_plural = "suppressed addresses"
        constraints = [
            models.UniqueConstraint(
                name="suppressed_once",
                fields=("address_hash", "reason"),
                condition=Q(lifted_at=None),
                violation_error_message="This address is on the list for this reason.",
            ),
            models.CheckConstraint(name="suppressed_address_is_lower_case", condition=~Q(address__regex="[A-Z]")),
            models.CheckConstraint(
                name="suppression_reason_is_known", condition=Q(reason__in=SuppressionReason.values)
            ),
        ]
        indexes = [models.Index(name="suppression_address", fields=("address",))]
        triggers = [
            pgtrigger.Trigger(
                name="address_is_hashed",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func=f"NEW.address_hash := {hash_sql('NEW.address')}; RETURN NEW;",
            ),
            pgtrigger.Trigger(
                name="customers_are_flagged",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="new_rows"),
                # The update only starts the trigger of the customers, which sets the flags.
                func=f"""
                UPDATE audiences_customer c SET email = c.email, updated_at = s.created_at
                FROM (SELECT address, reason, created_at FROM new_rows WHERE lifted_at IS NULL) AS s
                WHERE {same_address_sql("c.email", "s.address")}
                    AND NOT ({flag_is_set_sql("c")} AND (s.reason <> 'opt_out'
                    OR c.unsubscribed_by_customer_at IS NOT NULL OR c.opt_out_is_of_address));
                RETURN NULL;
                """,
            ),
            pgtrigger.Trigger(
                name="customers_are_cleared",
                when=pgtrigger.After,
                operation=pgtrigger.UpdateOf("lifted_at"),
                condition=pgtrigger.Condition("OLD.lifted_at IS NULL AND NEW.lifted_at IS NOT NULL"),
                declare=[("found", "text")],
                func=f"""
                found := NEW.address;
                IF found IS NULL THEN
                    SELECT c.email INTO found FROM audiences_customer c
                    WHERE {hash_sql("c.email")} = NEW.address_hash LIMIT 1;
                END IF;
                UPDATE audiences_customer c SET updated_at = NEW.lifted_at,
                    unsubscribed_from_emails = c.unsubscribed_from_emails AND NEW.reason <> 'opt_out',
                    unsubscribed_by_customer_at =
                        CASE WHEN NEW.reason <> 'opt_out' THEN c.unsubscribed_by_customer_at END,
                    opt_out_is_of_address = c.opt_out_is_of_address AND NEW.reason <> 'opt_out',
                    complaint_is_of_address = c.complaint_is_of_address AND NEW.reason <> 'complaint',
                    has_hard_bounced = c.has_hard_bounced AND NEW.reason <> 'hard_bounce',
                    marked_email_as_spam = c.marked_email_as_spam AND NEW.reason <> 'complaint'
                FROM (VALUES (NEW.reason)) AS s (reason)
                WHERE {same_address_sql("c.email", "found")} AND {flag_is_set_sql("c")};
                RETURN NULL;
                """,
            ),
            pgtrigger.Trigger(
                name="never_deleted_or_reused",
                when=pgtrigger.Before,
                operation=pgtrigger.Delete | pgtrigger.Update,
                condition=None,
                func="""
                IF TG_OP = 'DELETE' THEN
                    RAISE EXCEPTION 'A suppressed address is lifted, never deleted.' USING ERRCODE = 'check_violation';
                END IF;
                IF (NEW.address_hash, NEW.reason) IS DISTINCT FROM (OLD.address_hash, OLD.reason)
                    OR (OLD.lifted_at IS NOT NULL AND NEW.lifted_at IS NULL) THEN
                    RAISE EXCEPTION 'A suppressed address never changes its address or reason, and stays lifted.'
                        USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.address or 'Erased address'}: {self.get_reason_display()}"

    @property
    def origin(self) -> str:
        """Where the entry came from, in words."""
        label = self.get_source_display()
        return f"{label}: {self.detail}" if self.detail else label


def customer_triggers() -> list[pgtrigger.Trigger]:
    """Return the trigger by which the list sets the flags of customers.

    An opt-out or a complaint is the customer's own if the customer had the address, confirmed, as it was listed. The
    flags of a customer who gets a listed address later belong to the address, and so does a dead mailbox: a new address
    clears them.
    """
    return [
        pgtrigger.Trigger(
            name="list_sets_flags",
            when=pgtrigger.Before,
            operation=pgtrigger.Insert | pgtrigger.UpdateOf("email", *FLAG_COLUMNS),
            condition=pgtrigger.Condition("NEW.email IS NOT NULL"),
            declare=[("entry", "record"), ("is_later", "boolean")],
            func=f"""
            is_later := TG_OP = 'INSERT' OR NEW.email IS DISTINCT FROM OLD.email OR NEW.email_is_said;
            IF TG_OP = 'UPDATE' AND NEW.email IS DISTINCT FROM OLD.email THEN
                NEW.has_hard_bounced := FALSE;
                NEW.unsubscribed_from_emails := NEW.unsubscribed_from_emails
                    AND (NOT NEW.opt_out_is_of_address OR NEW.unsubscribed_by_customer_at IS NOT NULL);
                NEW.marked_email_as_spam := NEW.marked_email_as_spam AND NOT NEW.complaint_is_of_address;
                NEW.opt_out_is_of_address := FALSE;
                NEW.complaint_is_of_address := FALSE;
            END IF;
            FOR entry IN SELECT s.reason, s.created_at FROM audiences_suppression s
                WHERE s.address_hash = {hash_sql("NEW.email")} AND s.lifted_at IS NULL
            LOOP
                IF entry.reason = 'hard_bounce' THEN
                    NEW.has_hard_bounced := TRUE;
                ELSIF entry.reason = 'complaint' THEN
                    IF NOT NEW.marked_email_as_spam THEN
                        NEW.marked_email_as_spam := TRUE;
                        NEW.complaint_is_of_address := is_later OR OLD.complaint_is_of_address;
                    END IF;
                ELSIF is_later OR OLD.opt_out_is_of_address THEN
                    IF NOT NEW.unsubscribed_from_emails THEN
                        NEW.unsubscribed_from_emails := TRUE;
                        NEW.opt_out_is_of_address := TRUE;
                    END IF;
                ELSE
                    NEW.unsubscribed_from_emails := TRUE;
                    NEW.unsubscribed_by_customer_at := coalesce(NEW.unsubscribed_by_customer_at, entry.created_at);
                END IF;
            END LOOP;
            NEW.opt_out_is_of_address := NEW.opt_out_is_of_address AND NEW.unsubscribed_from_emails
                AND NEW.unsubscribed_by_customer_at IS NULL;
            NEW.complaint_is_of_address := NEW.complaint_is_of_address AND NEW.marked_email_as_spam;
            RETURN NEW;
            """,
        ),
    ]
