"""Rule oracle: a slow second implementation of behaviour 4.4 in plain Python, to test the compiler.

It was written from docs/behaviour.md alone. It reads the rows of a world in memory and the JSON of an audience, and
uses no SQL.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from audiences.models import Company, Customer, EventSummary
from delivery.models import DeliveryRecord

DAY = timedelta(hours=24)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The range of dates in Python. Numbers outside it are not dates.
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799

Pair = tuple[int, int | None]


@dataclass(kw_only=True, repr=False)
class World:
    """All data that rules can use, as rows in memory."""

    customers: list[Customer] = field(default_factory=list)
    companies: list[Company] = field(default_factory=list)
    memberships: set[tuple[int, int]] = field(default_factory=set)
    customer_tags: set[tuple[int, int]] = field(default_factory=set)
    company_tags: set[tuple[int, int]] = field(default_factory=set)
    summaries: list[EventSummary] = field(default_factory=list)
    records: list[DeliveryRecord] = field(default_factory=list)
    customer_kinds: dict[str, str] = field(default_factory=dict)
    company_kinds: dict[str, str] = field(default_factory=dict)
    segments: dict[int, dict[str, Any]] = field(default_factory=dict)
    zone: ZoneInfo

    def pairs(self) -> Iterator[tuple[Customer, Company | None]]:
        """Yield each customer with each of their companies, or once with None."""
        for customer in self.customers:
            if customer.archived_at is None:
                theirs = [
                    k for k in self.companies if k.archived_at is None and (customer.pk, k.pk) in self.memberships
                ]
                yield from ((customer, company) for company in theirs or [None])

    def users_of(self, company: Company) -> int:
        """Return how many customers who are not archived belong to a company."""
        return sum(c.archived_at is None and (c.pk, company.pk) in self.memberships for c in self.customers)


def pairs(world: World, rules: dict[str, Any], *, at: datetime) -> set[Pair]:
    """Return the matching pairs (customer, company)."""
    leads_too = any(
        rule["attribute"] == "role" and (rule["operator"], rule["value"]) in (("is", "lead"), ("is_not", "user"))
        for rule in leaves(world, rules)
    )
    return {
        (customer.pk, company.pk if company else None)
        for customer, company in world.pairs()
        if (leads_too or customer.role == "user") and tree_matches(world, rules, customer, company, at=at)
    }


def customers(world: World, rules: dict[str, Any], *, at: datetime) -> set[int]:
    """Return the customers with a matching pair."""
    return {customer for customer, _ in pairs(world, rules, at=at)}


def leaves(world: World, rules: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every rule of a tree, including those of its segments, but not of excluded ones."""
    if rules.get("match") == "none":
        return
    for rule in rules.get("rules", []):
        if "rules" in rule:
            yield from leaves(world, rule)
        elif rule["attribute"] in ("segment", "company.segment"):
            if rule["operator"] == "is":
                yield from leaves(world, world.segments[rule["value"]])
        else:
            yield rule


def tree_matches(
    world: World, rules: dict[str, Any], customer: Customer, company: Company | None, *, at: datetime
) -> bool:
    """Return whether a tree matches one pair. All its rules see the same pair."""
    answers = []
    for rule in rules.get("rules", []):
        if "rules" in rule:
            answers.append(tree_matches(world, rule, customer, company, at=at))
        elif rule["attribute"] in ("segment", "company.segment"):
            inside = tree_matches(world, world.segments[rule["value"]], customer, company, at=at)
            if rule["attribute"] == "company.segment":
                inside = inside and company is not None
            answers.append(inside if rule["operator"] == "is" else not inside)
        else:
            known = value_of(world, rule["attribute"], customer, company)
            answers.append(OPERATORS[rule["operator"]](known, rule.get("value"), Moment(at, world.zone)))
    if not answers:
        return True
    match = rules.get("match", "all")
    return all(answers) if match == "all" else any(answers) == (match == "any")


@dataclass(frozen=True)
class Moment:
    """The time and zone of the evaluation."""

    now: datetime
    zone: ZoneInfo

    def age(self, moment: datetime) -> timedelta:
        """Return how long ago a time was; negative in the future."""
        return self.now.astimezone(UTC) - moment.astimezone(UTC)

    def day(self, moment: datetime) -> date:
        """Return the day in the workspace's zone."""
        return moment.astimezone(self.zone).date()


def exact_decimal(number: float | Decimal) -> Decimal:
    return Decimal(str(number))


def fold(text: str) -> str:
    """Return lower case as in PostgreSQL under C.UTF-8: one character for each, regardless of its neighbours."""
    return "".join(letter.lower()[0] for letter in text)


def equals(known: Any, value: Any) -> bool:
    """Return whether a value equals the rule's, or for tags and messages, whether one of them does."""
    if isinstance(known, frozenset):
        return value in known
    if isinstance(known, Decimal):
        return known == exact_decimal(value)
    return known is not None and known == value


Matches = Callable[[Any, Any, Moment], bool]
OPERATORS: dict[str, Matches] = {
    "is": lambda known, value, _: equals(known, value),
    "is_not": lambda known, value, _: not equals(known, value),
    "starts_with": lambda known, value, _: known is not None and fold(known).startswith(fold(value)),
    "ends_with": lambda known, value, _: known is not None and fold(known).endswith(fold(value)),
    "contains": lambda known, value, _: known is not None and fold(value) in fold(known),
    "does_not_contain": lambda known, value, _: known is None or fold(value) not in fold(known),
    "greater_than": lambda known, value, _: known is not None and known > exact_decimal(value),
    "less_than": lambda known, value, _: known is not None and known < exact_decimal(value),
    "is_true": lambda known, value, _: known is True,
    "is_false": lambda known, value, _: known is False,
    "more_than_days_ago": lambda known, days, at: known is not None and at.age(known) > days * DAY,
    "less_than_days_ago": lambda known, days, at: known is not None and timedelta(0) <= at.age(known) < days * DAY,
    "exactly_days_ago": lambda known, days, at: known is not None and days * DAY <= at.age(known) < (days + 1) * DAY,
    "in_less_than_days": lambda known, days, at: known is not None and timedelta(0) < -at.age(known) < days * DAY,
    "in_more_than_days": lambda known, days, at: known is not None and -at.age(known) > days * DAY,
    "exactly_days_from_now": lambda known, days, at: (
        known is not None and at.day(known) == at.day(at.now) + timedelta(days=days)
    ),
    "after": lambda known, day, at: known is not None and at.day(known) > date.fromisoformat(day),
    "on": lambda known, day, at: known is not None and at.day(known) == date.fromisoformat(day),
    "before": lambda known, day, at: known is not None and at.day(known) < date.fromisoformat(day),
    "has_happened": lambda known, value, _: known is True,
    "has_not_happened": lambda known, value, _: known is not True,
    "is_unknown": lambda known, value, _: known is None,
    "has_any_value": lambda known, value, _: known is not None,
}

MESSAGE_FACTS = {
    "received_message": "sent_at",
    "opened_message": "opened_at",
    "clicked_message": "clicked_at",
    "replied_to_message": "replied_at",
}
GOT_IT = {"waiting", "sending", "uncertain", "sent"}
# Standard attributes in the JSON column, and the kinds of those that are not texts.
DETAILS = {
    "region", "continent", "browser_version", "browser_language", "referrer", "utm_campaign", "utm_content",
    "utm_medium", "utm_source", "utm_term", "twitter_followers", "ios_last_seen_at", "ios_sessions", "ios_device",
    "ios_app_version", "android_last_seen_at", "android_sessions", "android_device", "android_app_version",
}  # fmt: skip
DETAIL_KINDS = {
    "twitter_followers": "number",
    "ios_sessions": "number",
    "android_sessions": "number",
    "ios_last_seen_at": "date",
    "android_last_seen_at": "date",
}


def value_of(world: World, name: str, customer: Customer, company: Company | None) -> Any:
    """Return the value of an attribute for a pair, None if unknown."""
    return normalized_value(raw_value(world, name, customer, company))


def normalized_value(value: Any) -> Any:
    """Return None for an empty text, and a decimal for a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return exact_decimal(value)
    return None if value == "" else value


def raw_value(world: World, name: str, customer: Customer, company: Company | None) -> Any:
    if name.startswith("company."):
        return company_value(world, name.removeprefix("company."), company)
    if name.startswith("custom_attributes."):
        key = name.removeprefix("custom_attributes.")
        return value_of_kind(customer.attributes.get(key), world.customer_kinds[key])
    if name.startswith("event"):
        return event_value(world, name, customer)
    if name in MESSAGE_FACTS:
        theirs = (record for record in world.records if record.customer_id == customer.pk)
        return frozenset(r.message_id for r in theirs if r.status == "sent" and getattr(r, MESSAGE_FACTS[name]))
    if name == "got_message":
        return frozenset(r.message_id for r in world.records if r.customer_id == customer.pk and r.status in GOT_IT)
    if name in DETAILS:
        return value_of_kind(customer.details.get(name), DETAIL_KINDS.get(name, "text"))
    if name == "tag":
        return frozenset(tag for owner, tag in world.customer_tags if owner == customer.pk)
    if name == "first_name":
        return customer.name.split(" ")[0]
    if name == "last_name":
        return customer.name[len(customer.name.split(" ")[0]) :].lstrip(" ")
    return getattr(customer, {"owner": "owner_id"}.get(name, name))


def company_value(world: World, name: str, company: Company | None) -> Any:
    """Return the value of the pair's company. Without a company it is unknown, and there are no tags."""
    if name == "tag":
        return frozenset(tag for owner, tag in world.company_tags if company and owner == company.pk)
    if company is None:
        return None
    if name.startswith("custom_attributes."):
        key = name.removeprefix("custom_attributes.")
        return value_of_kind(company.attributes.get(key), world.company_kinds[key])
    if name == "user_count":
        return world.users_of(company)
    return getattr(company, {"created_at": "remote_created_at"}.get(name, name))


def event_value(world: World, name: str, customer: Customer) -> Any:
    """Return whether an event happened, its count, or its first or last time; None if it never happened."""
    about, _, event = name.partition(".")
    for summary in world.summaries:
        if summary.customer_id == customer.pk and summary.name == event.lower():
            return {
                "event": True,
                "event_count": summary.count,
                "event_first": summary.first_at,
                "event_last": summary.last_at,
            }[about]
    return None


def value_of_kind(value: Any, kind: str) -> Any:
    """Return a JSON value as its declared kind, None if it is of another kind. Dates are unix seconds."""
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "text":
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind == "number":
        return value
    return EPOCH + timedelta(seconds=value) if FIRST_SECOND <= value <= LAST_SECOND else None
