"""Dependencies of a message: the changes, and the passing of time, that can make a customer match.

They come from the compiled rules. A change that cannot be classified counts as a change of everything, and a message
whose rules cannot be followed is matched in full by every round.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from audiences import change_log
from audiences.attributes import About, Attribute
from audiences.change_log import BIT
from audiences.compiler import IS_USER, PLACEHOLDER, Condition, Leaf
from audiences.rules import Kind, Operator
from delivery.eligibility.live_messages import Live

# Tables besides the customer's own that decide whether a customer can be reached, with their bits.
REACHABILITY_TABLES = {"audiences_device": BIT["device"], "audiences_topicoptout": BIT["topic"]}
# A change of these makes anybody a candidate.
ALWAYS = BIT["role"] | BIT["archived_at"] | BIT["withdrawn"]
OF_PAIRS = BIT["membership"] | BIT["company.archived_at"]


@dataclass(frozen=True, slots=True)
class Boundary:
    """A date that rules compare with so many days before now, after now if negative. Time alone changes the result.

    With a zone, they compare calendar days in this zone.
    """

    attribute: Attribute
    days: int
    zone: str = ""

    def crossed(self, *, since: datetime, until: datetime) -> tuple[datetime, datetime]:
        """Return the range of the dates, both ends included, that cross the boundary between two moments."""
        days = timedelta(days=self.days)
        if not self.zone:
            return since - days, until - days
        zone = ZoneInfo(self.zone)
        first, last = (moment.astimezone(zone).date() - days for moment in (since, until))
        # A day begins to match at its own midnight, and ends at the next. No day does if none began.
        end = last + timedelta(days=first != last)
        return datetime.combine(first, time(), zone), datetime.combine(end, time(), zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The dependencies of one live message."""

    bits: int
    boundaries: frozenset[Boundary]
    # The messages that rules on what was received, opened or clicked name.
    messages: frozenset[int]
    # False if changes of data outside the change log decide.
    is_traceable: bool
    fingerprint: str
    # The SQL of the rules that need no join, by their meaning: the SQL with the values in place of their names.
    rules: dict[str, str]


def dependencies_of(message: Live) -> Dependencies:
    """Return the dependencies of a live ongoing message."""
    condition = message.compiled
    bits = ALWAYS | reachability_bits(message.reachable)
    if condition.sees_company or message.per_company:
        bits |= OF_PAIRS
    for leaf in condition.leaves:
        bits |= change_log.attribute_bits(leaf.attribute) if leaf.attribute.kind is not Kind.SEGMENT else 0
    return Dependencies(
        bits=bits,
        boundaries=frozenset(
            boundary for leaf in condition.leaves for boundary in boundaries_of(leaf, zone=message.zone_name)
        ),
        messages=frozenset(leaf.value for leaf in condition.leaves if leaf.attribute.kind is Kind.MESSAGE),
        # Going live copies segments, which others may edit.
        is_traceable=all(leaf.attribute.kind is not Kind.SEGMENT for leaf in condition.leaves),
        fingerprint=fingerprint_of(message),
        rules={with_values(sql, condition.params): sql for sql in rules_without_join(condition)},
    )


def rules_without_join(condition: Condition) -> list[str]:
    """Return the SQL of the rules that need no join, and of the role. Those of a segment are leaves themselves."""
    found = [
        leaf.sql
        for leaf in condition.leaves
        if "{summary}" not in leaf.attribute.sql and leaf.attribute.kind is not Kind.SEGMENT
    ]
    return [IS_USER, *found] if IS_USER in condition.sql else found


def with_values(sql: str, params: Mapping[str, Any]) -> str:
    """Return SQL with the values of its parameters in place of their names."""
    return PLACEHOLDER.sub(lambda name: repr(params[name[1]]) if name[1] in params else name[0], sql)


def reachability_bits(sql: str) -> int:
    """Return the bits of the changes that decide whether a customer can be reached."""
    bits = change_log.columns_bits(sql.replace("v.customer_id = c.id", ""))
    for table, bit in REACHABILITY_TABLES.items():
        if table in sql:
            bits |= bit
    return bits


# The days before now, negative after now, at which a date begins or ceases to satisfy an operator.
BOUNDARY_DAYS: dict[Operator, Callable[[int], tuple[int, ...]]] = {
    Operator.MORE_THAN_DAYS_AGO: lambda days: (days,),
    Operator.LESS_THAN_DAYS_AGO: lambda days: (0, days),
    Operator.EXACTLY_DAYS_AGO: lambda days: (days, days + 1),
    Operator.IN_LESS_THAN_DAYS: lambda days: (-days, 0),
    Operator.IN_MORE_THAN_DAYS: lambda days: (-days,),
}


def boundaries_of(leaf: Leaf, *, zone: str) -> Iterable[Boundary]:
    """Return the boundaries of a rule. A given calendar day is fixed; only a new time zone moves it."""
    if leaf.operator is Operator.EXACTLY_DAYS_FROM_NOW:
        yield Boundary(leaf.attribute, -leaf.value, zone)
    elif leaf.operator in BOUNDARY_DAYS:
        for days in BOUNDARY_DAYS[leaf.operator](leaf.value):
            yield Boundary(leaf.attribute, days)


def fingerprint_of(message: Live) -> str:
    """Return a text that differs if the rules mean something else: edited, other kinds, other zone, other version."""
    condition = message.compiled
    parts = (
        *(change_log.LAYOUT, condition.sql, condition.joins, sorted(condition.params.items())),
        *(message.reachable, message.per_company, message.zone_name),
    )
    return hashlib.md5(repr(parts).encode(), usedforsecurity=False).hexdigest()


# The rows whose date is within one of the ranges `v`, by the owner of the date. `x` is the date.
PROBES: dict[About, str] = {
    About.CUSTOMER: "SELECT c.id, {columns} FROM {ranges} JOIN audiences_customer c ON {within}",
    About.COMPANY: (
        "SELECT m.customer_id, {columns} FROM {ranges} JOIN audiences_company k ON {within}"
        " JOIN audiences_membership m ON m.company_id = k.id"
    ),
    About.EVENT: (
        "SELECT s.customer_id, {columns} FROM {ranges} JOIN audiences_eventsummary s ON s.name = {key} AND {within}"
    ),
}


def date_sql(attribute: Attribute, *, key: str) -> str:
    """Return SQL for a date, with `key` as the name of the custom attribute; `date_indexes` indexes the same."""
    return attribute.sql.format(last_seen="c.last_seen_at", company_last_seen="k.last_seen_at", summary="s", key=key)


def probes(boundaries: Iterable[Boundary], *, since: datetime, until: datetime) -> tuple[list[str], dict[str, Any]]:
    """Return a SELECT for each date, and the parameters: customers for whom a boundary was crossed between two moments.

    Both ends belong to the range.
    """
    by_date: dict[Attribute, set[tuple[datetime, datetime]]] = defaultdict(set)
    for boundary in boundaries:
        by_date[boundary.attribute].add(boundary.crossed(since=since, until=until))
    found: list[str] = []
    params: dict[str, Any] = {}
    for number, (attribute, crossed) in enumerate(sorted(by_date.items(), key=lambda one: one[0].name)):
        key = f"%(b{number}_key)s::text"
        params[f"b{number}_key"] = attribute.key
        ranges = []
        for place, (first, last) in enumerate(sorted(crossed)):
            low, high = f"b{number}_low_{place}", f"b{number}_high_{place}"
            params[low], params[high] = first, last
            ranges.append(f"(%({low})s::timestamptz, %({high})s::timestamptz)")
        x = date_sql(attribute, key=key)
        found.append(
            PROBES[attribute.about].format(
                columns=(
                    f"{change_log.attribute_bits(attribute)}::bigint,"
                    " NULL::timestamptz, NULL::timestamptz, NULL::bigint"
                ),
                ranges=f"(VALUES {', '.join(ranges)}) AS v (low, high)",
                within=f"{x} >= v.low AND {x} <= v.high",
                key=key,
            )
        )
    return found, params
