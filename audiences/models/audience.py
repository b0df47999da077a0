"""Audiences: rules stored as JSON. An audience with a name is a segment, one without a name belongs to a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models.functions import Cast

from audiences import attributes
from audiences.attributes import BY_NAME, EVENT_ATTRIBUTES
from audiences.locks import Lock
from audiences.models.catalogue import CustomAttribute
from audiences.models.customers import Role
from audiences.models.tags import Tag
from audiences.rules import LABELS, MAX_RULES_WITH_SEGMENTS, Group, Kind, Operator, Rule, RuleError, parse

MAX_SEGMENT_DEPTH = 8
# How many events an audience may use by count or date, because each needs one more join.
MAX_EVENT_JOINS = 50
# A size that was counted longer ago is counted again when it is shown.
SIZE_KEPT_FOR = timedelta(minutes=10)
# Larger totals read “over 1,000,000” in the error.
MAX_REPORTED_SIZE = 1_000_000
TAG_ATTRIBUTES = ("tag", "company.tag")
ROLE_ATTRIBUTE = "role"
SEGMENT_ATTRIBUTES = ("segment", "company.segment")
RULE_PATH = "$.** ? (@.attribute == $names[*] && @.value == $value)"


class AudienceQuerySet(models.QuerySet["Audience"]):
    def segments(self) -> Self:
        return self.exclude(name="")

    def with_rule_about(self, row: models.Model, *attributes: str) -> Self:
        """Return audiences with a rule about one of these attributes whose value is this row."""
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
    """A tree of rules (behaviour 3). Saving validates it; the error names the rule."""

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
                violation_error_message="A segment with this name already exists.",
            )
        ]

    def __str__(self) -> str:
        return self.name or f"Audience {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Validate and save. Saves wait for each other, because two could make two segments contain each other."""
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [Lock.SEGMENTS])
            self.clean()
            super().save(*args, **kwargs)

    @property
    def tree(self) -> Group:
        """The parsed rules. Raises RuleError if they are no longer valid."""
        return parse_stored_rules(self.rules)

    def clean(self) -> None:
        """Raise ValidationError for invalid rules, missing tags or segments, and segments that contain this one."""
        try:
            tree = self.tree
            self.rules = tree.as_json()
            check_references(tree)
            check_segments(tree, of=self.pk or 0)
        except RuleError as wrong:
            raise ValidationError({"rules": str(wrong)}) from wrong


class SegmentSize(models.Model):
    """The number of members of a segment when they were last counted: a list of segments counts none of them."""

    segment = models.OneToOneField(Audience, primary_key=True, on_delete=models.CASCADE, related_name="size")
    people = models.BigIntegerField()
    # False for an estimate.
    is_exact = models.BooleanField()
    counted_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.people:,} in {self.segment}"

    def is_current(self, segment: Audience, *, at: datetime) -> bool:
        """Whether the count is recent, and of the segment's present rules."""
        return self.counted_at > at - SIZE_KEPT_FOR and self.counted_at >= segment.updated_at


class RewrittenRules(models.Model):
    """Stored rules that an upgrade rewrote without changing their meaning, before and after: it can be undone."""

    class Owner(models.TextChoices):
        """The table of the row that has the rules."""

        AUDIENCE = "audience"
        VERSION = "version"

    owner = models.CharField(max_length=8, choices=Owner)
    row_id = models.BigIntegerField()
    before = models.JSONField()
    after = models.JSONField()

    class Meta:
        default_permissions = ()
        verbose_name_plural = "rewritten rules"
        constraints = [models.UniqueConstraint(name="rules_rewritten_once", fields=("owner", "row_id"))]

    def __str__(self) -> str:
        return f"Rules of {self.owner} {self.row_id}"


def parse_stored_rules(stored: object, *, catalogue: attributes.Catalogue | None = None) -> Group:
    """Parse stored rules with the current catalogue; a caller with many rules can pass it."""
    if catalogue is None:
        catalogue = CustomAttribute.objects.catalogue()

    def kind_of(name: str) -> tuple[Kind, str]:
        found = attributes.find_attribute(name, catalogue=catalogue)
        return found.kind, found.label

    return parse(stored, kind_of=kind_of)


def segment_rules(tree: Group) -> list[Rule]:
    """Return every rule of a tree that uses a segment."""
    return [rule for rule in tree.leaves() if rule.attribute in SEGMENT_ATTRIBUTES]


@dataclass(frozen=True, slots=True)
class LeadRule:
    """A role rule through which an audience includes leads, and the segment in which it is; "" for its own rules."""

    rule: Rule
    segment: str = ""


def lead_rules(tree: Group, *, segment: str = "") -> list[LeadRule]:
    """Return the role rules that a lead can fulfil. One inside an excluded segment or “none of” adds nobody."""
    found: list[LeadRule] = []
    if tree.negated or tree.match == "none":
        return found
    for rule in tree.rules:
        if isinstance(rule, Group):
            found += lead_rules(rule, segment=rule.copied_from or segment)
        elif rule.attribute == ROLE_ATTRIBUTE and (rule.operator is Operator.IS) == (rule.value == Role.LEAD):
            found.append(LeadRule(rule, segment))
        elif rule.attribute in SEGMENT_ATTRIBUTES and rule.operator is Operator.IS:
            for one in find_segments({rule.value}).values():
                found += lead_rules(one.tree, segment=one.name)
    return found


def check_references(tree: Group) -> None:
    """Raise RuleError if a rule uses a tag or segment that does not exist."""
    for about, rows in (("tag", Tag.objects.all()), ("segment", Audience.objects.segments())):
        naming = [rule for rule in tree.leaves() if rule.attribute in (about, f"company.{about}")]
        there = (
            set(rows.filter(pk__in={rule.value for rule in naming}).values_list("pk", flat=True)) if naming else set()
        )
        for rule in naming:
            if rule.value not in there:
                asks = f"{BY_NAME[rule.attribute].label} {LABELS[rule.operator]}"
                raise RuleError(f"The rule “{asks}” uses a {about} that does not exist ({rule.value}).")


@dataclass(frozen=True, slots=True)
class Reach:
    """Totals of a tree including its segments: levels of nesting, number of rules, and events."""

    depth: int
    size: int
    events: frozenset[str]


def check_segments(tree: Group, *, of: int = 0) -> None:
    """Raise RuleError if the segment `of` would contain itself, or if the tree exceeds a limit.

    Each segment is read once, although there may be millions of paths to it.
    """
    found: dict[int, Reach] = {}
    names: dict[int, str] = {}

    def reach(within: Group, *, path: frozenset[int]) -> Reach:
        rules = segment_rules(within)
        named = {rule.value for rule in rules}
        if named & path:
            raise RuleError("A segment cannot be a part of itself, directly or through another segment.")
        for pk, segment in find_segments(named - found.keys()).items():
            found[pk], names[pk] = reach(segment.tree, path=path | {pk}), segment.name
        deepest = max((found[pk].depth for pk in named), default=0)
        if len(path) + deepest > MAX_SEGMENT_DEPTH + 1:
            raise RuleError(f"Segments can be nested at most {MAX_SEGMENT_DEPTH} levels deep.")
        events = events_of(within).union(*(found[pk].events for pk in named))
        return Reach(
            1 + deepest, within.size() + sum(extra_rule_count(rule, found[rule.value]) for rule in rules), events
        )

    whole = reach(tree, path=frozenset({of}))
    if whole.size > MAX_RULES_WITH_SEGMENTS:
        raise RuleError(too_many_rules_error(tree, found=found, names=names))
    if len(whole.events) > MAX_EVENT_JOINS:
        raise RuleError(
            "These rules, including those of their segments, use the counts or dates of"
            f" {len(whole.events):,} different events. The maximum is {MAX_EVENT_JOINS}."
        )


def extra_rule_count(rule: Rule, reach: Reach) -> int:
    """Return how many rules a segment adds to the rule that uses it. A company segment adds one more."""
    return max(1, reach.size) - 1 + (rule.attribute == "company.segment")


def events_of(tree: Group) -> frozenset[str]:
    """Return the events whose count or date a tree uses."""
    asking = tuple(prefix for prefix, (_, _, sql) in EVENT_ATTRIBUTES.items() if sql)
    return frozenset(
        rule.attribute.partition(".")[2].lower() for rule in tree.leaves() if rule.attribute.startswith(asking)
    )


def too_many_rules_error(tree: Group, *, found: Mapping[int, Reach], names: Mapping[int, str]) -> str:
    """Return the error for too many rules; it names the rule whose segment adds the most."""
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
    """Return segments by id; raises RuleError if one does not exist."""
    found = Audience.objects.segments().in_bulk(wanted)
    if missing := wanted - found.keys():
        raise RuleError(f"A rule uses a segment that no longer exists ({min(missing)}).")
    return found
