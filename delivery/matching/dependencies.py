"""Dependencies of a message: the changes, and the passing of time, that can make a customer match.

They come from the compiled rules. A change that cannot be classified counts as a change of everything, and a message
whose rules cannot be followed is matched in full by every round.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audiences import change_log
from audiences.attributes import About, Attribute
from audiences.change_log import BIT
from audiences.compiler import Leaf
from audiences.rules import ROLLING_DAY_OPERATORS, Kind, Operator
from delivery.eligibility.live_messages import Live

# Tables besides the customer's own that decide whether a customer can be reached, with their bits.
REACHABILITY_TABLES = {"audiences_device": BIT["device"]}
# A change of these makes anybody a candidate.
ALWAYS = BIT["role"] | BIT["archived_at"] | BIT["withdrawn"]
OF_PAIRS = BIT["membership"] | BIT["company.archived_at"]


@dataclass(frozen=True, slots=True)
class Boundary:
    """A date that rules compare with so many days before now. Time alone changes whether they hold."""

    attribute: Attribute
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The dependencies of one live message."""

    bits: int
    boundaries: frozenset[Boundary]
    # The messages that rules on what was received, opened or clicked name.
    messages: frozenset[int]
    # False if changes of data outside the change log decide.
    is_traceable: bool


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
        boundaries=frozenset(boundary for leaf in condition.leaves for boundary in boundaries_of(leaf)),
        messages=frozenset(leaf.value for leaf in condition.leaves if leaf.attribute.kind is Kind.MESSAGE),
        # Going live copies segments, which others may edit.
        is_traceable=all(leaf.attribute.kind is not Kind.SEGMENT for leaf in condition.leaves),
    )


def reachability_bits(sql: str) -> int:
    """Return the bits of the changes that decide whether a customer can be reached."""
    bits = change_log.columns_bits(sql.replace("v.customer_id = c.id", ""))
    for table, bit in REACHABILITY_TABLES.items():
        if table in sql:
            bits |= bit
    return bits


def boundaries_of(leaf: Leaf) -> Iterable[Boundary]:
    """Return the boundaries of a rule. Calendar days are fixed; only a new time zone moves them."""
    if leaf.operator in ROLLING_DAY_OPERATORS:
        yield Boundary(leaf.attribute, leaf.value)
    if leaf.operator is Operator.EXACTLY_DAYS_AGO:
        yield Boundary(leaf.attribute, leaf.value + 1)


def fingerprint_of(message: Live, *, cluster: str) -> str:
    """Return a text that differs if the rules mean something else: edited, other kinds, other zone, other version.

    In another cluster it differs too: a database restored from a dump counts its transactions anew.
    """
    condition = message.compiled
    parts = (
        *(change_log.LAYOUT, condition.sql, condition.joins, sorted(condition.params.items())),
        *(message.reachable, message.per_company, message.zone_name, cluster),
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
    by_date: dict[Attribute, set[int]] = defaultdict(set)
    for boundary in boundaries:
        by_date[boundary.attribute].add(boundary.days)
    found: list[str] = []
    params: dict[str, Any] = {}
    for number, (attribute, days) in enumerate(sorted(by_date.items(), key=lambda one: one[0].name)):
        key = f"%(b{number}_key)s::text"
        params[f"b{number}_key"] = attribute.key
        ranges = []
        for day in sorted(days):
            low, high = f"b{number}_low_{day}".replace("-", "m"), f"b{number}_high_{day}".replace("-", "m")
            params[low] = since - timedelta(days=day)
            params[high] = until - timedelta(days=day)
            ranges.append(f"(%({low})s::timestamptz, %({high})s::timestamptz)")
        x = date_sql(attribute, key=key)
        found.append(
            PROBES[attribute.about].format(
                columns=f"{change_log.attribute_bits(attribute)}::bigint, NULL::timestamptz, NULL::bigint",
                ranges=f"(VALUES {', '.join(ranges)}) AS v (low, high)",
                within=f"{x} >= v.low AND {x} <= v.high",
                key=key,
            )
        )
    return found, params
