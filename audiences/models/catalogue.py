"""Attribute catalogue: the custom attributes and their kinds, refused names, changes of kind."""

from typing import Self

import pgtrigger
from django.db import models

from audiences.attributes import COMPANY_CUSTOM, CUSTOM, Catalogue
from audiences.rules import Kind

KINDS = [(kind.value, kind.value) for kind in (Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN, Kind.DATE)]


class Scope(models.TextChoices):
    """The owner of an attribute."""

    CUSTOMER = "customer"
    COMPANY = "company"


class CustomAttributeQuerySet(models.QuerySet["CustomAttribute"]):
    def offered(self) -> Self:
        """Return attributes that are not retired. Menus offer these, and the limit counts them."""
        return self.filter(retired_at=None)

    def catalogue(self) -> Catalogue:
        """Return all attributes with their kinds, for rules, variables and intake."""
        kinds: dict[str, dict[str, Kind]] = {Scope.CUSTOMER: {}, Scope.COMPANY: {}}
        labels = {}
        for scope, name, kind, label in self.values_list("scope", "name", "kind", "label"):
            kinds[scope][name] = Kind(kind)
            if label:
                labels[f"{COMPANY_CUSTOM if scope == Scope.COMPANY else CUSTOM}{name}"] = label
        return Catalogue(customer=kinds[Scope.CUSTOMER], company=kinds[Scope.COMPANY], labels=labels)


class CustomAttribute(models.Model):
    """One custom attribute. Its kind comes from its first known value or from staff (behaviour 3)."""

    scope = models.CharField(max_length=8, choices=Scope)
    name = models.CharField(max_length=190)
    # The name that staff see in the console. Empty: the key.
    label = models.CharField("display name", max_length=100, blank=True, default="", db_default="")
    kind = models.CharField(max_length=8, choices=KINDS)
    created_at = models.DateTimeField()
    # Values of a retired attribute are still stored, but menus do not offer it. None: in use.
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
        return f"{self.label or self.name} ({self.kind})"


class RefusedName(models.Model):
    """A new name that a browser sent but may not add to a catalogue. Staff can accept it.

    Any visitor can cause rows here, so `intake.attributes.refused_names` deletes the oldest.
    """

    class Of(models.TextChoices):
        """The catalogue that the name would be in."""

        CUSTOMER = "customer", "Customer attribute"
        COMPANY = "company", "Company attribute"
        EVENT = "event", "Event"

    of = models.CharField(max_length=8, choices=Of)
    name = models.TextField()
    # The kind of the refused values; empty for an event.
    kind = models.CharField(max_length=8, choices=KINDS, blank=True, default="")
    times = models.PositiveBigIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="refused_name_listed_once", fields=("of", "name"))]

    def __str__(self) -> str:
        return self.name


class KindChange(models.Model):
    """A change of an attribute's kind by a worker, for attributes with many values, with its result."""

    attribute = models.ForeignKey(CustomAttribute, on_delete=models.CASCADE, related_name="kind_changes")
    to = models.CharField(max_length=8, choices=KINDS)
    # The number of values, and how many of them the teammate accepted to lose.
    values = models.PositiveBigIntegerField(default=0)
    lose_at_most = models.PositiveBigIntegerField(default=0)
    asked_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    kept = models.PositiveBigIntegerField(null=True, blank=True)
    lost = models.PositiveBigIntegerField(null=True, blank=True)
    # The reason for a failure; empty if the change succeeded or is waiting.
    problem = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="one_kind_change_at_a_time", fields=("attribute",), condition=models.Q(ended_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.attribute.name} to {self.to}"
