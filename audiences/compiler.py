"""Compiler of rules to SQL. It alone decides whether a customer matches.

It evaluates pairs (customer, company), behaviour 4.4: all rules of a tree see the same pair, and a customer without
companies is evaluated once with every company attribute unknown. Aliases: `c` customer, `k` company of the pair, `s0`,
`s1` … event summaries. A condition may be NULL, which is not a match. It is never negated as a whole: each operator
decides about unknown values itself.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models.expressions import RawSQL

from audiences import attributes
from audiences.attributes import About, Attribute, Catalogue
from audiences.models import Audience, CustomAttribute, Customer, Workspace
from audiences.models.audience import check_segments, lead_rules, parse_stored_rules
from audiences.models.customers import CustomerQuerySet
from audiences.rules import KIND_NAMES, NEGATIVE_OPERATORS, Group, Kind, Operator, Rule, RuleError, read_value

NOW = "%(now)s::timestamptz"
PLACEHOLDER = re.compile(r"%\((\w+)\)s")
IS_USER = "c.role = 'user'"
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
    """A compiled rule, also one of a segment, with its SQL. Each matching pair satisfies it if it `is_certain`."""

    attribute: Attribute
    operator: Operator
    value: Any
    name: str
    is_certain: bool
    sql: str


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
    includes_leads: bool = False
    leaves: list[Leaf] = field(default_factory=list)
    # Rules that an event satisfies ask whether it happened after this moment, outside negated groups (behaviour 4.21).
    events_since: datetime | None = None
    is_negated: bool = False
    is_certain: bool = True

    def compile(self, tree: Group) -> Condition:
        """Compile a tree. It matches only users unless a role rule includes leads (behaviour 4.17)."""
        sql = self.compile_group(tree)
        self.includes_leads = bool(lead_rules(tree))
        if not self.includes_leads:
            sql = f"{IS_USER} AND {sql}"
        joins = "".join(
            f" LEFT JOIN audiences_eventsummary {alias} ON {alias}.customer_id = c.id AND {alias}.name = {name}"
            for name, alias in self.summaries.values()
        )
        return Condition(
            sql=sql, params=self.params, joins=joins, sees_company=self.sees_company, leaves=tuple(self.leaves)
        )

    def compile_group(self, group: Group) -> str:
        """Compile a group to a boolean expression in parentheses."""
        if group.match == "none" and group.rules:
            return self.compile_group(replace(group, match="any", negated=not group.negated))
        joint = " AND " if group.match == "all" else " OR "
        was, is_all = (self.is_negated, self.is_certain), group.match == "all" and not group.negated
        self.is_negated, self.is_certain = self.is_negated or group.negated, self.is_certain and is_all
        inner = [
            self.compile_group(rule) if isinstance(rule, Group) else self.compile_rule(rule) for rule in group.rules
        ]
        self.is_negated, self.is_certain = was
        sql = f"({joint.join(inner)})" if inner else "TRUE"
        return f"({sql} IS NOT TRUE)" if group.negated else sql

    def compile_rule(self, rule: Rule) -> str:
        """Compile a rule to a boolean expression in parentheses."""
        try:
            attribute = attributes.find_attribute(rule.attribute, catalogue=self.catalogue)
        except LookupError as unknown:
            raise RuleError(f"The attribute “{rule.attribute}” no longer exists.") from unknown
        if (attribute.kind, rule.operator) not in COMPILE:
            raise RuleError(f"“{attribute.label}” is {KIND_NAMES[attribute.kind]} now, so this rule no longer fits it.")
        value = read_value(rule.value, kind=attribute.kind, operator=rule.operator, label=attribute.label)
        place = len(self.leaves)
        if attribute.about is About.COMPANY:
            self.sees_company = True
        sql = COMPILE[attribute.kind, rule.operator](self, attribute, value)
        is_positive = not self.is_negated and rule.operator not in NEGATIVE_OPERATORS
        if self.events_since and is_positive and attribute.about is About.EVENT:
            sql = f"{sql} AND {self.happened_since(attribute, self.events_since)}"
        sql = f"({sql})"
        # Before those of its segment.
        self.leaves.insert(place, Leaf(attribute, rule.operator, value, rule.attribute, self.is_certain, sql))
        return sql

    def happened_since(self, attribute: Attribute, moment: datetime) -> str:
        """Return SQL for whether an event happened after a moment."""
        name, since = self.add_param(attribute.key, "text"), self.add_param(moment, "timestamptz")
        return (
            "EXISTS (SELECT FROM audiences_eventsummary d"
            f" WHERE d.customer_id = c.id AND d.name = {name} AND d.last_at > {since})"
        )

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
        """Return SQL for the time so many periods of 24 hours before now; after now if `days` is negative."""
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
    """Match times later than so many days of 24 hours ago, until now."""
    x = compiler.column_sql(attribute)
    return f"{x} > {compiler.days_ago(value)} AND {x} <= {compiler.view.now}"


def exactly_days_ago(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match the 24 hours that began `value` + 1 days ago: 0 is the last 24 hours (behaviour 6.2)."""
    x = compiler.column_sql(attribute)
    return f"{x} <= {compiler.days_ago(value)} AND {x} > {compiler.days_ago(value + 1)}"


def in_less_than_days(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match times in the future that are earlier than in so many days of 24 hours."""
    x = compiler.column_sql(attribute)
    return f"{x} > {compiler.view.now} AND {x} < {compiler.days_ago(-value)}"


def in_more_than_days(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match times later than in so many days of 24 hours."""
    return f"{compiler.column_sql(attribute)} > {compiler.days_ago(-value)}"


def exactly_days_from_now(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match times on the calendar day that is so many days after today, in the workspace's zone."""
    zone = compiler.add_param(compiler.zone.key, "text")
    day = f"({compiler.column_sql(attribute)} AT TIME ZONE {zone})::date"
    return f"{day} = ({compiler.view.now} AT TIME ZONE {zone})::date + {compiler.add_param(value, 'int')}"


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


def in_segment(compiler: Compiler, attribute: Attribute, value: int) -> str:
    """Match the current rules of a segment on the same pair."""
    found = Audience.objects.segments().filter(pk=value).first()
    if found is None:
        raise RuleError(f"A rule uses a segment that no longer exists ({value}).")
    tree = compiler.compile_group(found.tree)
    return f"k.id IS NOT NULL AND {tree}" if attribute.about is About.COMPANY else tree


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
    (K.DATE, O.IN_LESS_THAN_DAYS): in_less_than_days,
    (K.DATE, O.IN_MORE_THAN_DAYS): in_more_than_days,
    (K.DATE, O.EXACTLY_DAYS_FROM_NOW): exactly_days_from_now,
    (K.DATE, O.AFTER): after_day,
    (K.DATE, O.ON): on_day,
    (K.DATE, O.BEFORE): before_day,
    (K.DATE, O.IS_UNKNOWN): column_check("{x} IS NULL"),
    (K.DATE, O.HAS_ANY_VALUE): column_check("{x} IS NOT NULL"),
    (K.ROLE, O.IS): compare("{x} = {v}", "text"),
    (K.ROLE, O.IS_NOT): compare("{x} <> {v}", "text"),
    (K.TAG, O.IS): has_tag,
    (K.TAG, O.IS_NOT): negate_exists(has_tag),
    (K.SEGMENT, O.IS): in_segment,
    (K.SEGMENT, O.IS_NOT): is_not_true(in_segment),
    (K.EVENT, O.HAS_HAPPENED): has_event,
    (K.EVENT, O.HAS_NOT_HAPPENED): negate_exists(has_event),
    (K.MESSAGE, O.IS): has_record,
    (K.MESSAGE, O.IS_NOT): negate_exists(has_record),
    (K.TEAMMATE, O.IS): compare("{x} = {v}", "bigint"),
    (K.TEAMMATE, O.IS_NOT): compare("{x} IS DISTINCT FROM {v}", "bigint"),
    (K.TEAMMATE, O.IS_UNKNOWN): column_check("{x} IS NULL"),
    (K.TEAMMATE, O.HAS_ANY_VALUE): column_check("{x} IS NOT NULL"),
}


def compile_tree(
    tree: Group,
    *,
    view: View = CURRENT_VIEW,
    prefix: str = "p",
    catalogue: Catalogue | None = None,
    zone: ZoneInfo | None = None,
    events_since: datetime | None = None,
) -> Condition:
    """Compile a tree with the current catalogue and zone. Raises RuleError if a rule is no longer valid."""
    check_segments(tree)  # A segment may have grown since the tree was saved.
    catalogue = catalogue or CustomAttribute.objects.catalogue()
    zone = zone or Workspace.current().tz
    return Compiler(catalogue=catalogue, zone=zone, view=view, prefix=prefix, events_since=events_since).compile(tree)


def matching_customers(stored: object, *, at: datetime) -> CustomerQuerySet:
    """Return the queryset of the customers who match stored rules."""
    return customers_matching_tree(parse_stored_rules(stored), at=at)


def customers_matching_tree(tree: Group, *, at: datetime) -> CustomerQuerySet:
    """Return the queryset of the customers who match a tree."""
    condition = compile_tree(tree)
    sql = f"SELECT customer_id FROM ({condition.pairs(per_company=False)}) AS matching"
    named = {**condition.params, "now": at}
    values = [named[name] for name in PLACEHOLDER.findall(sql)]
    return Customer.objects.filter(pk__in=RawSQL(PLACEHOLDER.sub("%s", sql), values))  # noqa: S611
