"""Rules: operators by kind, the tree of rules and groups, and the parser of its JSON.

behaviour 3 'Audience' gives the JSON; behaviour 6 gives the operators. The compiler gives their meaning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from audiences.rule_values import VALUE_READERS, is_storable, quoted_value
from audiences.rule_values import RuleError as RuleError

MAX_DEPTH = 10
MAX_RULES = 200
# Including the rules of segments, named or copied. PostgreSQL plans so many in seconds (measured).
MAX_RULES_WITH_SEGMENTS = 400
MAX_COPY_DEPTH = 16
MAX_RULES_OF_ONE_DATE = 3


class Kind(StrEnum):
    """The kind of an attribute's value, which decides its operators."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    ROLE = "role"
    TAG = "tag"
    SEGMENT = "segment"
    EVENT = "event"
    MESSAGE = "message"
    TEAMMATE = "teammate"


class Operator(StrEnum):
    """The comparison of a rule. Its label stands between the attribute and the value."""

    IS = "is"
    IS_NOT = "is_not"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    CONTAINS = "contains"
    DOES_NOT_CONTAIN = "does_not_contain"
    GREATER_THAN = "greater_than"
    LESS_THAN = "less_than"
    IS_TRUE = "is_true"
    IS_FALSE = "is_false"
    MORE_THAN_DAYS_AGO = "more_than_days_ago"
    LESS_THAN_DAYS_AGO = "less_than_days_ago"
    EXACTLY_DAYS_AGO = "exactly_days_ago"
    IN_LESS_THAN_DAYS = "in_less_than_days"
    IN_MORE_THAN_DAYS = "in_more_than_days"
    EXACTLY_DAYS_FROM_NOW = "exactly_days_from_now"
    AFTER = "after"
    ON = "on"
    BEFORE = "before"
    HAS_HAPPENED = "has_happened"
    HAS_NOT_HAPPENED = "has_not_happened"
    IS_UNKNOWN = "is_unknown"
    HAS_ANY_VALUE = "has_any_value"


LABELS: dict[Operator, str] = {
    Operator.IS: "is",
    Operator.IS_NOT: "is not",
    Operator.STARTS_WITH: "starts with",
    Operator.ENDS_WITH: "ends with",
    Operator.CONTAINS: "contains",
    Operator.DOES_NOT_CONTAIN: "does not contain",
    Operator.GREATER_THAN: "greater than",
    Operator.LESS_THAN: "less than",
    Operator.IS_TRUE: "is true",
    Operator.IS_FALSE: "is false",
    Operator.MORE_THAN_DAYS_AGO: "more than … days ago",
    Operator.LESS_THAN_DAYS_AGO: "less than … days ago",
    Operator.EXACTLY_DAYS_AGO: "exactly … days ago",
    Operator.IN_LESS_THAN_DAYS: "in less than … days",
    Operator.IN_MORE_THAN_DAYS: "in more than … days",
    Operator.EXACTLY_DAYS_FROM_NOW: "exactly … days from now",
    Operator.AFTER: "after",
    Operator.ON: "on",
    Operator.BEFORE: "before",
    Operator.HAS_HAPPENED: "has happened",
    Operator.HAS_NOT_HAPPENED: "has not happened",
    Operator.IS_UNKNOWN: "is unknown",
    Operator.HAS_ANY_VALUE: "has any value",
}

O = Operator  # noqa: E741 - the table below is read as a table
PRESENCE_OPERATORS = (O.IS_UNKNOWN, O.HAS_ANY_VALUE)
AGO_OPERATORS = (O.MORE_THAN_DAYS_AGO, O.LESS_THAN_DAYS_AGO, O.EXACTLY_DAYS_AGO)
FROM_NOW_OPERATORS = (O.IN_LESS_THAN_DAYS, O.IN_MORE_THAN_DAYS, O.EXACTLY_DAYS_FROM_NOW)
# They compare a date with now, in days.
RELATIVE_DAY_OPERATORS = (*AGO_OPERATORS, *FROM_NOW_OPERATORS)
# Less than 0 days would match nobody.
LEAST_DAYS = {O.LESS_THAN_DAYS_AGO: 1, O.IN_LESS_THAN_DAYS: 1}
# A negative number of days, the future in versions before 0.3, now has operators of its own.
MEANT_BY_NEGATIVE_DAYS = {
    O.MORE_THAN_DAYS_AGO: O.IN_LESS_THAN_DAYS,
    O.LESS_THAN_DAYS_AGO: O.IN_MORE_THAN_DAYS,
    O.EXACTLY_DAYS_AGO: O.EXACTLY_DAYS_FROM_NOW,
}
CALENDAR_DAY_OPERATORS = (O.AFTER, O.ON, O.BEFORE)
OPERATORS: dict[Kind, tuple[Operator, ...]] = {
    Kind.TEXT: (O.IS, O.IS_NOT, O.STARTS_WITH, O.ENDS_WITH, O.CONTAINS, O.DOES_NOT_CONTAIN, *PRESENCE_OPERATORS),
    Kind.NUMBER: (O.GREATER_THAN, O.LESS_THAN, O.IS, O.IS_NOT, *PRESENCE_OPERATORS),
    Kind.BOOLEAN: (O.IS_TRUE, O.IS_FALSE, *PRESENCE_OPERATORS),
    Kind.DATE: (*RELATIVE_DAY_OPERATORS, *CALENDAR_DAY_OPERATORS, *PRESENCE_OPERATORS),
    Kind.ROLE: (O.IS, O.IS_NOT),
    Kind.TAG: (O.IS, O.IS_NOT),
    Kind.SEGMENT: (O.IS, O.IS_NOT),
    Kind.EVENT: (O.HAS_HAPPENED, O.HAS_NOT_HAPPENED),
    Kind.MESSAGE: (O.IS, O.IS_NOT),
    Kind.TEAMMATE: (O.IS, O.IS_NOT, *PRESENCE_OPERATORS),
}
OPERATORS_WITHOUT_VALUE = {O.IS_TRUE, O.IS_FALSE, O.HAS_HAPPENED, O.HAS_NOT_HAPPENED, *PRESENCE_OPERATORS}
# Two of these joined by "or" match nearly every customer, so the composer warns (behaviour 6.1).
NEGATIVE_OPERATORS = {O.IS_NOT, O.DOES_NOT_CONTAIN, O.HAS_NOT_HAPPENED, O.IS_UNKNOWN, O.IS_FALSE}

KIND_NAMES: dict[Kind, str] = {
    Kind.TEXT: "text",
    Kind.NUMBER: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.DATE: "a date",
    Kind.ROLE: "a role",
    Kind.TAG: "a tag",
    Kind.SEGMENT: "a segment",
    Kind.EVENT: "an event",
    Kind.MESSAGE: "a message",
    Kind.TEAMMATE: "a teammate",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One comparison: the name of an attribute, an operator, and a value (None for some operators)."""

    attribute: str
    operator: Operator
    value: Any = None

    def as_json(self) -> dict[str, Any]:
        """Return the rule as it is stored."""
        stored = {"attribute": self.attribute, "operator": self.operator.value}
        return stored if self.operator in OPERATORS_WITHOUT_VALUE else {**stored, "value": self.value}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules and groups of which all, any or none ("all", "any", "none") must hold. An empty group matches everyone.

    `copied_from` is the segment that the group copies, with the day of the copy ("Slipping away as of 3 May").
    `negated` is True if the copied rule was "segment is not".
    """

    match: str
    rules: tuple["Rule | Group", ...] = ()
    copied_from: str = ""
    negated: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the group as it is stored."""
        stored: dict[str, Any] = {"match": self.match, "rules": [rule.as_json() for rule in self.rules]}
        if self.copied_from:
            stored["copied_from"] = self.copied_from
        if self.negated:
            stored["negated"] = True
        return stored

    def leaves(self) -> Iterator[Rule]:
        """Yield every rule of the tree, in reading order."""
        for rule in self.rules:
            if isinstance(rule, Group):
                yield from rule.leaves()
            else:
                yield rule

    def positive_leaves(self) -> Iterator[Rule]:
        """Yield the rules that are not in a negated group."""
        if not self.negated and self.match != "none":
            for rule in self.rules:
                if isinstance(rule, Group):
                    yield from rule.positive_leaves()
                else:
                    yield rule

    def own_rule_count(self) -> int:
        """Return the number of rules without those of copied segments, which were counted in the segment."""
        groups = [rule for rule in self.rules if isinstance(rule, Group) and not rule.copied_from]
        return sum(isinstance(rule, Rule) for rule in self.rules) + sum(
            1 if group.compares_one_date() else group.own_rule_count() for group in groups
        )

    def size(self) -> int:
        """Return the number of rules including those of copied segments. An empty group counts as one."""
        return sum(
            rule.size() or 1 if isinstance(rule, Group) and not rule.compares_one_date() else 1 for rule in self.rules
        )

    def compares_one_date(self) -> bool:
        """Return whether the group says what one rule about a date said before version 0.3. It counts as one rule."""
        leaves = list(self.leaves())
        dates = {leaf.attribute for leaf in leaves if leaf.operator in RELATIVE_DAY_OPERATORS}
        return len(leaves) <= MAX_RULES_OF_ONE_DATE and len(dates) == 1 == len({leaf.attribute for leaf in leaves})

    def numbered_rules(self, within: str = "") -> Iterator[tuple[str, Rule]]:
        """Yield every rule with its number in error messages ("2.1")."""
        for number, rule in enumerate(self.rules, start=1):
            place = f"{within}{number}"
            if isinstance(rule, Group):
                yield from rule.numbered_rules(f"{place}.")
            else:
                yield place, rule


EVERYONE = Group("all")

KindOf = Callable[[str], "tuple[Kind, str]"]


def parse(stored: object, *, kind_of: KindOf) -> Group:
    """Parse the JSON of an audience. Raises RuleError with the number of the invalid rule and the reason.

    `kind_of` returns the kind and label of an attribute, or raises LookupError if there is none of this name.
    """
    if stored in (None, {}, []):
        return EVERYONE
    tree = parse_group(stored, kind_of=kind_of, place="", depth=1)
    if tree.own_rule_count() > MAX_RULES:
        raise RuleError(f"An audience can have at most {MAX_RULES} rules.")
    if tree.size() > MAX_RULES_WITH_SEGMENTS:
        raise RuleError(
            f"An audience can have at most {MAX_RULES_WITH_SEGMENTS} rules, including those of its segments."
        )
    return tree


def parse_group(stored: object, *, kind_of: KindOf, place: str, depth: int, copies: int = 0) -> Group:
    """Parse one group. `place` is its number among the rules, "" for the outermost group."""
    name = f"Group {place}" if place else "The audience"
    bare, entries = parse_joint(stored, name=name)
    if bare.copied_from:
        depth, copies = 0, copies + 1  # A segment's depth was checked when it was saved.
    if place and not entries and not bare.copied_from:
        raise RuleError(f"{name} has no rules. Add one, or remove the group.")
    if depth > MAX_DEPTH:
        raise RuleError(f"{name} is nested too deep. Groups can be nested at most {MAX_DEPTH} levels deep.")
    if copies > MAX_COPY_DEPTH:
        raise RuleError(f"{name} is nested too deep. Segments can be nested at most {MAX_COPY_DEPTH} levels deep.")
    rules: list[Rule | Group] = []
    for number, entry in enumerate(entries, start=1):
        inside = f"{place}.{number}" if place else str(number)
        if isinstance(entry, dict) and "rules" in entry:
            rules.append(parse_group(entry, kind_of=kind_of, place=inside, depth=depth + 1, copies=copies))
        else:
            rules.append(parse_rule(entry, kind_of=kind_of, place=inside))
    return replace(bare, rules=tuple(rules))


def parse_joint(stored: object, *, name: str) -> tuple[Group, list[object]]:
    """Parse a group without its rules; return it and the unparsed rules."""
    # A rule without a group is an error; otherwise a caller's mistake could match everyone.
    if not isinstance(stored, dict) or "rules" not in stored:
        raise RuleError(f'{name} must be an object with "match" and "rules".')
    match, entries = stored.get("match", "all"), stored["rules"]
    if match not in ("all", "any", "none"):
        raise RuleError(f'{name} must match "all", "any" or "none" of its rules, not “{quoted_value(match)}”.')
    if not isinstance(entries, list):
        raise RuleError(f'{name} needs a list of "rules".')
    copied_from, negated = stored.get("copied_from", ""), stored.get("negated", False)
    if not isinstance(copied_from, str) or not is_storable(copied_from):
        raise RuleError(f'{name} has a "copied_from" that is not a string.')
    if not isinstance(negated, bool):
        raise RuleError(f'{name} has a "negated" that is not true or false.')
    if negated and not copied_from:
        raise RuleError(f'{name} is "negated", but only the copy of a segment can be negated.')
    return Group(match, copied_from=copied_from, negated=negated), entries


def parse_rule(stored: object, *, kind_of: KindOf, place: str) -> Rule:
    if not isinstance(stored, dict):
        raise RuleError(f'Rule {place} must be an object with "attribute", "operator" and "value".')
    attribute = stored.get("attribute")
    if not isinstance(attribute, str) or not attribute:
        raise RuleError(f"Rule {place} has no attribute.")
    try:
        kind, label = kind_of(attribute)
    except LookupError as unknown:
        raise RuleError(f"Rule {place}: there is no attribute “{quoted_value(attribute)}”.") from unknown
    asked = stored.get("operator")
    if not isinstance(asked, str) or asked not in LABELS:
        raise RuleError(f"Rule {place}, “{label}”: there is no operator “{quoted_value(asked)}”.")
    operator = Operator(asked)
    if operator not in OPERATORS[kind]:
        raise RuleError(f"Rule {place}: “{LABELS[operator]}” does not fit “{label}”, which is {KIND_NAMES[kind]}.")
    try:
        value = read_value(stored.get("value"), kind=kind, operator=operator, label=label)
    except RuleError as wrong:
        raise RuleError(f"Rule {place}, {wrong}") from wrong
    return Rule(attribute, operator, value)


def read_value(value: object, *, kind: Kind, operator: Operator, label: str) -> Any:
    """Parse the value that a rule compares with. Return None if its operator takes no value."""
    if operator in OPERATORS_WITHOUT_VALUE:
        return None
    try:
        parsed = VALUE_READERS[value_kind(kind, operator)](value)
        if operator in RELATIVE_DAY_OPERATORS:
            check_days(parsed, operator=operator)
    except RuleError as wrong:
        raise RuleError(f"“{label} {LABELS[operator]}”: {wrong}") from wrong
    return parsed


def value_kind(kind: Kind, operator: Operator) -> str:
    """Return the key in VALUE_READERS for this operator on this kind."""
    if kind is Kind.DATE:
        return "days" if operator in RELATIVE_DAY_OPERATORS else "day"
    return kind.value


def check_days(days: int, *, operator: Operator) -> None:
    """Raise RuleError if an operator cannot compare with this number of days."""
    if days < 0 and operator in MEANT_BY_NEGATIVE_DAYS:
        instead = MEANT_BY_NEGATIVE_DAYS[operator]
        raise RuleError(
            f"the number of days cannot be negative. For the future, use “{LABELS[instead]}” ({instead.value})."
        )
    if days < LEAST_DAYS.get(operator, 0):
        raise RuleError(f"enter {LEAST_DAYS.get(operator, 0)} or more days.")
