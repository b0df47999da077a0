""" "Why?": what decides whether one customer receives one message, with the value that each rule saw.

The compiler's SQL evaluates each rule and group of the tree in one statement, for each company of the customer;
nothing is evaluated a second time in Python (behaviour 5, "One judge: SQL").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django_celery_beat.models import PeriodicTask

from audiences import attributes
from audiences.compiler import COMPANY_OF_PAIR, Compiler
from audiences.models import Company, CustomAttribute, Customer, Workspace
from audiences.rules import Group, Rule, RuleError
from delivery import schedule
from delivery.eligibility import conditions, frequency_cap, named_values
from delivery.models import DeliveryRecord, Reason, Status, reason_label
from messaging import delivery_window
from messaging.models import RUNNING, Channel, Message, SendType, State, WindowZone


class Verdict(StrEnum):
    """The outcome for this customer: the first that applies."""

    SOMEBODY_ELSE = "somebody_else"  # A direct message to another customer.
    GOT_IT = "got_it"
    ON_ITS_WAY = "on_its_way"
    UNCERTAIN = "uncertain"
    WAITING = "waiting"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"  # It was waiting when the message was stopped.
    ENDED = "ended"  # An in-app message whose time to be shown is over.
    NOT_LIVE = "not_live"
    NOT_AMONG_THEM = "not_among_them"  # A one-off went to the customers who matched at launch.
    BROKEN = "broken"  # Its rules are no longer valid.
    NO_MATCH = "no_match"
    NO_COMPANY = "no_company"
    LEFT_COMPANY = "left_company"  # The customer left the company it is about, or that is archived.
    UNREACHABLE = "unreachable"
    CAPPED = "capped"
    NEXT_CHECK = "next_check"
    NEXT_VISIT = "next_visit"


BY_STATUS: dict[Status, Verdict | None] = {
    Status.SENT: Verdict.GOT_IT,
    Status.SENDING: Verdict.ON_ITS_WAY,
    Status.UNCERTAIN: Verdict.UNCERTAIN,
    Status.WAITING: Verdict.WAITING,
    Status.FAILED: Verdict.FAILED,
    Status.SKIPPED: Verdict.SKIPPED,
    Status.WITHDRAWN: None,  # A customer who matches again receives it, unless the message was stopped.
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedNode:
    """A rule or a group with its result; `value` is the value that a rule saw, None if unknown."""

    node: Rule | Group
    holds: bool
    value: Any = None
    inner: tuple["EvaluatedNode", ...] = ()

    def leaves(self) -> Iterator["EvaluatedNode"]:
        """Yield every rule in it, in reading order."""
        if isinstance(self.node, Rule):
            yield self
        for judged in self.inner:
            yield from judged.leaves()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The result for the customer in one company, or in none."""

    company: Company | None
    matches: bool
    tree: EvaluatedNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An existing or possible copy: to the customer, or to the customer about one company."""

    company: Company | None
    pairs: tuple[Pair, ...]
    record: DeliveryRecord | None
    verdict: Verdict

    @property
    def matches(self) -> bool:
        """Whether any pair matches."""
        return any(pair.matches for pair in self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that decides."""

    message: Message
    customer: Customer
    at: datetime
    cases: tuple[Case, ...]
    trouble: str
    is_user: bool
    includes_leads: bool
    unreachable: tuple[Reason, ...]
    window: delivery_window.Window
    zone: ZoneInfo
    # When it may go next, by its delivery times and quiet hours.
    opening: datetime
    # The workspace's quiet hours if the message keeps them, and when they end if they are now.
    quiet: delivery_window.QuietHours | None
    quiet_until: datetime | None
    capped_until: datetime | None
    # The next hourly round; None if this message is not matched by rounds.
    next_round: datetime | None

    @property
    def waits_for_quiet_hours(self) -> bool:
        """Whether it may go as soon as quiet hours end."""
        return self.quiet_until is not None and self.quiet_until == self.opening

    @property
    def unreachable_labels(self) -> list[str]:
        return [reason_label(reason, self.message) for reason in self.unreachable]


def explain(message: Message, customer: Customer, *, at: datetime) -> Explanation:
    """Return what decides at `at` whether this customer receives this message."""
    trouble, includes_leads = "", False
    pairs: tuple[Pair, ...] = ()
    if message.audience is not None:
        try:
            pairs, includes_leads = evaluate_rules(message, customer, at=at)
        except RuleError as wrong:
            trouble = str(wrong)
    unreachable = conditions.unreachable_reasons(message, customer)
    capped_until = free_at(message, customer, at=at)
    records = {
        record.company_id: record
        for record in message.records.filter(customer=customer).select_related("company", "version", "message")
    }
    asked = SharedFacts(
        message, customer, trouble, unreachable, capped_until, companies_of(customer), message.has_ended(at=at)
    )
    window, zone = message.parsed_window, zone_of(message, customer)
    quiet = Workspace.current().quiet_hours if message.keeps_quiet_hours else None
    return Explanation(
        message=message,
        customer=customer,
        at=at,
        cases=tuple(
            asked.case(company, of, records.get(company.pk if company else None))
            for company, of in possible_copies(message, pairs, records)
        ),
        trouble=trouble,
        is_user=customer.role == "user",
        includes_leads=includes_leads,
        unreachable=unreachable,
        window=window,
        zone=zone,
        opening=delivery_window.next_opening(message.open_window(quiet), at, zone),
        quiet=quiet,
        quiet_until=quiet_until(quiet, zone, at=at) if quiet else None,
        capped_until=capped_until,
        next_round=next_round(message, at=at),
    )


def companies_of(customer: Customer) -> frozenset[int]:
    """Return the companies of a customer, without archived ones."""
    return frozenset(Company.objects.present().filter(memberships__customer=customer).values_list("pk", flat=True))


def possible_copies(
    message: Message, pairs: tuple[Pair, ...], records: dict[int | None, DeliveryRecord]
) -> list[tuple[Company | None, tuple[Pair, ...]]]:
    """Return the possible copies: one, or one for each company the customer is in or had a copy about."""
    if message.to_customer_id:
        return [(record.company, ()) for record in records.values()] or [(None, ())]
    if not message.goes_per_company:
        return [(None, pairs)]
    there = [(pair.company, (pair,)) for pair in pairs]
    known = {company.pk if company else None for company, _ in there}
    left = [(record.company, ()) for key, record in records.items() if key not in known]
    return [*there, *left] or [(None, ())]


@dataclass(frozen=True, slots=True)
class SharedFacts:
    """Facts that are the same for every copy."""

    message: Message
    customer: Customer
    trouble: str
    unreachable: tuple[Reason, ...]
    capped_until: datetime | None
    companies: frozenset[int]
    has_ended: bool

    def case(self, company: Company | None, pairs: tuple[Pair, ...], record: DeliveryRecord | None) -> Case:
        verdict = self.verdict(company, record, matches=any(pair.matches for pair in pairs))
        return Case(company=company, pairs=pairs, record=record, verdict=verdict)

    def verdict(self, company: Company | None, record: DeliveryRecord | None, *, matches: bool) -> Verdict:
        """Return the first verdict that applies."""
        message = self.message
        by_record = BY_STATUS[Status(record.status)] if record else None
        if record and record.status == Status.WITHDRAWN and record.reason == Reason.STOPPED:
            by_record = Verdict.STOPPED
        has_left = company is not None and company.pk not in self.companies
        held = (
            (message.to_customer_id not in (None, self.customer.pk), Verdict.SOMEBODY_ELSE),
            (has_left and by_record is Verdict.WAITING, Verdict.LEFT_COMPANY),
            (self.has_ended and by_record in (None, Verdict.WAITING, Verdict.STOPPED), Verdict.ENDED),
            (by_record is not None, by_record),
            (message.state not in RUNNING, Verdict.NOT_LIVE),
            (message.send_type == SendType.ONE_OFF, Verdict.NOT_AMONG_THEM),
            (bool(self.trouble), Verdict.BROKEN),
            (has_left, Verdict.LEFT_COMPANY),
            (not matches, Verdict.NO_MATCH),
            # In the order of `conditions.left_out_reason_sql`.
            (bool(self.unreachable), Verdict.UNREACHABLE),
            (message.per_company and company is None, Verdict.NO_COMPANY),
            (message.channel == Channel.IN_APP, Verdict.NEXT_VISIT),
            (self.capped_until is not None, Verdict.CAPPED),
        )
        return next((verdict for holds, verdict in held if holds and verdict), Verdict.NEXT_CHECK)


def evaluate_rules(message: Message, customer: Customer, *, at: datetime) -> tuple[tuple[Pair, ...], bool]:
    """Evaluate every rule and group for each company of the customer. Also return whether the rules include leads."""
    assert message.audience is not None  # noqa: S101 - asked by `explain`
    tree = message.audience.tree
    compiler = Compiler(
        catalogue=CustomAttribute.objects.catalogue(),
        zone=Workspace.current().tz,
        events_since=conditions.events_since(message),
    )
    whole = compiler.compile(tree)
    columns = [
        sql
        for node, is_negated in walk_tree(tree)
        for sql in (
            f"({node_expression(compiler, node, is_negated=is_negated)}) IS TRUE",
            value_expression(compiler, node),
        )
    ]
    company = COMPANY_OF_PAIR if whole.sees_company or message.goes_per_company else ""
    pair = "k.id" if company else "NULL::bigint"
    sql = (
        f"SELECT {pair}, (c.archived_at IS NULL AND {whole.sql}) IS TRUE, {', '.join(columns)}"
        f" FROM audiences_customer c{company}{whole.joins} WHERE c.id = %(customer)s ORDER BY 1 NULLS LAST"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, {**compiler.params, "now": at, "customer": customer.pk})
        rows = cursor.fetchall()
    # A membership in an archived company does not count: it stands for "no company" only if there is no other.
    if len(rows) > 1:
        rows = [row for row in rows if row[0] is not None] or rows[:1]
    companies = Company.objects.in_bulk({row[0] for row in rows if row[0]})
    pairs = [
        Pair(company=companies.get(row[0]), matches=row[1], tree=rebuild_tree(tree, iter(row[2:]))) for row in rows
    ]
    return tuple(sorted(pairs, key=lambda p: (not p.matches, str(p.company)))), compiler.includes_leads


def walk_tree(node: Rule | Group, *, is_negated: bool = False) -> Iterator[tuple[Rule | Group, bool]]:
    """Yield the nodes of a tree in reading order, each group before its rules, and whether a group negates it."""
    yield node, is_negated
    if isinstance(node, Group):
        for inner in node.rules:
            yield from walk_tree(inner, is_negated=is_negated or node.negated or node.match == "none")


def rebuild_tree(node: Rule | Group, answers: Iterator[Any]) -> EvaluatedNode:
    """Rebuild the tree with the results, which come in the same order."""
    held, seen = next(answers), next(answers)
    inner = tuple(rebuild_tree(rule, answers) for rule in node.rules) if isinstance(node, Group) else ()
    return EvaluatedNode(node=node, holds=held, value=seen, inner=inner)


def node_expression(compiler: Compiler, node: Rule | Group, *, is_negated: bool) -> str:
    """Return SQL for whether a rule or group holds."""
    compiler.is_negated = is_negated
    return compiler.compile_group(node) if isinstance(node, Group) else compiler.compile_rule(node)


def value_expression(compiler: Compiler, node: Rule | Group) -> str:
    """Return SQL for the value that a rule sees."""
    if isinstance(node, Group):
        return "NULL"
    attribute = attributes.find_attribute(node.attribute, catalogue=compiler.catalogue)
    return named_values.value_sql(compiler, attribute, node.value)


def zone_of(message: Message, customer: Customer) -> ZoneInfo:
    """Return the time zone of the delivery window for this customer."""
    workspace = Workspace.current().tz
    return (
        delivery_window.zone_or_fallback(customer.timezone, workspace)
        if message.window_zone == WindowZone.CUSTOMER
        else workspace
    )


def quiet_until(quiet: delivery_window.QuietHours, zone: ZoneInfo, *, at: datetime) -> datetime | None:
    """Return when quiet hours end; None outside them."""
    found = delivery_window.next_opening(delivery_window.without_quiet_hours(delivery_window.Window(), quiet), at, zone)
    return found if found > at else None


def free_at(message: Message, customer: Customer, *, at: datetime) -> datetime | None:
    """Return when the frequency cap allows one more message; None if it does now, or does not apply."""
    workspace = Workspace.current()
    if workspace.cap_messages is None or message.to_customer_id:
        return None
    cap = frequency_cap.cap_of([customer.pk], most=workspace.cap_messages, days=workspace.cap_days, at=at)
    free = cap.free_at(customer.pk)
    return free if free > at else None


def next_round(message: Message, *, at: datetime) -> datetime | None:
    """Return when an ongoing email or push is matched next; `at` if that is overdue, None if it is not matched."""
    if message.channel == Channel.IN_APP or message.send_type != SendType.ONGOING or message.state != State.LIVE:
        return None
    path = schedule.TASKS["Match ongoing messages"][0]
    task = PeriodicTask.objects.filter(task=path, enabled=True).select_related("interval").first()
    if task is None or task.interval is None:
        return None
    last = task.last_run_at or message.last_matched_at
    return max(at, last + task.interval.schedule.run_every) if last else at
