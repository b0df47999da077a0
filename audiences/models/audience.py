"""Audiences: rules stored as JSON. A named one is a segment; an unnamed one belongs to a message."""

from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models.functions import Cast

from audiences import attributes
from audiences.attributes import BY_NAME
from audiences.models.catalogue import CustomAttribute
from audiences.models.tags import Tag
from audiences.rules import LABELS, Group, Kind, Rule, RuleError, parse

SEGMENTS_LOCK = 7_210_001
MOST_SEGMENTS_DEEP = 8
ABOUT_TAGS = ("tag", "company.tag")
ABOUT_SEGMENTS = ("segment", "company.segment")
ASKING = "$.** ? (@.attribute == $names[*] && @.value == $value)"


class AudienceQuerySet(models.QuerySet["Audience"]):
    """Questions about audiences."""

    def segments(self) -> Self:
        """Those with a name."""
        return self.exclude(name="")

    def naming(self, row: models.Model, *attributes: str) -> Self:
        """Those with a rule about one of these attributes that names this row."""
        named = {"names": attributes, "value": row.pk}
        return self.filter(
            models.Func(
                "rules",
                models.Value(ASKING),
                Cast(models.Value(named, models.JSONField()), models.JSONField()),
                function="jsonb_path_exists",
                template="%(function)s(%(expressions)s)",
                output_field=models.BooleanField(),
            )
        )


class Audience(models.Model):
    """Who: a tree of rules (DESIGN 3). It is checked when saved, and refused in a sentence that names the rule."""

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
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SEGMENTS_LOCK])
            self.clean()
            super().save(*args, **kwargs)

    @property
    def tree(self) -> Group:
        """The rules, read; RuleError where they no longer make sense."""
        return read(self.rules)

    def clean(self) -> None:
        """Refuse rules that make no sense, name what is not there, or lead back to this segment."""
        try:
            tree = self.tree
            self.rules = tree.as_json()
            check_references(tree)
            check_cycles(tree, of=self.pk or 0)
        except RuleError as wrong:
            raise ValidationError({"rules": str(wrong)}) from wrong


def read(stored: object, *, catalogue: attributes.Catalogue | None = None) -> Group:
    """Read stored rules by today's catalogue, which whoever reads many may bring along."""
    if catalogue is None:
        catalogue = CustomAttribute.objects.catalogue()

    def kind_of(name: str) -> tuple[Kind, str]:
        found = attributes.find(name, catalogue=catalogue)
        return found.kind, found.label

    return parse(stored, kind_of=kind_of)


def segment_rules(tree: Group) -> list[Rule]:
    """Every rule of a tree that names a segment."""
    return [rule for rule in tree.leaves() if rule.attribute in ABOUT_SEGMENTS]


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


def check_cycles(tree: Group, *, of: int) -> None:
    """Refuse what makes the segment `of`, through others, a part of itself; each segment named is looked at once."""
    depths: dict[int, int] = {}

    def depth(within: Group, *, path: frozenset[int]) -> int:
        named = {rule.value for rule in segment_rules(within)}
        if named & path:
            raise RuleError("A segment cannot be a part of itself, not even through another one.")
        for pk, segment in find_segments(named - depths.keys()).items():
            depths[pk] = 1 + depth(segment.tree, path=path | {pk})
        deepest = max((depths[pk] for pk in named), default=0)
        if len(path) + deepest > MOST_SEGMENTS_DEEP + 1:
            raise RuleError(f"Segments go at most {MOST_SEGMENTS_DEEP} deep into one another.")
        return deepest

    depth(tree, path=frozenset({of}))


def find_segments(wanted: set[int]) -> dict[int, Audience]:
    """Return segments by id; RuleError where one is not there."""
    found = Audience.objects.segments().in_bulk(wanted)
    if missing := wanted - found.keys():
        raise RuleError(f"A rule names a segment that is not there ({min(missing)}).")
    return found
