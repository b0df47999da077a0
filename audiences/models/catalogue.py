"""The attribute catalogue: which custom attributes there are, and of what kind each is."""

from typing import Self

import pgtrigger
from django.db import models

from audiences.attributes import Catalogue
from audiences.rules import Kind

KINDS = [(kind.value, kind.value) for kind in (Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN, Kind.DATE)]


class Scope(models.TextChoices):
    """Whose attribute it is."""

    CUSTOMER = "customer"
    COMPANY = "company"


class CustomAttributeQuerySet(models.QuerySet["CustomAttribute"]):
    """Questions about the catalogue."""

    def offered(self) -> Self:
        """Those that are not retired: what menus offer, and what counts towards the limit."""
        return self.filter(retired_at=None)

    def catalogue(self) -> Catalogue:
        """Read it all: what rules, variables and intake go by."""
        kinds: dict[str, dict[str, Kind]] = {Scope.CUSTOMER: {}, Scope.COMPANY: {}}
        for scope, name, kind in self.values_list("scope", "name", "kind"):
            kinds[scope][name] = Kind(kind)
        return Catalogue(customer=kinds[Scope.CUSTOMER], company=kinds[Scope.COMPANY])


class CustomAttribute(models.Model):
    """One custom attribute, with the kind learnt from its first real value or chosen by staff (behaviour 3)."""

    scope = models.CharField(max_length=8, choices=Scope)
    name = models.CharField(max_length=190)
    kind = models.CharField(max_length=8, choices=KINDS)
    created_at = models.DateTimeField()
    # Values of a retired attribute are stored as before, but no menu offers it. None: it is in use.
    retired_at = models.DateTimeField(null=True, blank=True)

    objects = CustomAttributeQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="attribute_declared_once", fields=("scope", "name")),
            models.CheckConstraint(
                name="attribute_kind_is_known", condition=models.Q(kind__in=[kind for kind, _ in KINDS])
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="kind_changed",
                when=pgtrigger.After,
                operation=pgtrigger.Update | pgtrigger.Delete,
                func="UPDATE audiences_workspace SET generation = generation + 1; RETURN NULL;",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


class RefusedName(models.Model):
    """A name that a browser wanted to add to a catalogue and could not: staff may accept it.

    Browsers anybody can write to fill this table, so `intake.refused_names` keeps it short.
    """

    class Of(models.TextChoices):
        """The catalogue it would be in."""

        CUSTOMER = "customer", "Customer attribute"
        COMPANY = "company", "Company attribute"
        EVENT = "event", "Event"

    of = models.CharField(max_length=8, choices=Of)
    name = models.TextField()
    # What the refused values were; empty for an event.
    kind = models.CharField(max_length=8, choices=KINDS, blank=True, default="")
    times = models.PositiveBigIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="refused_name_listed_once", fields=("of", "name"))]

    def __str__(self) -> str:
        return self.name


class KindChange(models.Model):
    """A change of kind that a worker carries out, as there are many values; kept with what became of it."""

    attribute = models.ForeignKey(CustomAttribute, on_delete=models.CASCADE, related_name="kind_changes")
    to = models.CharField(max_length=8, choices=KINDS)
    # How many values were there, and how many staff were told would become unknown.
    values = models.PositiveBigIntegerField(default=0)
    lose_at_most = models.PositiveBigIntegerField(default=0)
    asked_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    kept = models.PositiveBigIntegerField(null=True, blank=True)
    lost = models.PositiveBigIntegerField(null=True, blank=True)
    # Why it was not carried out; empty where it was, or is still to be.
    trouble = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="one_kind_change_at_a_time", fields=("attribute",), condition=models.Q(ended_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.attribute.name} to {self.to}"
