"""Fernwood, the demo's company: its customers, their companies and what they did. The same every time but for the
dates, which lie before `at`.

Over 120 lines because each kind of row is one function, and they hand each other what they made.
"""

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from tqdm import tqdm

from audiences.models import (
    Audience,
    Company,
    CompanyTag,
    CustomAttribute,
    Customer,
    CustomerTag,
    Event,
    EventSummary,
    Membership,
    Tag,
    Workspace,
)
from audiences.models.catalogue import Scope
from audiences.models.customers import Role
from audiences.rules import Kind
from config.demo import words

SEED = 20260504
CUSTOMERS = 5_000
COMPANIES = 300
LEADS = 150
TRIAL = timedelta(days=14)

PLANS = {"free": 0, "starter": 49, "pro": 199, "enterprise": 990}
# Events: the share of customers who have them, and their maximum number.
EVENTS = {
    "created-project": (0.8, 8),
    "invited-teammate": (0.5, 5),
    "exported-report": (0.35, 9),
    "connected-integration": (0.25, 3),
    "upgraded-plan": (0.12, 2),
}
CUSTOMER_TAGS = {"VIP": 0.03, "Beta": 0.08, "Newsletter": 0.4, "Champion": 0.05}
COMPANY_TAGS = {"Key account": 0.08, "At risk": 0.06, "Partner": 0.05}
CATALOGUE = {
    Scope.CUSTOMER: {
        "plan": Kind.TEXT,
        "trial_ends_at": Kind.DATE,
        "projects": Kind.NUMBER,
        "job_title": Kind.TEXT,
        "is_admin": Kind.BOOLEAN,
    },
    Scope.COMPANY: {"seats": Kind.NUMBER, "renewal_at": Kind.DATE, "region": Kind.TEXT},
}
JOBS = ("Founder", "Engineer", "Designer", "Support lead", "Marketer", "Operations", "Analyst")


def rule(attribute: str, operator: str, value: Any = None) -> dict[str, Any]:
    """Write one rule as an audience stores it."""
    return {"attribute": attribute, "operator": operator, "value": value}


def every(*rules: dict[str, Any]) -> dict[str, Any]:
    """Join rules by and."""
    return {"match": "all", "rules": list(rules)}


SEGMENTS = {
    "New": every(rule("signed_up_at", "less_than_days_ago", 7)),
    "Active": every(rule("last_seen_at", "less_than_days_ago", 30)),
    "Slipping away": every(
        rule("last_seen_at", "less_than_days_ago", 60), rule("last_seen_at", "more_than_days_ago", 30)
    ),
    "On trial": every(rule("custom_attributes.plan", "is", "trial")),
    "Big companies on pro": every(rule("company.plan", "is", "pro"), rule("company.size", "greater_than", 200)),
}


def fill_company(*, at: datetime) -> None:
    """Create the companies, customers and events of the demo."""
    with tqdm(total=CUSTOMERS, unit=" customers", desc="Filling the demo") as bar:
        chance = random.Random(SEED)  # noqa: S311 - a fixed seed is intended
        workspace = Workspace.current()
        workspace.name, workspace.zone = "Fernwood", "Europe/Dublin"
        workspace.postal_address = "Fernwood, 12 Quay Street, Dublin"
        workspace.save()
        for scope, kinds in CATALOGUE.items():
            CustomAttribute.objects.bulk_create(
                CustomAttribute(scope=scope, name=name, kind=kind, created_at=at) for name, kind in kinds.items()
            )
        tags = {name: Tag.objects.create(name=name, created_at=at) for name in (*CUSTOMER_TAGS, *COMPANY_TAGS)}
        companies = Company.objects.bulk_create(make_companies(chance, at=at))
        CompanyTag.objects.bulk_create(
            CompanyTag(company=company, tag=tags[name], created_at=at)
            for company in companies
            for name in drawn(COMPANY_TAGS, chance)
        )
        for start in range(0, CUSTOMERS, 500):
            numbers = range(start, start + 500)
            fill_customers([make_customer(number, chance, at=at) for number in numbers], companies, tags, chance, at=at)
            bar.update(len(numbers))
        for name, rules in SEGMENTS.items():
            Audience.objects.create(name=name, rules=rules)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def fill_customers(
    made: list[Customer], companies: Sequence[Company], tags: dict[str, Tag], chance: random.Random, *, at: datetime
) -> None:
    """Save some customers with their memberships, tags and events."""
    customers = Customer.objects.bulk_create(made)
    users = [customer for customer in customers if customer.role == Role.USER]
    Membership.objects.bulk_create(make_memberships(users, companies, chance))
    CustomerTag.objects.bulk_create(
        CustomerTag(customer=user, tag=tags[name], created_at=at)
        for user in users
        for name in drawn(CUSTOMER_TAGS, chance)
    )
    events = [event for user in users for event in make_events(user, chance, at=at)]
    Event.objects.bulk_create(events)
    EventSummary.objects.bulk_create(summaries(events))


def make_companies(chance: random.Random, *, at: datetime) -> Iterator[Company]:
    """Yield companies with different names, a few of them large."""
    names = [f"{first} {second}" for first in words.COMPANY_FIRST for second in words.COMPANY_SECOND]
    for number, name in enumerate(chance.sample(names, COMPANIES), start=1):
        plan = chance.choices(list(PLANS), weights=(40, 30, 22, 8))[0]
        size = int(chance.paretovariate(0.9) * 5)
        created_at = at - timedelta(days=chance.uniform(20, 1_400))
        yield Company(
            company_id=f"c{number}",
            name=name,
            plan=plan,
            monthly_spend=PLANS[plan] * chance.randint(1, 6),
            size=min(size, 20_000),
            industry=chance.choice(words.INDUSTRIES),
            website=f"https://{slug(name)}.example",
            remote_created_at=created_at,
            created_at=created_at,
            updated_at=at,
            last_seen_at=at - timedelta(days=chance.expovariate(1 / 12)),
            session_count=chance.randint(1, 4_000),
            attributes={
                "seats": chance.randint(1, 80),
                "renewal_at": int((at + timedelta(days=chance.randint(-20, 340))).timestamp()),
                "region": chance.choice(("EMEA", "APAC", "Americas")),
            },
        )


def make_customer(number: int, chance: random.Random, *, at: datetime) -> Customer:
    """Return one customer; the last `LEADS` of them are leads with few attributes."""
    first, last = chance.choice(words.FIRST_NAMES), chance.choice(words.LAST_NAMES)
    is_lead = number >= CUSTOMERS - LEADS
    # One in twelve signed up within a month, the others over three years.
    age = timedelta(days=chance.uniform(0.02, 30) if chance.random() < 1 / 12 else chance.uniform(30, 1_100))
    signed_up_at = at - age
    last_seen_at = max(signed_up_at, at - timedelta(days=chance.expovariate(1 / 25)))
    country, city, zone, language = chance.choice(words.PLACES)
    browser, system = chance.choice(words.BROWSERS)
    on_trial = age < TRIAL
    customer = Customer(
        role=Role.LEAD if is_lead else Role.USER,
        email=f"{slug(first)}.{slug(last)}{number}@mail.example",
        name=f"{first} {last}",
        created_at=signed_up_at,
        updated_at=at,
        first_seen_at=signed_up_at,
        last_seen_at=last_seen_at,
        timezone=zone,
        country=country,
        city=city,
        language=language,
        browser=browser,
        os=system,
        session_count=1 + int(chance.expovariate(1 / (2 + age.days / 10))),
    )
    if is_lead:
        return customer
    customer.user_id = f"u{number + 1}"
    customer.signed_up_at = signed_up_at
    customer.unsubscribed_from_emails = chance.random() < 0.02
    customer.has_hard_bounced = chance.random() < 0.01
    customer.marked_email_as_spam = chance.random() < 0.002
    plan = "trial" if on_trial else chance.choices(list(PLANS), weights=(50, 25, 20, 5))[0]
    customer.attributes = {
        "plan": plan,
        "projects": int(chance.expovariate(1 / 3)),
        "job_title": chance.choice(JOBS),
        "is_admin": chance.random() < 0.25,
    }
    if on_trial:
        customer.attributes["trial_ends_at"] = int((signed_up_at + TRIAL).timestamp())
    return customer


def make_memberships(
    users: Iterable[Customer], companies: Sequence[Company], chance: random.Random
) -> Iterator[Membership]:
    """Put most customers in one company, some in two or three, a few in none."""
    weights = [min(company.size or 1, 400) for company in companies]
    for user in users:
        many = chance.choices((0, 1, 2, 3), weights=(5, 85, 8, 2))[0]
        for company in {chance.choices(companies, weights)[0].pk: None for _ in range(many)}:
            yield Membership(customer=user, company_id=company, created_at=user.created_at)


def make_events(user: Customer, chance: random.Random, *, at: datetime) -> Iterator[Event]:
    """Yield the events of a customer between sign-up and last visit."""
    while_here = (user.last_seen_at or at) - user.created_at
    for name, (share, most) in EVENTS.items():
        if chance.random() < share:
            moments = {
                (user.created_at + while_here * chance.random()).replace(microsecond=0)
                for _ in range(chance.randint(1, most))
            }
            for moment in sorted(moments):
                yield Event(customer=user, name=name, happened_at=moment)


def summaries(events: Iterable[Event]) -> Iterator[EventSummary]:
    """Yield the event summaries, as intake would create them."""
    moments: dict[tuple[int, str], list[datetime]] = defaultdict(list)
    for event in events:
        moments[event.customer_id, event.name].append(event.happened_at)
    for (customer, name), when in moments.items():
        yield EventSummary(customer_id=customer, name=name, count=len(when), first_at=min(when), last_at=max(when))


def drawn(shares: dict[str, float], chance: random.Random) -> list[str]:
    """Draw each name with its own probability."""
    return [name for name, share in shares.items() if chance.random() < share]


def slug(name: str) -> str:
    """Return a name as part of an email address."""
    plain = (
        unicodedata.normalize("NFKD", name.replace("\N{LATIN SMALL LETTER DOTLESS I}", "i"))
        .encode("ascii", "ignore")
        .decode()
    )
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
