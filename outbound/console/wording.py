"""The words that staff read for rules, states and statuses."""

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

# The colour class of a chip in the style sheet.
STATE_TONES: dict[State, str] = {
    State.DRAFT: "plain",
    State.SCHEDULED: "info",
    State.LIVE: "good",
    State.PAUSED: "warning",
    State.SAMPLED: "info",
    State.STOPPED: "plain",
    State.SENT: "good",
}
# The events that each channel can measure; the others are shown as a dash, not as 0.
MEASURED: dict[Channel, tuple[str, ...]] = {
    Channel.EMAIL: ("opened", "clicked", "bounced", "complained", "unsubscribed"),
    Channel.IN_APP: ("opened", "clicked", "replied"),
    Channel.PUSH: ("opened",),
}


def measurable_events(channel: str) -> tuple[str, ...]:
    """Return the events that a channel can measure; email replies only if INBOUND_DOMAIN is set."""
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
    Status.WAITING: "Not sent yet",
    Status.SENDING: "Being sent now",
    Status.UNCERTAIN: "May or may not have been sent",
    Status.SENT: "Sent, or shown in the app",
    Status.FAILED: "Could not be delivered",
    Status.SKIPPED: "Left out of this message",
    Status.WITHDRAWN: "Withdrawn before sending",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an audience in words: its indentation `depth`, and the `joint` ("and", "or") with the line above."""

    depth: int
    joint: str
    text: str


class Names:
    """The names of tags, segments, messages and teammates in some rules, loaded once."""

    def __init__(self, trees: Iterable[Group]) -> None:
        self.catalogue: Catalogue = CustomAttribute.objects.catalogue()
        wanted: dict[Kind, set[int]] = {}
        for rule in (rule for tree in trees for rule in tree.leaves()):
            kind = self.kind_of(rule)
            if kind in NAMED_ROWS and rule.operator in (Operator.IS, Operator.IS_NOT):
                wanted.setdefault(kind, set()).add(rule.value)
        self.names = {
            kind: {row.pk: str(row) for row in NAMED_ROWS[kind].filter(pk__in=pks)} for kind, pks in wanted.items()
        }

    def kind_of(self, rule: Rule) -> Kind | None:
        """Return the kind of a rule's attribute, or None if the attribute does not exist."""
        try:
            return attributes.find_attribute(rule.attribute, catalogue=self.catalogue).kind
        except LookupError:
            return None

    def label_of(self, rule: Rule) -> str:
        try:
            return attributes.find_attribute(rule.attribute, catalogue=self.catalogue).label
        except LookupError:
            return rule.attribute

    def value_of(self, rule: Rule) -> str:
        kind = self.kind_of(rule)
        if kind in NAMED_ROWS:
            return self.names.get(kind, {}).get(rule.value, "(deleted)")
        return "" if rule.value is None else str(rule.value)

    def sentence(self, rule: Rule) -> str:
        """Return a rule in words."""
        label, value = self.label_of(rule), self.value_of(rule)
        if rule.operator in DAY_PHRASES:
            return f"{label} {DAY_PHRASES[rule.operator](rule.value)}"
        return " ".join(part for part in (label, LABELS[rule.operator], value) if part)


NAMED_ROWS: dict[Kind, Any] = {
    Kind.TAG: Tag.objects.all(),
    Kind.SEGMENT: Audience.objects.segments(),
    Kind.MESSAGE: Message.objects.all(),
    Kind.TEAMMATE: User.objects.all(),
}


def days(count: int) -> str:
    return "1 day" if count == 1 else f"{count:,} days"


DAY_PHRASES: dict[Operator, Any] = {
    Operator.MORE_THAN_DAYS_AGO: lambda n: f"more than {days(n)} ago" if n else "in the past",
    Operator.LESS_THAN_DAYS_AGO: lambda n: f"less than {days(n)} ago",
    Operator.EXACTLY_DAYS_AGO: lambda n: f"exactly {days(n)} ago" if n else "in the last 24 hours",
    Operator.IN_LESS_THAN_DAYS: lambda n: f"in less than {days(n)}",
    Operator.IN_MORE_THAN_DAYS: lambda n: f"in more than {days(n)}" if n else "in the future",
    Operator.EXACTLY_DAYS_FROM_NOW: lambda n: f"exactly {days(n)} from now" if n else "today",
}
GROUP_WORDS = {"all": "All of:", "any": "Any of:", "none": "None of:"}


def audience_lines(tree: Group) -> list[Line]:
    """Return an audience in words, one line for each rule."""
    names = Names([tree])
    return list(group_lines(tree, names=names, depth=0))


def group_lines(group: Group, *, names: Names, depth: int) -> Iterator[Line]:
    word = "and" if group.match == "all" else "or"
    for number, rule in enumerate(group.rules):
        joint = word if number else ""
        if not isinstance(rule, Group):
            yield Line(depth, joint, names.sentence(rule))
        elif rule.copied_from:
            yield Line(depth, joint, f"{'Not in' if rule.negated else 'In'} segment {rule.copied_from}")
            yield from group_lines(rule, names=names, depth=depth + 1)
        else:
            yield Line(depth, joint, GROUP_WORDS[rule.match])
            yield from group_lines(rule, names=names, depth=depth + 1)


def rules_in_one_line(stored: Any) -> str:
    """Return stored rules in words on one line, with groups in brackets."""
    try:
        tree = Audience(rules=stored).tree
    except RuleError:
        return "Invalid rules"
    return group_in_words(tree, names=Names([tree])) or "No filters: everyone"


def group_in_words(group: Group, *, names: Names) -> str:
    word = " and " if group.match == "all" else " or "
    words = word.join(rule_in_words(rule, names=names) for rule in group.rules)
    return f"not ({words})" if group.match == "none" and words else words


def rule_in_words(rule: Rule | Group, *, names: Names) -> str:
    if not isinstance(rule, Group):
        return names.sentence(rule)
    if rule.copied_from:
        return f"{'Not in' if rule.negated else 'In'} segment {rule.copied_from}"
    return group_in_words(rule, names=names) if rule.match == "none" else f"({group_in_words(rule, names=names)})"


def joins_negatives_by_or(group: Group) -> bool:
    """Whether two negative rules are joined by "or", which matches almost everyone (behaviour 6.1)."""
    negative = [rule for rule in group.rules if isinstance(rule, Rule) and rule.operator in NEGATIVE_OPERATORS]
    inside = any(joins_negatives_by_or(rule) for rule in group.rules if isinstance(rule, Group))
    return inside or (group.match == "any" and len(negative) > 1)


def percent(part: int, whole: int) -> str:
    """Return a share in whole percent, rounded half up; a dash if `whole` is 0."""
    return f"{(200 * part + whole) // (2 * whole)} %" if whole else "–"


def times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many}"
