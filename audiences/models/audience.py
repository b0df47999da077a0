"""Audiences: rules stored as JSON. A named one is a segment; an unnamed one belongs to a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models.functions import Cast

from audiences import attributes
from audiences.attributes import BY_NAME, EVENT_ATTRIBUTES
from audiences.locks import Lock
from audiences.models.catalogue import CustomAttribute
from audiences.models.tags import Tag
from audiences.rules import LABELS, MAX_RULES_WITH_SEGMENTS, Group, Kind, Rule, RuleError, parse

MAX_SEGMENT_DEPTH = 8
# How many events an audience can ask how often or when they happened: each is a table more to join.
MAX_EVENT_JOINS = 50
MAX_REPORTED_SIZE = 1_000_000
TAG_ATTRIBUTES = ("tag", "company.tag")
SEGMENT_ATTRIBUTES = ("segment", "company.segment")
RULE_PATH = "$.** ? (@.attribute == $names[*] && @.value == $value)"


class AudienceQuerySet(models.QuerySet["Audience"]):
    """Questions about audiences."""

    def segments(self) -> Self:
        """Those with a name."""
        return self.exclude(name="")

    def with_rule_about(self, row: models.Model, *attributes: str) -> Self:
        """Those with a rule about one of these attributes that names this row."""
        named = {"names": attributes, "value": row.pk}
        return self.filter(
            models.Func(
                "rules",
                models.Value(RULE_PATH),
                Cast(models.Value(named, models.JSONField()), models.JSONField()),
                function="jsonb_path_exists",
                template="%(function)s(%(expressions)s)",
                output_field=models.BooleanField(),
            )
        )


class Audience(models.Model):
    """Who: a tree of rules (behaviour 3). It is checked when saved, and refused in a sentence that names the rule."""

    name = models.CharField(max_length=200, blank=True, default="")
    rules = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = AudienceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="segment_name_once",
                fields=("name",),
                condition=~models.Q(name=""),
                violation_error_message="There is a segment of this name.",
            )
        ]

    def __str__(self) -> str:
        return self.name or f"Audience {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save what `clean` lets through; two saves that would close a circle between them wait for each other."""
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [Lock.SEGMENTS])
            self.clean()
            super().save(*args, **kwargs)

    @property
    def tree(self) -> Group:
        """The rules, read; RuleError where they no longer make sense."""
        return parse_stored_rules(self.rules)

    def clean(self) -> None:
        """Refuse rules that make no sense, name what is not there, or lead back to this segment."""
        try:
            tree = self.tree
            self.rules = tree.as_json()
            check_references(tree)
            check_segments(tree, of=self.pk or 0)
        except RuleError as wrong:
            raise ValidationError({"rules": str(wrong)}) from wrong


def parse_stored_rules(stored: object, *, catalogue: attributes.Catalogue | None = None) -> Group:
    """Read stored rules by today's catalogue, which whoever reads many may bring along."""
    if catalogue is None:
        catalogue = CustomAttribute.objects.catalogue()

    def kind_of(name: str) -> tuple[Kind, str]:
        found = attributes.find_attribute(name, catalogue=catalogue)
        return found.kind, found.label

    return parse(stored, kind_of=kind_of)


def segment_rules(tree: Group) -> list[Rule]:
    """Every rule of a tree that names a segment."""
    return [rule for rule in tree.leaves() if rule.attribute in SEGMENT_ATTRIBUTES]


def check_references(tree: Group) -> None:
    """Refuse a rule that names a tag or segment that is not there."""
    for about, rows in (("tag", Tag.objects.all()), ("segment", Audience.objects.segments())):
        naming = [rule for rule in tree.leaves() if rule.attribute in (about, f"company.{about}")]
        there = (
            set(rows.filter(pk__in={rule.value for rule in naming}).values_list("pk", flat=True)) if naming else set()
        )
        for rule in naming:
            if rule.value not in there:
                asks = f"{BY_NAME[rule.attribute].label} {LABELS[rule.operator]}"
                raise RuleError(f"The rule “{asks}” names a {about} that is not there ({rule.value}).")


@dataclass(frozen=True, slots=True)
class Reach:
    """What comes with some rules through the segments they name: how deep, how many rules in all, and which events."""

    deep: int
    size: int
    events: frozenset[str]


def check_segments(tree: Group, *, of: int = 0) -> None:
    """Refuse what makes the segment `of`, through others, a part of itself, or asks more than can be asked at once.

    Each segment is looked at once, however many ways lead to it: there may be millions.
    """
    found: dict[int, Reach] = {}
    names: dict[int, str] = {}

    def reach(within: Group, *, path: frozenset[int]) -> Reach:
        rules = segment_rules(within)
        named = {rule.value for rule in rules}
        if named & path:
            raise RuleError("A segment cannot be a part of itself, not even through another one.")
        for pk, segment in find_segments(named - found.keys()).items():
            found[pk], names[pk] = reach(segment.tree, path=path | {pk}), segment.name
        deepest = max((found[pk].deep for pk in named), default=0)
        if len(path) + deepest > MAX_SEGMENT_DEPTH + 1:
            raise RuleError(f"Segments go at most {MAX_SEGMENT_DEPTH} deep into one another.")
        events = events_of(within).union(*(found[pk].events for pk in named))
        return Reach(
            1 + deepest, within.size() + sum(extra_rule_count(rule, found[rule.value]) for rule in rules), events
        )

    whole = reach(tree, path=frozenset({of}))
    if whole.size > MAX_RULES_WITH_SEGMENTS:
        raise RuleError(too_many_rules_error(tree, found=found, names=names))
    if len(whole.events) > MAX_EVENT_JOINS:
        raise RuleError(
            f"These rules, with those of their segments, ask how often or when {len(whole.events):,} different events"
            f" happened. They can ask that of at most {MAX_EVENT_JOINS}."
        )


def extra_rule_count(rule: Rule, reach: Reach) -> int:
    """How many rules a segment has beyond the one that names it; a company's is also asked whether there is one."""
    return max(1, reach.size) - 1 + (rule.attribute == "company.segment")


def events_of(tree: Group) -> frozenset[str]:
    """The events rules ask how often or when they happened."""
    asking = tuple(prefix for prefix, (_, _, sql) in EVENT_ATTRIBUTES.items() if sql)
    return frozenset(
        rule.attribute.partition(".")[2].lower() for rule in tree.leaves() if rule.attribute.startswith(asking)
    )


def too_many_rules_error(tree: Group, *, found: Mapping[int, Reach], names: Mapping[int, str]) -> str:
    """Why these rules are too many, said of the one whose segment brings the most."""
    place, rule = max(
        ((place, rule) for place, rule in tree.numbered_rules() if rule.attribute in SEGMENT_ATTRIBUTES),
        key=lambda one: found[one[1].value].size,
    )
    size = found[rule.value].size
    shown = f"{size:,}" if size < MAX_REPORTED_SIZE else f"over {MAX_REPORTED_SIZE:,}"
    about = f"{BY_NAME[rule.attribute].label} {LABELS[rule.operator]} {names[rule.value]}"
    return (
        f"Rule {place}, “{about}”: this segment has {shown} rules, including the segments it uses."
        f" An audience can have at most {MAX_RULES_WITH_SEGMENTS} rules, including those of its segments."
    )


def find_segments(wanted: set[int]) -> dict[int, Audience]:
    """Return segments by id; RuleError where one is not there."""
    found = Audience.objects.segments().in_bulk(wanted)
    if missing := wanted - found.keys():
        raise RuleError(f"A rule names a segment that is no longer there ({min(missing)}).")
    return found
