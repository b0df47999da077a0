# ruff: noqa: S608 - frozen as it was
"""Old compiler: the compiler of version 0.2, frozen, to prove that rewritten rules mean the same as before.

There, a negative number of days was the future, and "less than N days ago" included every future date.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from audiences import attributes
from audiences.attributes import About, Attribute, Catalogue
from audiences.rules import Group, Kind, Operator, Rule

NOW = "%(now)s::timestamptz"
PLACEHOLDER = re.compile(r"%\((\w+)\)s")
COMPANY_OF_PAIR = (
    " LEFT JOIN (audiences_membership m JOIN audiences_company k ON k.id = m.company_id AND k.archived_at IS NULL)"
    " ON m.customer_id = c.id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """SQL for the time of the evaluation and for the last-seen values that rules see."""

    now: str = NOW
    last_seen: str = "c.last_seen_at"
    company_last_seen: str = "k.last_seen_at"


CURRENT_VIEW = View()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A compiled rule, also one of a segment: its attribute, operator and parsed value."""

    attribute: Attribute
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A compiled tree: a boolean SQL expression, its parameters by name, the joins it needs, and its rules."""

    sql: str
    params: dict[str, Any]
    joins: str
    sees_company: bool
    leaves: tuple[Leaf, ...]

    @property
    def match_expression(self) -> str:
        """SQL value, true if the pair matches. `c` must be in scope, and `k` if `sees_company`."""
        return f"(SELECT {self.sql} FROM (VALUES (1)) AS one{self.joins})" if self.joins else self.sql

    def pairs(
        self, *, per_company: bool, where: str = "TRUE", columns: str = "", joins: str = "", sample: str = ""
    ) -> str:
        """Return SQL for the rows (customer_id, company_id, *columns) that match and satisfy `where`.

        `sample` is a TABLESAMPLE clause that skips most customers, for an estimate.
        """
        company = COMPANY_OF_PAIR if self.sees_company or per_company else ""
        # A customer matches if any pair does, so one row is enough unless each company gets a copy.
        distinct = "DISTINCT " if company and not per_company else ""
        pair = "k.id" if per_company else "NULL::bigint"
        return (
            f"SELECT {distinct}c.id AS customer_id, {pair} AS company_id{columns}"
            f" FROM audiences_customer c{sample}{company}{self.joins}{joins}"
            f" WHERE c.archived_at IS NULL AND {where} AND {self.sql}"
        )


@dataclass(slots=True)
class Compiler:
    """Compiler of one tree. `prefix` makes parameter names unique if a statement contains several trees."""

    catalogue: Catalogue
    zone: ZoneInfo
    view: View = CURRENT_VIEW
    prefix: str = "p"
    params: dict[str, Any] = field(default_factory=dict)
    summaries: dict[str, tuple[str, str]] = field(default_factory=dict)
    sees_company: bool = False
    asks_role: bool = False
    leaves: list[Leaf] = field(default_factory=list)

    def compile(self, tree: Group) -> Condition:
        """Compile a tree. It matches only users unless the tree or a segment in it has a role rule (behaviour 4.4)."""
        sql = self.compile_group(tree)
        if not self.asks_role:
            sql = f"c.role = 'user' AND {sql}"
        joins = "".join(
            f" LEFT JOIN audiences_eventsummary {alias} ON {alias}.customer_id = c.id AND {alias}.name = {name}"
            for name, alias in self.summaries.values()
        )
        return Condition(
            sql=sql, params=self.params, joins=joins, sees_company=self.sees_company, leaves=tuple(self.leaves)
        )

    def compile_group(self, group: Group) -> str:
        """Compile a group to a boolean expression in parentheses."""
        joint = " AND " if group.match == "all" else " OR "
        inner = [
            self.compile_group(rule) if isinstance(rule, Group) else self.compile_rule(rule) for rule in group.rules
        ]
        sql = f"({joint.join(inner)})" if inner else "TRUE"
        return f"({sql} IS NOT TRUE)" if group.negated else sql

    def compile_rule(self, rule: Rule) -> str:
        """Compile a rule to a boolean expression in parentheses."""
        attribute = attributes.find_attribute(rule.attribute, catalogue=self.catalogue)
        value = rule.value
        self.leaves.append(Leaf(attribute, rule.operator, value))
        if attribute.about is About.COMPANY:
            self.sees_company = True
        if attribute.kind is Kind.ROLE:
            self.asks_role = True
        return f"({COMPILE[attribute.kind, rule.operator](self, attribute, value)})"

    def column_sql(self, attribute: Attribute) -> str:
        """Return SQL for an attribute's value, NULL if unknown."""
        names = {"last_seen": self.view.last_seen, "company_last_seen": self.view.company_last_seen}
        if attribute.about is About.EVENT:
            names["summary"] = self.join_summary(attribute.key)
        elif attribute.key:
            names["key"] = self.add_param(attribute.key, "text")
        return attribute.sql.format(**names)

    def add_param(self, value: object, kind: str) -> str:
        """Add a parameter and return its placeholder, with a type so that the statement can be prepared."""
        name = f"{self.prefix}{len(self.params)}"
        # The server would convert a float to numeric with only 15 digits.
        self.params[name] = Decimal(str(value)) if kind == "numeric" else value
        return f"%({name})s::{kind}"

    def join_summary(self, event: str) -> str:
        """Join the summary of an event, once for all rules about it, and return its alias."""
        if event not in self.summaries:
            self.summaries[event] = (self.add_param(event, "text"), f"s{len(self.summaries)}")
        return self.summaries[event][1]

    def days_ago(self, days: int) -> str:
        """Return SQL for the time so many periods of 24 hours before now."""
        hours = self.add_param(days * 24, "int")
        return f"({self.view.now} - make_interval(hours => {hours}))"

    def midnight(self, day: str, *, days_later: int = 0) -> str:
        """Return SQL for the start of a calendar day in the workspace's zone."""
        start = datetime.combine(date.fromisoformat(day) + timedelta(days=days_later), time(), tzinfo=self.zone)
        return self.add_param(start, "timestamptz")


Compile = Callable[[Compiler, Attribute, Any], str]


def ilike(pattern: str) -> Compile:
    """Return a case-insensitive match; %, _ and \\ in the value are literal."""

    def compile_like(compiler: Compiler, attribute: Attribute, value: str) -> str:
        literal = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"{compiler.column_sql(attribute)} ILIKE {compiler.add_param(pattern.format(literal), 'text')}"

    return compile_like


def compare(template: str, kind: str) -> Compile:
    """Return a comparison of the column `x` with the value `v`."""
    return lambda compiler, attribute, value: template.format(
        x=compiler.column_sql(attribute), v=compiler.add_param(value, kind)
    )


def column_check(template: str) -> Compile:
    """Return a condition on the column `x` without a value."""
    return lambda compiler, attribute, _value: template.format(x=compiler.column_sql(attribute))


def compare_number(template: str) -> Compile:
    """Return a comparison with a number. A whole one needs no cast, so PostgreSQL can use statistics and indexes."""
    whole, any_number = compare(template, "bigint"), compare(template, "numeric")

    def compile_number(compiler: Compiler, attribute: Attribute, value: float) -> str:
        fits = isinstance(value, int) and abs(value) < 2**63
        return (whole if fits else any_number)(compiler, attribute, value)

    return compile_number


def negate_exists(positive: Compile) -> Compile:
    """Return NOT EXISTS: it is never NULL, and PostgreSQL can plan it as an anti-join."""
    return lambda compiler, attribute, value: f"NOT {positive(compiler, attribute, value)}"


def is_not_true(positive: Compile) -> Compile:
    """Return the opposite of `positive`; it matches unknown values too."""
    return lambda compiler, attribute, value: f"({positive(compiler, attribute, value)}) IS NOT TRUE"


def more_than_days_ago(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match times earlier than so many days of 24 hours ago."""
    return f"{compiler.column_sql(attribute)} < {compiler.days_ago(value)}"


def less_than_days_ago(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match times later than so many days of 24 hours ago, including the future."""
    return f"{compiler.column_sql(attribute)} > {compiler.days_ago(value)}"


def exactly_days_ago(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match the 24 hours that began `value` + 1 days ago: 0 is the last 24 hours (behaviour 6.2)."""
    x = compiler.column_sql(attribute)
    return f"{x} <= {compiler.days_ago(value)} AND {x} > {compiler.days_ago(value + 1)}"


def after_day(compiler: Compiler, attribute: Attribute, value: str) -> str:
    """Match times after this calendar day in the workspace's zone."""
    return f"{compiler.column_sql(attribute)} >= {compiler.midnight(value, days_later=1)}"


def on_day(compiler: Compiler, attribute: Attribute, value: str) -> str:
    """Match times on this calendar day in the workspace's zone."""
    x = compiler.column_sql(attribute)
    return f"{x} >= {compiler.midnight(value)} AND {x} < {compiler.midnight(value, days_later=1)}"


def before_day(compiler: Compiler, attribute: Attribute, value: str) -> str:
    """Match times before this calendar day in the workspace's zone."""
    return f"{compiler.column_sql(attribute)} < {compiler.midnight(value)}"


def exists_row(table: str, on: str) -> Compile:
    """Return an EXISTS on another table. In `on`, {v} is the value's placeholder and {fact} the attribute's SQL."""

    def compile_exists(compiler: Compiler, attribute: Attribute, value: object) -> str:
        at_company = attribute.about is About.COMPANY
        kind = "text" if attribute.about is About.EVENT else "bigint"
        owner = "d.company_id = k.id" if at_company else "d.customer_id = c.id"
        where = on.format(v=compiler.add_param(attribute.key or value, kind), fact=attribute.sql)
        named = table.format(owner="company" if at_company else "customer")
        return f"EXISTS (SELECT FROM {named} d WHERE {owner} AND {where})"

    return compile_exists


has_tag = exists_row("audiences_{owner}tag", "d.tag_id = {v}")
has_event = exists_row("audiences_eventsummary", "d.name = {v}")
# Delivery owns the table of records; the attribute has the condition on a record.
has_record = exists_row("delivery_deliveryrecord", "d.message_id = {v} AND {fact}")

K, O = Kind, Operator  # noqa: E741 - the table below is read as a table
COMPILE: dict[tuple[Kind, Operator], Compile] = {
    (K.TEXT, O.IS): compare("{x} = {v}", "text"),
    (K.TEXT, O.IS_NOT): compare("{x} IS DISTINCT FROM {v}", "text"),
    (K.TEXT, O.STARTS_WITH): ilike("{}%"),
    (K.TEXT, O.ENDS_WITH): ilike("%{}"),
    (K.TEXT, O.CONTAINS): ilike("%{}%"),
    (K.TEXT, O.DOES_NOT_CONTAIN): is_not_true(ilike("%{}%")),
    (K.TEXT, O.IS_UNKNOWN): column_check("coalesce({x}, '') = ''"),
    (K.TEXT, O.HAS_ANY_VALUE): column_check("{x} <> ''"),
    (K.NUMBER, O.GREATER_THAN): compare_number("{x} > {v}"),
    (K.NUMBER, O.LESS_THAN): compare_number("{x} < {v}"),
    (K.NUMBER, O.IS): compare_number("{x} = {v}"),
    (K.NUMBER, O.IS_NOT): compare_number("{x} IS DISTINCT FROM {v}"),
    (K.NUMBER, O.IS_UNKNOWN): column_check("{x} IS NULL"),
    (K.NUMBER, O.HAS_ANY_VALUE): column_check("{x} IS NOT NULL"),
    (K.BOOLEAN, O.IS_TRUE): column_check("{x} IS TRUE"),
    (K.BOOLEAN, O.IS_FALSE): column_check("{x} IS FALSE"),
    (K.BOOLEAN, O.IS_UNKNOWN): column_check("{x} IS NULL"),
    (K.BOOLEAN, O.HAS_ANY_VALUE): column_check("{x} IS NOT NULL"),
    (K.DATE, O.MORE_THAN_DAYS_AGO): more_than_days_ago,
    (K.DATE, O.LESS_THAN_DAYS_AGO): less_than_days_ago,
    (K.DATE, O.EXACTLY_DAYS_AGO): exactly_days_ago,
    (K.DATE, O.AFTER): after_day,
    (K.DATE, O.ON): on_day,
    (K.DATE, O.BEFORE): before_day,
    (K.DATE, O.IS_UNKNOWN): column_check("{x} IS NULL"),
    (K.DATE, O.HAS_ANY_VALUE): column_check("{x} IS NOT NULL"),
    (K.ROLE, O.IS): compare("{x} = {v}", "text"),
    (K.ROLE, O.IS_NOT): compare("{x} <> {v}", "text"),
    (K.TAG, O.IS): has_tag,
    (K.TAG, O.IS_NOT): negate_exists(has_tag),
    (K.EVENT, O.HAS_HAPPENED): has_event,
    (K.EVENT, O.HAS_NOT_HAPPENED): negate_exists(has_event),
    (K.MESSAGE, O.IS): has_record,
    (K.MESSAGE, O.IS_NOT): negate_exists(has_record),
    (K.TEAMMATE, O.IS): compare("{x} = {v}", "bigint"),
    (K.TEAMMATE, O.IS_NOT): compare("{x} IS DISTINCT FROM {v}", "bigint"),
    (K.TEAMMATE, O.IS_UNKNOWN): column_check("{x} IS NULL"),
    (K.TEAMMATE, O.HAS_ANY_VALUE): column_check("{x} IS NOT NULL"),
}


def read_tree(stored: dict[str, Any]) -> Group:
    """Read stored rules as they were, without validation."""
    return Group(
        stored.get("match", "all"),
        tuple(
            read_tree(rule)
            if "rules" in rule
            else Rule(rule["attribute"], Operator(rule["operator"]), rule.get("value"))
            for rule in stored.get("rules", [])
        ),
        copied_from=stored.get("copied_from", ""),
        negated=stored.get("negated", False),
    )


def compile_stored_rules(
    stored: dict[str, Any], *, catalogue: Catalogue, zone: ZoneInfo, prefix: str = "p"
) -> Condition:
    """Compile stored rules as version 0.2 did."""
    return Compiler(catalogue=catalogue, zone=zone, prefix=prefix).compile(read_tree(stored))
