"""How rules, states and what will happen read to staff, in the words of the product."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from audiences import attributes
from audiences.attributes import Catalogue
from audiences.models import Audience, CustomAttribute, Tag
from audiences.rules import LABELS, NEGATIVE_OPERATORS, Group, Kind, Operator, Rule, RuleError
from delivery.models import Status
from messaging.models import Channel, Message, State

# The colour of a chip; the style sheet knows the names.
STATE_TONES: dict[State, str] = {
    State.DRAFT: "plain",
    State.SCHEDULED: "info",
    State.LIVE: "good",
    State.PAUSED: "warning",
    State.SAMPLED: "info",
    State.STOPPED: "plain",
    State.SENT: "good",
}
# What can be measured by each channel; what cannot is a dash and not a nought.
MEASURED: dict[Channel, tuple[str, ...]] = {
    Channel.EMAIL: ("opened", "clicked", "bounced", "complained", "unsubscribed"),
    Channel.IN_APP: ("opened", "clicked", "replied"),
    Channel.PUSH: ("opened",),
}


def measured(channel: str) -> tuple[str, ...]:
    """What can be measured of a channel here: answers to email only where they come back to us."""
    found = MEASURED[Channel(channel)]
    return (*found, "replied") if channel == Channel.EMAIL and settings.INBOUND_DOMAIN else found


STATUS_TONES: dict[Status, str] = {
    Status.WAITING: "info",
    Status.SENDING: "info",
    Status.UNCERTAIN: "warning",
    Status.SENT: "good",
    Status.FAILED: "bad",
    Status.SKIPPED: "plain",
    Status.WITHDRAWN: "plain",
}
STATUS_WORDS: dict[Status, str] = {
    Status.WAITING: "Not begun yet",
    Status.SENDING: "Being handed over right now",
    Status.UNCERTAIN: "Handed over or not: nobody can know",
    Status.SENT: "Handed over",
    Status.FAILED: "Will not reach them",
    Status.SKIPPED: "Left out, and will not get it",
    Status.WITHDRAWN: "Taken back before it went",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an audience in words; `depth` says how far in it stands, `joint` what joins it to the one above."""

    depth: int
    joint: str
    text: str


class Names:
    """The names of the tags, segments, messages and teammates some rules speak of, read once."""

    def __init__(self, trees: Iterable[Group]) -> None:
        self.catalogue: Catalogue = CustomAttribute.objects.catalogue()
        wanted: dict[Kind, set[int]] = {}
        for rule in (rule for tree in trees for rule in tree.leaves()):
            kind = self.kind_of(rule)
            if kind in READ and rule.operator in (Operator.IS, Operator.IS_NOT):
                wanted.setdefault(kind, set()).add(rule.value)
        self.names = {kind: {row.pk: str(row) for row in READ[kind].filter(pk__in=pks)} for kind, pks in wanted.items()}

    def kind_of(self, rule: Rule) -> Kind | None:
        """The kind of what a rule asks about; None where the attribute is gone."""
        try:
            return attributes.find_attribute(rule.attribute, catalogue=self.catalogue).kind
        except LookupError:
            return None

    def label_of(self, rule: Rule) -> str:
        """What a rule asks about."""
        try:
            return attributes.find_attribute(rule.attribute, catalogue=self.catalogue).label
        except LookupError:
            return rule.attribute

    def value_of(self, rule: Rule) -> str:
        """What a rule compares with."""
        kind = self.kind_of(rule)
        if kind in READ:
            return self.names.get(kind, {}).get(rule.value, "one that is gone")
        return "" if rule.value is None else str(rule.value)

    def sentence(self, rule: Rule) -> str:
        """A rule in words."""
        label, value = self.label_of(rule), self.value_of(rule)
        if rule.operator in DAYS:
            return f"{label} {DAYS[rule.operator](rule.value)}"
        return " ".join(part for part in (label, LABELS[rule.operator], value) if part)


READ: dict[Kind, Any] = {
    Kind.TAG: Tag.objects.all(),
    Kind.SEGMENT: Audience.objects.segments(),
    Kind.MESSAGE: Message.objects.all(),
    Kind.TEAMMATE: User.objects.all(),
}


def days(count: int) -> str:
    """A number of days in words."""
    return "1 day" if count == 1 else f"{count:,} days"


# Negative days are in the future, where "more than" turns round (behaviour 4.4).
DAYS: dict[Operator, Any] = {
    Operator.MORE_THAN_DAYS_AGO: lambda n: (
        f"more than {days(n)} ago" if n > 0 else "in the past" if n == 0 else f"less than {days(-n)} from now"
    ),
    Operator.LESS_THAN_DAYS_AGO: lambda n: (
        f"less than {days(n)} ago" if n > 0 else "in the future" if n == 0 else f"more than {days(-n)} from now"
    ),
    Operator.EXACTLY_DAYS_AGO: lambda n: (
        f"exactly {days(n)} ago" if n > 0 else "in the last 24 hours" if n == 0 else f"exactly {days(-n)} from now"
    ),
}


def audience_lines(tree: Group) -> list[Line]:
    """An audience in words, a line for each rule."""
    names = Names([tree])
    return list(lines_of(tree, names=names, depth=0))


def lines_of(group: Group, *, names: Names, depth: int) -> Iterator[Line]:
    """The lines of one group."""
    word = "and" if group.match == "all" else "or"
    for number, rule in enumerate(group.rules):
        joint = word if number else ""
        if not isinstance(rule, Group):
            yield Line(depth, joint, names.sentence(rule))
        elif rule.copied_from:
            yield Line(depth, joint, f"{'Not in' if rule.negated else 'In'} segment {rule.copied_from}")
            yield from lines_of(rule, names=names, depth=depth + 1)
        else:
            yield Line(depth, joint, f"{'None' if rule.negated else 'All' if rule.match == 'all' else 'Any'} of:")
            yield from lines_of(rule, names=names, depth=depth + 1)


def in_one_line(stored: Any) -> str:
    """Stored rules in words, on one line; groups in brackets."""
    try:
        tree = Audience(rules=stored).tree
    except RuleError:
        return "Rules that make no sense"
    return group_in_words(tree, names=Names([tree])) or "No filters: everyone"


def group_in_words(group: Group, *, names: Names) -> str:
    """One group on one line."""
    word = " and " if group.match == "all" else " or "
    return word.join(rule_in_words(rule, names=names) for rule in group.rules)


def rule_in_words(rule: Rule | Group, *, names: Names) -> str:
    """A rule, or a group in brackets."""
    if not isinstance(rule, Group):
        return names.sentence(rule)
    if rule.copied_from:
        return f"{'Not in' if rule.negated else 'In'} segment {rule.copied_from}"
    return f"{'not ' if rule.negated else ''}({group_in_words(rule, names=names)})"


def joins_negatives_by_or(group: Group) -> bool:
    """Whether two negative rules are joined by or, which matches nearly everybody (behaviour 6.1)."""
    negative = [rule for rule in group.rules if isinstance(rule, Rule) and rule.operator in NEGATIVE_OPERATORS]
    inside = any(joins_negatives_by_or(rule) for rule in group.rules if isinstance(rule, Group))
    return inside or (group.match == "any" and len(negative) > 1)


def percent(part: int, whole: int) -> str:
    """A share in whole percent, a half rounded up; nothing of nothing is a dash."""
    return f"{(200 * part + whole) // (2 * whole)} %" if whole else "–"


def times(number: int) -> str:
    """How often, in words."""
    return "once" if number == 1 else f"{number:,} times"


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many}"
