"""A small world: customers, companies and messages, what the actors did to them, and what must never happen."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import time, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from psycopg.types.json import Jsonb

from audiences.models import Company, CustomAttribute, Customer, Device, Membership, Workspace
from audiences.models.catalogue import Scope
from audiences.rules import Kind
from delivery.matching import ongoing, rounds
from messaging import delivery_window
from messaging.models import Message, Sender
from tests.factories import AT, CompanyFactory, CustomerFactory, MessageFactory, rule
from tests.simulation import database
from tests.simulation.database import Rows, Watch
from tests.simulation.processes import Actor, Process
from tests.simulation.scheduler import Scheduler
from tests.simulation.servers import HandOver, Servers

# A copy may begin so long after the last check (behaviour 5). Not the engine's constant, which a planted fault changes.
GRACE = 0.5
CUSTOMERS = 3
PRO = [rule("custom_attributes.plan", "is", "pro")]
ONGOING: dict[str, dict[str, Any]] = {
    "welcome": {"rules": PRO, "live": True},
    "company": {"body": "<p>{{ company.name }}</p>", "live": True},
    "chat": {"channel": "in_app", "format": "chat", "live": True},
}
ONE_OFFS: dict[str, dict[str, Any]] = {
    "push": {"channel": "push", "one_off": True},
    "news": {"one_off": True, "rules": PRO},
    "offer": {"one_off": True},
    "notice": {"channel": "in_app", "format": "chat", "one_off": True},
}
UTC = ZoneInfo("UTC")
# The seconds after AT at which a schedule begins.
BEGINNING = 1_790.0
# The moment of all that happened before that.
BEFORE = 0.0
# The ongoing messages of a world, and whether a round has run before.
Setting = tuple[tuple[str, ...], bool]
LIVE = (("welcome",), ("welcome", "company"), ("welcome", "chat"), ("welcome", "company", "chat"))
FILLED: dict[Setting, Rows] = {}
# Windows that open or close soon after the beginning, which is 10 seconds before half past ten.
OPENS, CLOSES = ("10:30", "18:00"), ("09:00", "10:30")
# Quiet hours that leave each of these windows some time.
QUIET_AROUND = ("10:00", "11:00")

OWNER = (
    "SELECT r.status, r.message_id, r.customer_id, r.company_id, c.attributes ->> 'plan', c.name, m.title,"
    " EXISTS (SELECT FROM audiences_membership b WHERE b.customer_id = c.id AND b.company_id = r.company_id),"
    " EXISTS (SELECT FROM audiences_company k WHERE k.id = r.company_id AND k.archived_at IS NOT NULL)"
    " FROM delivery_deliveryrecord r JOIN audiences_customer c ON c.id = r.customer_id"
    " JOIN messaging_message m ON m.id = r.message_id WHERE r.id = %s"
)
CLAIMED = (
    "SELECT DISTINCT customer_id FROM delivery_deliveryrecord WHERE status = 'sending' AND id <> ALL(%s) ORDER BY 1"
)
# How often an actor chooses a message or a customer with copies in hand, if there is one.
TOUCHES_COPIES = 0.7
# The transitions of behaviour 3.
MAY_BECOME = {
    None: {"waiting", "skipped", "sent", "sending", "withdrawn"},
    "waiting": {"sending", "skipped", "withdrawn", "sent"},
    "sending": {"sent", "failed", "uncertain", "waiting"},
    "uncertain": {"sent", "failed", "waiting"},
    "withdrawn": {"waiting"},
    "sent": set(),
    "failed": set(),
    "skipped": set(),
}


# The transitions of behaviour 4.9.
MESSAGE_MAY_BECOME = {
    "draft": {"scheduled", "live", "sampled"},
    "scheduled": {"draft", "live"},
    "sampled": {"live", "paused", "stopped"},
    "live": {"paused", "stopped", "sent"},
    "paused": {"live", "sampled", "stopped"},
    "sent": set(),
    "stopped": set(),
}


def create_world(live: tuple[str, ...], *, is_matched: bool) -> None:
    """Create customers, companies and messages in an empty database."""
    Workspace.current()
    CustomAttribute.objects.create(scope=Scope.CUSTOMER, name="plan", kind=Kind.TEXT, created_at=AT)
    customers = Customer.objects.bulk_create(
        # The last two share an address.
        CustomerFactory.build(
            user_id=f"u{n}", name="Ada", email=f"{min(n, CUSTOMERS - 2)}@x.example", attributes={"plan": "pro"}
        )
        for n in range(CUSTOMERS)
    )
    Customer.objects.bulk_create([CustomerFactory.build(lead=True, email="lead@x.example", attributes={"plan": "pro"})])
    companies = Company.objects.bulk_create(CompanyFactory.build(company_id=f"k{n}", name=f"K{n}") for n in (1, 2))
    Membership.objects.bulk_create(
        Membership(customer=one, company=company, created_at=AT) for one in customers[:2] for company in companies
    )
    Device.objects.bulk_create(
        Device(customer=customers[0], token=f"t{n}", platform="android", created_at=AT) for n in range(2)
    )
    sender = Sender.objects.create(name="Ada", email="ada@acme.example")
    for name, facts in {**{name: ONGOING[name] for name in live}, **ONE_OFFS}.items():
        MessageFactory(title=name, subject="Hi {{ first_name }}", sender=sender, at=AT, **facts)
    if is_matched:
        rounds.match_ongoing(at=AT)


@dataclass
class World:
    """The customers and messages of one schedule, and everything that is known about them."""

    scheduler: Scheduler
    watch: Watch
    random: Random
    customers: list[int] = field(default_factory=list)
    lead: int = 0
    companies: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    cap: int | None = None
    windows: dict[int, delivery_window.Window] = field(default_factory=dict)
    # Messages that are being paused, whose pause has returned, and whose pause did not wait to the end.
    pausing: set[int] = field(default_factory=set)
    paused: set[int] = field(default_factory=set)
    loose: set[int] = field(default_factory=set)
    # When a message was resumed, and the attribute and value that it asks for since.
    resumed: dict[int, float] = field(default_factory=dict)
    rules: dict[int, tuple[str, str]] = field(default_factory=dict)
    # When these were committed: opt-outs by customer and by address, erasures, and companies left or archived.
    opted_out: dict[int | str, float] = field(default_factory=dict)
    erased: dict[int, float] = field(default_factory=dict)
    left: dict[tuple[int, int], float] = field(default_factory=dict)
    archived: dict[int, float] = field(default_factory=dict)
    # When the facts of a customer changed last; infinite while they change.
    changed: dict[int, float] = field(default_factory=dict)
    merged: set[int] = field(default_factory=set)
    launched: set[int] = field(default_factory=set)
    checked: dict[int, float] = field(default_factory=dict)
    # How often staff put an uncertain record back in the queue.
    repeated: Counter[int] = field(default_factory=Counter)
    resolved: set[int] = field(default_factory=set)
    statuses: dict[int, str] = field(default_factory=dict)
    last_states: bytes = b""
    # The state of each message, when it went live, and its problem.
    states: dict[int, tuple[str, Any, str]] = field(default_factory=dict)
    # The process that claimed a record last.
    claimers: dict[int, Process] = field(default_factory=dict)
    # Interesting states that were reached ("sometimes").
    reached: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    # The title of the message and the customer of each record that began.
    owners: dict[int, tuple[str, int]] = field(default_factory=dict)
    # The records that an address got, by message and company.
    got: dict[tuple[int, str, int | None], set[int]] = field(default_factory=dict)
    # The names of actors at work, and of those that have done it, or whose pause has returned.
    busy: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    servers: Servers = field(init=False)

    def __post_init__(self) -> None:
        self.servers = Servers(self.scheduler, self.random, self.check_begin, self.check_accepted)
        self.fill()

    def fill(self) -> None:
        """Fill the empty database, from a copy if there is one, and vary it."""
        draw = self.random
        self.scheduler.seconds = BEGINNING
        # With a cap, two messages wait for some customers: two workers may count them at once.
        self.cap = 1 if draw.random() < 0.35 else None
        live = draw.choice([names for names in LIVE if "company" in names or not self.cap])
        is_matched = draw.random() < (0.9 if self.cap else 0.5)
        setting = live, is_matched
        if setting not in FILLED:
            create_world(live, is_matched=is_matched)
            FILLED[setting] = database.copy_rows()
            database.empty_database()
        database.restore_rows(FILLED[setting])
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM audiences_customer WHERE user_id IS NOT NULL ORDER BY id")
            self.customers = [pk for (pk,) in cursor.fetchall()]
            cursor.execute("SELECT id FROM audiences_customer WHERE user_id IS NULL")
            self.lead = cursor.fetchone()[0]
            cursor.execute("SELECT company_id, id FROM audiences_company ORDER BY id")
            self.companies = dict(cursor.fetchall())
            cursor.execute("SELECT title, id FROM messaging_message ORDER BY id")
            self.messages = dict(cursor.fetchall())
            self.vary(cursor)
        self.rules = {self.messages[name]: ("plan", "pro") for name in ("welcome", "news")}

    def vary(self, cursor: Any) -> None:
        """Change some customers and memberships, and choose a window."""
        draw = self.random
        # An earlier round may have matched them all.
        plans = [draw.choice(("pro", "pro", "free")) for _ in self.customers]
        cursor.execute(
            "UPDATE audiences_customer c SET attributes = jsonb_build_object('plan', given.plan)"
            " FROM unnest(%s::bigint[], %s::text[]) AS given(id, plan) WHERE c.id = given.id AND given.plan <> 'pro'",
            [self.customers, plans],
        )
        self.changed = {pk: BEGINNING for pk, plan in zip(self.customers, plans, strict=True) if plan != "pro"}
        cursor.execute(
            "DELETE FROM audiences_membership WHERE id IN (SELECT id FROM audiences_membership ORDER BY id OFFSET %s)"
            " RETURNING customer_id, company_id",
            [draw.randint(0, 3)],
        )
        self.left = dict.fromkeys(cursor.fetchall(), BEFORE)
        if draw.random() < 0.3:
            # An earlier round may have matched this customer.
            pk = draw.choice(self.customers)
            cursor.execute("UPDATE audiences_customer SET unsubscribed_from_emails = TRUE WHERE id = %s", [pk])
            self.opted_out[pk] = BEFORE
        if draw.random() < 0.3:
            pk = self.messages[draw.choice(("welcome", "offer"))]
            opens, closes = draw.choice((OPENS, CLOSES))
            entries = [{"weekday": day, "from": opens, "to": closes} for day in range(7)]
            self.windows[pk] = delivery_window.parse_window(entries)
            cursor.execute('UPDATE messaging_message SET "window" = %s WHERE id = %s', [Jsonb(entries), pk])
        if self.cap:
            cursor.execute("UPDATE audiences_workspace SET cap_messages = 1, cap_days = 7")
        if draw.random() < 0.3:
            cursor.execute("UPDATE messaging_message SET checking = 'at_once' WHERE title = 'welcome'")
        if draw.random() < 0.15:
            self.begin_quiet_hours(cursor, *(QUIET_AROUND if self.windows else draw.choice((OPENS, CLOSES))))

    def begin_quiet_hours(self, cursor: Any, begin: str, end: str) -> None:
        """Set quiet hours of the workspace, which hold the messages to audiences back besides their windows."""
        cursor.execute("UPDATE audiences_workspace SET quiet_from = %s, quiet_to = %s", [begin, end])
        quiet = time.fromisoformat(begin), time.fromisoformat(end)
        for pk in self.messages.values():
            window = self.windows.get(pk, delivery_window.Window())
            self.windows[pk] = delivery_window.without_quiet_hours(window, quiet)
        self.reached["quiet hours"] += 1

    def message(self, *names: str) -> Message | None:
        """Return one of these messages, read again; None if this world has none of them.

        Mostly it is one with a copy on its way: then what happens to it matters.
        """
        there = [name for name in names if name in self.messages]
        on_their_way = sorted({self.owners[copy.record][0] for copy in self.servers.in_flight} & set(there))
        if on_their_way and self.random.random() < TOUCHES_COPIES:
            there = on_their_way
        return Message.objects.get(pk=self.messages[self.random.choice(there)]) if there else None

    def customer(self) -> Customer:
        """Return a customer, mostly one with a claimed copy that has not begun."""
        begun = [copy.record for copy in self.servers.begun]
        found = [pk for (pk,) in self.watch.rows(CLAIMED, [begun]) if pk in self.customers]
        chosen = found if found and self.random.random() < TOUCHES_COPIES else self.customers
        return Customer.objects.get(pk=self.random.choice(chosen))

    # What must never happen

    def fail(self, words: str) -> None:
        self.wrong.append(words)

    def check_begin(self, copy: HandOver) -> None:
        """Check a copy that begins now."""
        rows = self.watch.rows(OWNER, [copy.record])
        if not rows:
            self.fail(f"record {copy.record} began and does not exist")
            return
        status, message, customer, company, plan, name, title, is_member, is_archived = rows[0]
        self.owners[copy.record] = title, customer
        what = f"record {copy.record} of {title} for customer {customer} began"
        if title != "push":
            self.check_address((message, copy.to[0].lower(), company), copy.record)
        if status != "sending":
            self.fail(f"{what} although it is {status}")
        if message in self.paused:
            self.fail(f"{what} although the message was paused")
        self.reached["a copy began during a pause"] += message in self.pausing
        is_gone = (not is_member, is_archived)
        self.check_reasons(copy, what, self.reasons_against(copy, title, customer, company, is_gone=is_gone))
        if (window := self.windows.get(message)) is not None:
            self.check_window(window, what)
        if title in ONGOING and message in self.rules:
            attribute, value = self.rules[message]
            # A copy that a pause did not wait for was judged before.
            is_settled = self.changed.get(customer, -1.0) < self.resumed.get(message, 0.0)
            is_settled &= message not in self.loose
            if is_settled and {"plan": plan, "name": name}[attribute] != value:
                self.fail(f"{what} although the customer does not match")
        others = {other.process for other in self.servers.in_flight} - {copy.process}
        self.reached["two processes sent at once"] += bool(others)

    def reasons_against(
        self, copy: HandOver, title: str, customer: int, company: int | None, *, is_gone: tuple[bool, bool]
    ) -> dict[str, float | None]:
        """Return when each fact that forbids a copy was committed; None if it does not hold."""
        reasons: dict[str, float | None] = {"the erasure": self.erased.get(customer)}
        if title != "push":
            reasons["an opt-out"] = self.opted_out.get(customer)
            reasons["an opt-out of the address"] = self.opted_out.get(copy.to[0])
        has_left, is_archived = is_gone
        if company is not None and has_left:
            reasons["the customer left the company"] = self.left.get((customer, company))
        if company is not None and is_archived:
            reasons["the company was archived"] = self.archived.get(company)
        return reasons

    def check_address(self, key: tuple[int, str, int | None], record: int) -> None:
        """Check that an address gets a message for one record alone."""
        records = self.got.setdefault(key, set())
        records.add(record)
        # The address of an erased customer is blanked, so nobody can know that it got the message.
        known = {pk for pk in records if self.owners[pk][1] not in self.erased}
        # Staff said that these had not arrived.
        known -= {pk for pk in known - {record} if self.repeated[pk]}
        refused = {pk for pk in records if not self.servers.accepted[pk]} - {record}
        if len(known - refused) > 1:
            self.fail(f"message {key[0]} began for {key[1]} as the records {sorted(known)}")

    def check_reasons(self, copy: HandOver, what: str, reasons: dict[str, float | None]) -> None:
        """Check that nothing that forbids a copy was committed longer ago than a check is valid."""
        for reason, since in reasons.items():
            if since is not None and copy.seconds > since + GRACE:
                self.fail(f"{what} {copy.seconds - since:.2f} s after {reason}")
            self.reached[f"began just after {reason}"] += since is not None

    def check_window(self, window: delivery_window.Window, what: str) -> None:
        now = self.scheduler.now()
        if not any(delivery_window.is_open(window, moment, UTC) for moment in (now, now - timedelta(seconds=GRACE))):
            self.fail(f"{what} outside the delivery window")

    def check_accepted(self, record: int) -> None:
        """Check a copy that a server has accepted now."""
        most = 1 + self.repeated[record]
        if self.servers.accepted[record] > most:
            self.fail(f"record {record} was accepted {self.servers.accepted[record]} times")
        for (pk, token), times in self.servers.accepted_devices.items():
            if pk == record and times > most:
                self.fail(f"record {record} was accepted by device {token} {times} times")

    def check_statuses(self, actor: Actor) -> None:
        """Check that every change of a record that this step committed is allowed."""
        text = self.watch.states()
        if text == self.last_states:
            return
        self.last_states = text
        messages, records = json.loads(text)
        channels = {pk: channel for pk, channel, *_ in messages}
        self.check_messages(messages, actor)
        found = {pk: status for pk, _, status in records}
        for pk, message, status in records:
            if (before := self.statuses.get(pk)) != status:
                self.check_change(pk, before, status, actor, message=message, channel=channels[message])
        self.statuses = found

    def check_messages(self, messages: list[Any], actor: Actor) -> None:
        """Check that every change of a message that this step committed is allowed."""
        for pk, _, state, went_live_at, problem in messages:
            before, launched_at, earlier = self.states.get(pk, (state, went_live_at, ""))
            if state != before and state not in MESSAGE_MAY_BECOME[before]:
                self.fail(f"message {pk} went from {before} to {state} by {actor.name}")
            if launched_at not in (None, went_live_at):
                self.fail(f"message {pk} was launched twice, now by {actor.name}")
            # Nothing is wrong with the rules, and a lost connection is not the message's fault.
            if problem == ongoing.MATCHING_FAILED != earlier:
                self.fail(f"message {pk}: {problem}")
            self.states[pk] = state, went_live_at, problem

    def check_change(
        self, pk: int, before: str | None, status: str, actor: Actor, *, message: int, channel: str
    ) -> None:
        """Check one change of a record's status."""
        is_merge = actor.name == "merger" and status == "skipped"
        # A push that a device may have, when it ends early (behaviour 4.18).
        is_begun_push = channel == "push" and (before, status) == ("waiting", "uncertain")
        if status not in MAY_BECOME[before] and not (is_merge or is_begun_push):
            self.fail(f"record {pk} went from {before} to {status}")
        if status == "sending":
            self.claimers[pk] = actor.process
        if before == "uncertain":
            if actor.name not in ("resolver", "repeater", "stand-in"):
                self.fail(f"record {pk} was uncertain and became {status} by {actor.name}")
            self.repeated[pk] += status == "waiting"
            if status == "sent":
                self.resolved.add(pk)
        if message not in self.paused or message in self.loose:
            return
        if before is None or status == "sending" or (channel == "in_app" and status == "sent"):
            self.fail(f"record {pk} became {status} by {actor.name} although its message was paused")
