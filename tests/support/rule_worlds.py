"""Random worlds for the agreement test: rows with values at the edges of rules.

A world is rows in memory for the oracle; `store_world` writes them to the database for the compiler. Customers differ
between worlds; tags, messages, teammates and the catalogue do not.
"""
# ruff: noqa: RUF001 - the tests need letters that look alike

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import product
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from audiences.attributes import DETAILS, STANDARD
from audiences.models import (
    Company,
    CompanyTag,
    Customer,
    CustomerTag,
    EventSummary,
    Membership,
    Workspace,
)
from audiences.rules import Kind
from delivery.models import DeliveryRecord, Status
from tests.support.rule_oracle import EPOCH, World

TAGS = (9_001, 9_002, 9_003)
MESSAGES = (9_101, 9_102)
TEAMMATES = (9_201, 9_202)
EVENTS = ("ordered", "invited-friend", "100% {odd} %(now)s", "été")
KEYS: dict[str, Kind] = {
    "plan name": Kind.TEXT,
    "seats": Kind.NUMBER,
    "it's {beta} 100%": Kind.BOOLEAN,
    "%(now)s.trial_ends_at": Kind.DATE,
}

# Nights with a clock change, some at midnight, and nights without one.
MOMENTS: tuple[tuple[str, datetime], ...] = tuple(
    (zone, datetime(*day, tzinfo=ZoneInfo(zone)).astimezone(UTC))
    for zone, day in (
        ("UTC", (2026, 5, 4, 10)),
        ("UTC", (2026, 1, 1)),
        ("Asia/Kathmandu", (2026, 5, 4)),
        ("America/New_York", (2026, 3, 8, 12)),
        ("America/New_York", (2026, 11, 1, 1, 30)),
        ("Europe/Dublin", (2026, 3, 29, 0, 30)),
        ("Europe/Dublin", (2026, 10, 25, 23)),
        ("Asia/Beirut", (2026, 3, 29, 8)),  # 00:00 does not exist.
        ("Africa/Cairo", (2026, 4, 25)),
        ("Africa/Cairo", (2026, 10, 30, 6)),
        ("America/Havana", (2026, 11, 1, 8)),  # 00:00 comes twice.
        ("Pacific/Apia", (2011, 12, 31, 9)),  # The day before does not exist.
        ("Pacific/Chatham", (2026, 4, 5, 12)),
    )
)
DAYS = (-400, -31, -3, -2, -1, 0, 1, 2, 3, 7, 30, 365)
MICROSECOND = timedelta(microseconds=1)

TEXTS = (
    "", "pro", "Pro", "PRO plan", "prop", "100%", "100 percent", "a_b", "axb", "A_B", "back\\slash", "backslash", "\\",
    "É", "é", "École", "école", "straße", "STRASSE", "ß", "ẞ", "İstanbul", "istanbul", "ISTANBUL", "ı", "ſ", "s", "S",
    "ΟΔΟΣ", "οδος", "οδοσ", "Ǆ", "ǅ", "Ж", "ж", "\u212a", "ﬁn", "FIN", " pro", "pro ", "Ada King Lovelace", "Ada  King",
    " Ada", "Ada", "ada king", "O'Neil \"x\"", "%s", "%(now)s", "{key}", "{{}}", "null", "😀 ok", "a\tb", "a\nb", "0",
)  # fmt: skip
VALUES_ASKED_FOR = (
    *(text for text in TEXTS if text.strip()),
    "%", "_", "{", "o", "P", "ra", "RO", "ΔΟΣ", "ος", "οσ", "tan", "i", "I", "SS", "ss", "É%", "a_", "x", " K",
    "King", "\"", "nobody has this",
)  # fmt: skip
# Texts that only one customer has: IDs and addresses of the first few.
UNIQUE_TEXTS = (
    *tuple(text.format(n) for n in range(1, 9) for text in ("{}", "Pro {}", "é_{}%@x.com", "{}@É.com")),
    "@X.COM",
)
WHOLE = (0, 1, 2, 3, -1, 5, 2_147_483_647)
NUMBERS = (*WHOLE, 2.5, -0.5, 0.1, 0.3, 0.30000000000000004, 1234567890.1234567, 1e20, 10**20 + 1, 1e-7, -0.0)
OFF_KIND_VALUES: tuple[Any, ...] = (
    None,
    "",
    "5",
    "true",
    True,
    False,
    0,
    1,
    [],
    {},
    [1],
    {"a": 1},
    10**17,
    -(10**17),
    1e308,
)


def moments(now: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return times within a microsecond of the rolling days around now, and of midnights in the zone."""
    today = now.astimezone(zone).date()
    midnights = (datetime.combine(today + timedelta(days=days), time(), zone) for days in (-2, -1, 0, 1, 2))
    edges = [now - timedelta(days=days) for days in DAYS] + [midnight.astimezone(UTC) for midnight in midnights]
    return [edge + off for edge, off in product(edges, (-MICROSECOND, MICROSECOND * 0, MICROSECOND))]


class Draw:
    """Random generator for the rows of one world."""

    def __init__(self, random: Random, now: datetime, zone: ZoneInfo) -> None:
        self.random, self.now = random, now
        self.moments = moments(now, zone)
        self.one = random.choice
        # Half the texts and times of a world come from a few, so that rules match often enough.
        self.few = random.sample(TEXTS, 6)
        self.few_moments = random.sample(self.moments, 6)

    def maybe(self, values: Sequence[Any], nothing: Any = None) -> Any:
        """Return one of the values, or `nothing` in one of three cases."""
        return nothing if self.random.random() < 1 / 3 else self.one(values)

    def text(self) -> str:
        """Return a text, often empty."""
        return str(self.maybe(self.one((self.few, TEXTS)), ""))

    def moment(self) -> datetime | None:
        return self.maybe(self.one((self.few_moments, self.moments)))

    def of_kind(self, kind: Kind) -> Any:
        """Return a JSON value, mostly of the kind, sometimes of another (not for text, which any value can be)."""
        if self.random.random() < 1 / 5:
            return self.one((None, "") if kind is Kind.TEXT else OFF_KIND_VALUES)
        if kind is Kind.DATE:
            # Quarters of seconds, which a float represents exactly.
            return self.one((0, -0.25, 0.25, 0.5)) + (self.one(self.moments) - EPOCH) // timedelta(seconds=1)
        return self.one({Kind.TEXT: TEXTS, Kind.NUMBER: NUMBERS, Kind.BOOLEAN: (True, False)}[kind])

    def json(self, kinds: dict[str, Kind]) -> dict[str, Any]:
        """Return values for some of the keys."""
        return {key: self.of_kind(kind) for key, kind in kinds.items() if self.random.random() < 3 / 4}

    def columns(self, about: str, row: Customer | Company) -> None:
        """Fill the columns that have the name of an attribute."""
        for attribute in STANDARD:
            if (
                attribute.sql.startswith(f"{about}.")
                and (name := attribute.sql.removeprefix(f"{about}.")).isidentifier()
            ):
                if attribute.kind is Kind.DATE:
                    setattr(row, name, self.moment())
                elif attribute.kind is Kind.TEXT and name not in ("user_id", "email", "company_id"):
                    setattr(row, name, self.text())
                elif attribute.kind is Kind.BOOLEAN:
                    setattr(row, name, self.one((True, False)))
        row.last_seen_at = self.moment()
        row.session_count = self.one(WHOLE)
        row.attributes = self.json(KEYS)
        row.created_at = row.updated_at = self.now
        row.archived_at = self.one((None, None, None, None, self.now))

    def customer(self, pk: int) -> Customer:
        """Return a customer, mostly a user."""
        row = Customer(pk=pk, role=self.one(("user", "user", "user", "lead")), owner_id=self.maybe(TEAMMATES))
        self.columns("c", row)
        row.details = self.json({key: kind for key, (_label, kind) in DETAILS.items()})
        # Unique in the database, so they contain the key.
        row.user_id = self.maybe(
            (f"{pk}", f"Pro {pk}", f"{self.one(VALUES_ASKED_FOR)}-{pk}", f"{pk}-{self.one(VALUES_ASKED_FOR)}")
        )
        row.email = self.maybe((f"{self.one(VALUES_ASKED_FOR).lower()}{pk}@x.com", f"é_{pk}%@x.com", f"{pk}@É.com"))
        return row

    def company(self, pk: int) -> Company:
        row = Company(pk=pk, company_id=self.one((f"{pk}", f"{pk}-{self.one(VALUES_ASKED_FOR)}", f"Pro {pk}")))
        self.columns("k", row)
        row.size, row.monthly_spend = self.maybe(WHOLE), self.maybe(WHOLE)
        return row

    def summary(self, customer: Customer, name: str) -> EventSummary:
        first, last = sorted((self.one(self.moments), self.one(self.moments)))
        return EventSummary(customer=customer, name=name, count=self.one((1, 2, 3)), first_at=first, last_at=last)

    def record(self, customer: Customer, company: Company | None, message: int) -> DeliveryRecord:
        """Return a delivery record. Only sent ones can be opened, clicked or replied to."""
        record = DeliveryRecord(customer=customer, company=company, message_id=message, matched_at=self.now)
        others = (Status.WAITING, Status.UNCERTAIN, Status.WITHDRAWN, Status.FAILED)
        record.status = self.one((*[Status.SENT] * 4, *others))
        if record.status == Status.WAITING:
            record.due_at = self.now
        if record.status == Status.SENT:
            record.sent_at = self.now
            record.opened_at, record.clicked_at, record.replied_at = (self.one((None, self.now)) for _ in range(3))
        return record


def draw_world(random: Random, *, customers: int = 12, companies: int = 5) -> tuple[World, datetime]:
    """Draw a world and the time of the evaluation."""
    name, now = random.choice(MOMENTS)
    world = World(zone=ZoneInfo(name), customer_kinds=dict(KEYS), company_kinds=dict(KEYS))
    one = Draw(random, now, world.zone)
    world.companies = [one.company(pk) for pk in range(1, companies + 1)]
    world.customers = [one.customer(pk) for pk in range(1, customers + 1)]
    for customer in world.customers:
        theirs = random.sample(world.companies, random.choice((0, 1, 1, 2, 3)))
        world.memberships |= {(customer.pk, company.pk) for company in theirs}
        world.customer_tags |= {(customer.pk, tag) for tag in TAGS if random.random() < 1 / 4}
        world.summaries += [one.summary(customer, event) for event in EVENTS if random.random() < 1 / 2]
        for message, company in product(MESSAGES, [None, *theirs]):
            if random.random() < 1 / 3:
                world.records.append(one.record(customer, company, message))
    world.company_tags = {(k.pk, tag) for k, tag in product(world.companies, TAGS) if random.random() < 1 / 4}
    return world, now


def store_world(world: World, *, at: datetime) -> None:
    """Write a world to the database."""
    Workspace.objects.update_or_create(pk=1, defaults={"zone": world.zone.key})
    Customer.objects.bulk_create(world.customers)
    Company.objects.bulk_create(world.companies)
    Membership.objects.bulk_create(
        Membership(customer_id=customer, company_id=company, created_at=at) for customer, company in world.memberships
    )
    CustomerTag.objects.bulk_create(
        CustomerTag(customer_id=customer, tag_id=tag, created_at=at) for customer, tag in world.customer_tags
    )
    CompanyTag.objects.bulk_create(
        CompanyTag(company_id=company, tag_id=tag, created_at=at) for company, tag in world.company_tags
    )
    EventSummary.objects.bulk_create(world.summaries)
    DeliveryRecord.objects.bulk_create(world.records)
