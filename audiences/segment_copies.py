"""Copies of segments: a live message has the rules of the segments that it names, as they were at go-live."""

from dataclasses import replace
from datetime import date

from audiences.models import Audience
from audiences.models.audience import SEGMENT_ATTRIBUTES
from audiences.rules import Group, Operator, Rule, RuleError


def freeze(tree: Group, *, on: date) -> Group:
    """Replace every segment rule by a copy of the segment, so that later edits do not change a live message."""

    def freeze_rule(rule: Rule | Group) -> Rule | Group:
        if isinstance(rule, Group):
            return replace(rule, rules=tuple(freeze_rule(inner) for inner in rule.rules))
        if rule.attribute not in SEGMENT_ATTRIBUTES:
            return rule
        found = Audience.objects.segments().filter(pk=rule.value).first()
        if found is None:
            raise RuleError(f"A rule uses a segment that no longer exists ({rule.value}).")
        tree = freeze(found.tree, on=on)
        inner: tuple[Rule | Group, ...] = (tree,) if tree.rules or tree.copied_from else ()
        if rule.attribute == "company.segment":
            inner = (Rule("company.company_id", Operator.HAS_ANY_VALUE), *inner)
        name = f"{found.name} as of {on.day} {on:%B %Y}"
        return Group("all", inner, copied_from=name, negated=rule.operator is Operator.IS_NOT)

    copied = freeze_rule(tree)
    assert isinstance(copied, Group)  # noqa: S101 - a group freezes to a group
    return copied
