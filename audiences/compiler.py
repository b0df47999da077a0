"""Rules to SQL: the only judge of who matches.

What is judged is the pair (customer, company), behaviour 4.4: the whole tree sees one pair, and a customer in no
company is judged once with every company attribute unknown. Aliases: `c` customer, `k` company of the pair,
`s0`, `s1` … event summaries. A condition may be NULL, which is no match; `~` is never put before one, so that
unknown stays a case each operator decides. Over 120 lines because every operator of every kind stands here once.
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
from audiences.models.audience import ABOUT_SEGMENTS, check_segments, parse_stored_rules
from audiences.models.customers import CustomerQuerySet
from audiences.rules import KIND_NAMES, Group, Kind, Operator, Rule, RuleError, read_value

NOW = "%(now)s::timestamptz"
PLACE = re.compile(r"%\((\w+)\)s")
COMPANY_OF_PAIR = (
    " LEFT JOIN (audiences_membership m JOIN audiences_company k ON k.id = m.company_id AND k.archived_at IS NULL)"
    " ON m.customer_id = c.id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """From when and by which last-seen a tree is judged: SQL for now, and for the two last-seens."""

    now: str = NOW
    last_seen: str = "c.last_seen_at"
    company_last_seen: str = "k.last_seen_at"


TODAY = View()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A compiled tree: a boolean of SQL, its parameters by name, and the joins it needs beside `c`."""

    sql: str
    params: dict[str, Any]
    joins: str
    sees_company: bool

    @property
    def holds(self) -> str:
        """SQL for whether one pair matches, as a value, wherever its `c` is in sight, and its `k` where it sees one."""
        return f"(SELECT {self.sql} FROM (VALUES (1)) AS one{self.joins})" if self.joins else self.sql

    def pairs(
        self, *, per_company: bool, where: str = "TRUE", columns: str = "", joins: str = "", sample: str = ""
    ) -> str:
        """SQL for the rows (customer_id, company_id, *columns) that match and for which `where` holds.

        `sample` is a TABLESAMPLE that leaves out most customers, for an estimate.
        """
        company = COMPANY_OF_PAIR if self.sees_company or per_company else ""
        # A customer matches if any pair does, so without a copy per company one row is enough.
        distinct = "DISTINCT " if company and not per_company else ""
        pair = "k.id" if per_company else "NULL::bigint"
        return (
            f"SELECT {distinct}c.id AS customer_id, {pair} AS company_id{columns}"
            f" FROM audiences_customer c{sample}{company}{self.joins}{joins}"
            f" WHERE c.archived_at IS NULL AND {where} AND {self.sql}"
        )


@dataclass(slots=True)
class Compiler:
    """Walks one tree. `prefix` keeps the parameters of several trees in one statement apart."""

    catalogue: Catalogue
    zone: ZoneInfo
    view: View = TODAY
    prefix: str = "p"
    params: dict[str, Any] = field(default_factory=dict)
    summaries: dict[str, tuple[str, str]] = field(default_factory=dict)
    sees_company: bool = False
    asks_role: bool = False

    def compile(self, tree: Group) -> Condition:
        """Compile a whole tree. Without a role rule in it or in a segment it names, users only (behaviour 4.4)."""
        sql = self.group(tree)
        if not self.asks_role:
            sql = f"c.role = 'user' AND {sql}"
        joins = "".join(
            f" LEFT JOIN audiences_eventsummary {alias} ON {alias}.customer_id = c.id AND {alias}.name = {name}"
            for name, alias in self.summaries.values()
        )
        return Condition(sql=sql, params=self.params, joins=joins, sees_company=self.sees_company)

    def group(self, group: Group) -> str:
        """Compile a group to one boolean in parentheses."""
        joint = " AND " if group.match == "all" else " OR "
        inner = [self.group(rule) if isinstance(rule, Group) else self.rule(rule) for rule in group.rules]
        sql = f"({joint.join(inner)})" if inner else "TRUE"
        return f"({sql} IS NOT TRUE)" if group.negated else sql

    def rule(self, rule: Rule) -> str:
        """Compile one rule to one boolean in parentheses."""
        try:
            attribute = attributes.find(rule.attribute, catalogue=self.catalogue)
        except LookupError as unknown:
            raise RuleError(f"There is no attribute “{rule.attribute}” any more.") from unknown
        if (attribute.kind, rule.operator) not in COMPILE:
            raise RuleError(f"“{attribute.label}” is {KIND_NAMES[attribute.kind]} now, so this rule no longer fits it.")
        value = read_value(rule.value, kind=attribute.kind, operator=rule.operator, label=attribute.label)
        if attribute.about is About.COMPANY:
            self.sees_company = True
        if attribute.kind is Kind.ROLE:
            self.asks_role = True
        return f"({COMPILE[attribute.kind, rule.operator](self, attribute, value)})"

    def column(self, attribute: Attribute) -> str:
        """SQL for an attribute's value, NULL where unknown."""
        names = {"last_seen": self.view.last_seen, "company_last_seen": self.view.company_last_seen}
        if attribute.about is About.EVENT:
            names["summary"] = self.summary(attribute.key)
        elif attribute.key:
            names["key"] = self.place(attribute.key, "text")
        return attribute.sql.format(**names)

    def place(self, value: object, kind: str) -> str:
        """Add a parameter and return its placeholder; its type is said, so that the statement can be prepared."""
        name = f"{self.prefix}{len(self.params)}"
        # A float bound by the server would become numeric by its first 15 digits only.
        self.params[name] = Decimal(str(value)) if kind == "numeric" else value
        return f"%({name})s::{kind}"

    def summary(self, event: str) -> str:
        """Join the summary of an event, once however many rules ask for it, and return its alias."""
        if event not in self.summaries:
            self.summaries[event] = (self.place(event, "text"), f"s{len(self.summaries)}")
        return self.summaries[event][1]

    def days_ago(self, days: int) -> str:
        """SQL for the moment that many rolling days of 24 hours before now."""
        hours = self.place(days * 24, "int")
        return f"({self.view.now} - make_interval(hours => {hours}))"

    def midnight(self, day: str, *, days_later: int = 0) -> str:
        """SQL for the moment a calendar day of the workspace begins."""
        start = datetime.combine(date.fromisoformat(day) + timedelta(days=days_later), time(), tzinfo=self.zone)
        return self.place(start, "timestamptz")


Compile = Callable[[Compiler, Attribute, Any], str]


def like(pattern: str) -> Compile:
    """A comparison without regard to case, in which %, _ and \\ of the value are literal."""

    def compile_like(into: Compiler, of: Attribute, value: str) -> str:
        literal = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"{into.column(of)} ILIKE {into.place(pattern.format(literal), 'text')}"

    return compile_like


def compare(template: str, kind: str) -> Compile:
    """A comparison of the column `x` with the value `v`."""
    return lambda into, of, value: template.format(x=into.column(of), v=into.place(value, kind))


def plain(template: str) -> Compile:
    """A question about the column `x` alone."""
    return lambda into, of, _value: template.format(x=into.column(of))


def compare_number(template: str) -> Compile:
    """A comparison of a number; with a whole one no column has to be cast, so that statistics and indexes serve."""
    whole, any_number = compare(template, "bigint"), compare(template, "numeric")

    def compile_number(into: Compiler, of: Attribute, value: float) -> str:
        fits = isinstance(value, int) and abs(value) < 2**63
        return (whole if fits else any_number)(into, of, value)

    return compile_number


def no(positive: Compile) -> Compile:
    """No row says so; an EXISTS is never unknown, and NOT before it can be planned as an anti-join."""
    return lambda into, of, value: f"NOT {positive(into, of, value)}"


def not_this(positive: Compile) -> Compile:
    """Whatever `positive` does not match, the unknown included."""
    return lambda into, of, value: f"({positive(into, of, value)}) IS NOT TRUE"


def more_than_days_ago(into: Compiler, of: Attribute, value: int) -> str:
    """Earlier than that many rolling days before now."""
    return f"{into.column(of)} < {into.days_ago(value)}"


def less_than_days_ago(into: Compiler, of: Attribute, value: int) -> str:
    """Later than that many rolling days before now; the future too."""
    return f"{into.column(of)} > {into.days_ago(value)}"


def exactly_days_ago(into: Compiler, of: Attribute, value: int) -> str:
    """Within the rolling day that is that many days old: 0 is the last 24 hours (behaviour 6.2)."""
    x = into.column(of)
    return f"{x} <= {into.days_ago(value)} AND {x} > {into.days_ago(value + 1)}"


def after(into: Compiler, of: Attribute, value: str) -> str:
    """On a later calendar day of the workspace."""
    return f"{into.column(of)} >= {into.midnight(value, days_later=1)}"


def on(into: Compiler, of: Attribute, value: str) -> str:
    """On that calendar day of the workspace."""
    x = into.column(of)
    return f"{x} >= {into.midnight(value)} AND {x} < {into.midnight(value, days_later=1)}"


def before(into: Compiler, of: Attribute, value: str) -> str:
    """On an earlier calendar day of the workspace."""
    return f"{into.column(of)} < {into.midnight(value)}"


def exists(table: str, on: str) -> Compile:
    """A row of another table says so; `v` is the value's placeholder, {fact} what the attribute asks of the row."""

    def compile_exists(into: Compiler, of: Attribute, value: object) -> str:
        at_company = of.about is About.COMPANY
        kind = "text" if of.about is About.EVENT else "bigint"
        owner = "d.company_id = k.id" if at_company else "d.customer_id = c.id"
        where = on.format(v=into.place(of.key or value, kind), fact=of.sql)
        named = table.format(owner="company" if at_company else "customer")
        return f"EXISTS (SELECT FROM {named} d WHERE {owner} AND {where})"

    return compile_exists


def segment(into: Compiler, of: Attribute, value: int) -> str:
    """The segment's tree, as it stands, seeing the same pair."""
    found = Audience.objects.segments().filter(pk=value).first()
    if found is None:
        raise RuleError(f"A rule names a segment that is no longer there ({value}).")
    tree = into.group(found.tree)
    return f"k.id IS NOT NULL AND {tree}" if of.about is About.COMPANY else tree


tagged = exists("audiences_{owner}tag", "d.tag_id = {v}")
happened = exists("audiences_eventsummary", "d.name = {v}")
# The record is delivery's; what of it is asked is the attribute's.
received = exists("delivery_deliveryrecord", "d.message_id = {v} AND {fact}")

K, O = Kind, Operator  # noqa: E741 - the table below is read as a table
COMPILE: dict[tuple[Kind, Operator], Compile] = {
    (K.TEXT, O.IS): compare("{x} = {v}", "text"),
    (K.TEXT, O.IS_NOT): compare("{x} IS DISTINCT FROM {v}", "text"),
    (K.TEXT, O.STARTS_WITH): like("{}%"),
    (K.TEXT, O.ENDS_WITH): like("%{}"),
    (K.TEXT, O.CONTAINS): like("%{}%"),
    (K.TEXT, O.DOES_NOT_CONTAIN): not_this(like("%{}%")),
    (K.TEXT, O.IS_UNKNOWN): plain("coalesce({x}, '') = ''"),
    (K.TEXT, O.HAS_ANY_VALUE): plain("{x} <> ''"),
    (K.NUMBER, O.GREATER_THAN): compare_number("{x} > {v}"),
    (K.NUMBER, O.LESS_THAN): compare_number("{x} < {v}"),
    (K.NUMBER, O.IS): compare_number("{x} = {v}"),
    (K.NUMBER, O.IS_NOT): compare_number("{x} IS DISTINCT FROM {v}"),
    (K.NUMBER, O.IS_UNKNOWN): plain("{x} IS NULL"),
    (K.NUMBER, O.HAS_ANY_VALUE): plain("{x} IS NOT NULL"),
    (K.BOOLEAN, O.IS_TRUE): plain("{x} IS TRUE"),
    (K.BOOLEAN, O.IS_FALSE): plain("{x} IS FALSE"),
    (K.BOOLEAN, O.IS_UNKNOWN): plain("{x} IS NULL"),
    (K.BOOLEAN, O.HAS_ANY_VALUE): plain("{x} IS NOT NULL"),
    (K.DATE, O.MORE_THAN_DAYS_AGO): more_than_days_ago,
    (K.DATE, O.LESS_THAN_DAYS_AGO): less_than_days_ago,
    (K.DATE, O.EXACTLY_DAYS_AGO): exactly_days_ago,
    (K.DATE, O.AFTER): after,
    (K.DATE, O.ON): on,
    (K.DATE, O.BEFORE): before,
    (K.DATE, O.IS_UNKNOWN): plain("{x} IS NULL"),
    (K.DATE, O.HAS_ANY_VALUE): plain("{x} IS NOT NULL"),
    (K.ROLE, O.IS): compare("{x} = {v}", "text"),
    (K.ROLE, O.IS_NOT): compare("{x} <> {v}", "text"),
    (K.TAG, O.IS): tagged,
    (K.TAG, O.IS_NOT): no(tagged),
    (K.SEGMENT, O.IS): segment,
    (K.SEGMENT, O.IS_NOT): not_this(segment),
    (K.EVENT, O.HAS_HAPPENED): happened,
    (K.EVENT, O.HAS_NOT_HAPPENED): no(happened),
    (K.MESSAGE, O.IS): received,
    (K.MESSAGE, O.IS_NOT): no(received),
    (K.TEAMMATE, O.IS): compare("{x} = {v}", "bigint"),
    (K.TEAMMATE, O.IS_NOT): compare("{x} IS DISTINCT FROM {v}", "bigint"),
    (K.TEAMMATE, O.IS_UNKNOWN): plain("{x} IS NULL"),
    (K.TEAMMATE, O.HAS_ANY_VALUE): plain("{x} IS NOT NULL"),
}


def compile_tree(
    tree: Group,
    *,
    view: View = TODAY,
    prefix: str = "p",
    catalogue: Catalogue | None = None,
    zone: ZoneInfo | None = None,
) -> Condition:
    """Compile a tree by today's catalogue and the workspace's zone; RuleError where a rule no longer makes sense."""
    # A segment may have grown since this was saved.
    check_segments(tree)
    catalogue = catalogue or CustomAttribute.objects.catalogue()
    return Compiler(catalogue=catalogue, zone=zone or Workspace.current().tz, view=view, prefix=prefix).compile(tree)


def freeze(tree: Group, *, on: date) -> Group:
    """Copy every segment in as it stands, so that nothing edited elsewhere changes a live message (behaviour 3)."""

    def frozen(rule: Rule | Group) -> Rule | Group:
        if isinstance(rule, Group):
            return replace(rule, rules=tuple(frozen(inner) for inner in rule.rules))
        if rule.attribute not in ABOUT_SEGMENTS:
            return rule
        found = Audience.objects.segments().filter(pk=rule.value).first()
        if found is None:
            raise RuleError(f"A rule names a segment that is no longer there ({rule.value}).")
        tree = freeze(found.tree, on=on)
        inner: tuple[Rule | Group, ...] = (tree,) if tree.rules or tree.copied_from else ()
        if rule.attribute == "company.segment":
            inner = (Rule("company.company_id", Operator.HAS_ANY_VALUE), *inner)
        name = f"{found.name} as of {on.day} {on:%B %Y}"
        return Group("all", inner, copied_from=name, negated=rule.operator is Operator.IS_NOT)

    copied = frozen(tree)
    assert isinstance(copied, Group)  # noqa: S101 - a group freezes to a group
    return copied


def customers(stored: object, *, at: datetime) -> CustomerQuerySet:
    """The customers who match rules as stored, as a queryset to filter, count and page."""
    return matching(parse_stored_rules(stored), at=at)


def matching(tree: Group, *, at: datetime) -> CustomerQuerySet:
    """The customers who match a tree."""
    condition = compile_tree(tree)
    sql = f"SELECT customer_id FROM ({condition.pairs(per_company=False)}) AS matching"
    named = {**condition.params, "now": at}
    values = [named[name] for name in PLACE.findall(sql)]
    return Customer.objects.filter(pk__in=RawSQL(PLACE.sub("%s", sql), values))  # noqa: S611
