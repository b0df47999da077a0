"""A small world, the actors that change it at once, and the server that takes copies."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from django.db import connection, transaction
from django.db.utils import InterfaceError, OperationalError

from audiences import intake
from audiences.intake.attributes.fields import Refused
from audiences.intake.csv_import.upsert import COLUMNS, upsert_slice
from audiences.models import Company, CustomAttribute, Customer, Device, Membership, Workspace
from audiences.models.catalogue import Scope
from audiences.rules import Kind
from delivery.channels import Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.channels.base import Answers
from delivery.customers import erase, merge
from delivery.maintenance import sweep
from delivery.matching import launch, launch_job, lifecycle, ongoing, rounds
from delivery.models import DeliveryRecord, Status
from delivery.sending import dispatcher, suppression, uncertain
from delivery.sending.batch import CHECK_VALID_FOR
from delivery.tracking import links
from delivery.visits import visit
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, NotReady, Sender, WrongState
from tests.factories import AT, CompanyFactory, CustomerFactory, MessageFactory, rule
from tests.simulation.database import Sessions
from tests.simulation.scheduler import Process, Scheduler, current_actor

# A teammate or a worker that loses its database connection gets one of these; a later try, or the sweep, goes on.
CONNECTION_ERRORS = (OperationalError, InterfaceError)
# Refusals that a teammate reads; and rows that another actor erased or merged meanwhile.
REFUSALS = (WrongState, NotReady, Customer.DoesNotExist, DeliveryRecord.DoesNotExist, Refused)
# How long a dispatcher works, in simulated seconds.
DISPATCH_SECONDS = 120


@dataclass(frozen=True, slots=True)
class HandOver:
    """A copy that began: its record, by which process, when, and whether the server accepted it."""

    record: int
    process: Process
    seconds: float


@dataclass
class Servers:
    """Servers that take copies, refuse some, and lose the connection for others after they took them."""

    scheduler: Scheduler
    random: Random
    on_begin: Callable[[HandOver], None]
    begun: list[HandOver] = field(default_factory=list)
    in_flight: list[HandOver] = field(default_factory=list)
    accepted: Counter[int] = field(default_factory=Counter)
    # By record and device token.
    accepted_devices: Counter[tuple[int, str]] = field(default_factory=Counter)

    def begin(self, record: int) -> HandOver:
        actor = current_actor()
        assert actor is not None
        copy = HandOver(record, actor.process, self.scheduler.seconds)
        self.begun.append(copy)
        self.in_flight.append(copy)
        self.on_begin(copy)
        return copy

    def open_email(self) -> "MailServer":
        return MailServer(self)

    def open_push(self) -> "PushServer":
        return PushServer(self)


@dataclass
class MailServer:
    """A connection to the mail server."""

    servers: Servers

    def send(self, envelope: Envelope) -> str:
        servers = self.servers
        record = int(envelope.message_id[1:].split(".")[0])
        copy = servers.begin(record)
        mood = servers.random.random()
        try:
            servers.scheduler.stop_at("hand over")
            if mood < 0.04:
                raise Unavailable("451 later")
            if mood < 0.06:
                raise Rejected("550 spam")
            if mood < 0.08:
                raise NoSuchMailbox("550 5.1.1 unknown")
            servers.accepted[record] += 1
            servers.scheduler.stop_at("answer")
            if mood < 0.12:
                # It accepts and never answers.
                servers.scheduler.sleep(servers.random.choice((0.1, 0.5, 2.0)))
                raise TimeoutError("no answer")
        finally:
            servers.in_flight.remove(copy)
        return f"<{record}@mx>"

    def close(self) -> None:
        """Do nothing."""


@dataclass
class PushServer:
    """A session with a push provider."""

    servers: Servers

    def send(self, envelope: Envelope) -> str:
        raise NotImplementedError

    def send_to_each(self, envelope: Envelope) -> Answers:
        servers = self.servers
        record = int(envelope.message_id[1:].split(".")[0])
        copy = servers.begin(record)
        answers: dict[str, Any] = {}
        try:
            for token in envelope.to:
                servers.scheduler.stop_at("hand over")
                if servers.random.random() < 0.1:
                    answers[token] = Unavailable("503")
                else:
                    servers.accepted_devices[record, token] += 1
                    answers[token] = f"{record}-{token}"
            servers.scheduler.stop_at("answer")
        finally:
            servers.in_flight.remove(copy)
        return answers

    def close(self) -> None:
        """Do nothing."""


CUSTOMERS = 6
PRO = [rule("custom_attributes.plan", "is", "pro")]
MESSAGES: dict[str, dict[str, Any]] = {
    "welcome": {"rules": PRO, "live": True},
    "company": {"body": "<p>{{ company.name }}</p>", "live": True},
    "chat": {"channel": "in_app", "format": "chat", "live": True},
    "push": {"channel": "push", "one_off": True},
    "news": {"one_off": True, "rules": PRO},
    "offer": {"one_off": True},
}
# The rows of filled databases by table, and the next numbers of their sequences, by the messages in them.
Rows = tuple[dict[str, bytes], dict[str, int]]
FILLED: dict[tuple[str, ...], Rows] = {}
SEQUENCES = "SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL"
FILLED_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    " AND pg_relation_size(oid) > 0 AND relname <> ALL(%s) ORDER BY relname"
)
# Tables that a schedule does not change.
KEPT = ["auth_permission", "django_content_type", "django_migrations"]


def create_world(chosen: tuple[str, ...]) -> None:
    """Create customers, companies and these messages in an empty database."""
    Workspace.current()
    CustomAttribute.objects.create(scope=Scope.CUSTOMER, name="plan", kind=Kind.TEXT, created_at=AT)
    customers = Customer.objects.bulk_create(
        # The last two share an address.
        CustomerFactory.build(user_id=f"u{n}", name="Ada", email=f"{min(n, CUSTOMERS - 2)}@x.example")
        for n in range(CUSTOMERS)
    )
    Customer.objects.bulk_create([CustomerFactory.build(lead=True, email="lead@x.example")])
    companies = Company.objects.bulk_create(CompanyFactory.build(company_id=f"k{n}", name=f"K{n}") for n in (1, 2))
    Membership.objects.bulk_create(
        Membership(customer=one, company=company, created_at=AT) for one in customers[:3] for company in companies
    )
    Device.objects.bulk_create(
        Device(customer=customers[0], token=f"t{n}", platform="android", created_at=AT) for n in range(2)
    )
    sender = Sender.objects.create(name="Ada", email="ada@acme.example")
    for name in chosen:
        MessageFactory(title=name, subject="Hi {{ first_name }}", sender=sender, at=AT, **MESSAGES[name])


def filled_tables() -> list[str]:
    """Return the tables that have rows of this schedule."""
    with connection.cursor() as cursor:
        cursor.execute(FILLED_TABLES, [KEPT])
        return [name for (name,) in cursor.fetchall()]


def copy_rows() -> Rows:
    """Copy the rows of the database, and the numbers of its sequences."""
    rows = {}
    names = filled_tables()
    with connection.cursor() as cursor:
        for name in names:
            with cursor.copy(f"COPY {name} TO STDOUT") as copy:
                rows[name] = b"".join(copy)
        cursor.execute(SEQUENCES)
        return rows, dict(cursor.fetchall())


def restore_rows(filled: Rows) -> None:
    """Restore copied rows in an empty database, without triggers."""
    rows, numbers = filled
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for name, data in rows.items():
            with cursor.copy(f"COPY {name} FROM STDIN") as copy:
                copy.write(data)
        cursor.execute(
            "SELECT setval(name::regclass, number) FROM unnest(%s::text[], %s::bigint[]) AS given(name, number)",
            [list(numbers), list(numbers.values())],
        )


def empty_database() -> None:
    """Delete all rows, and restart the sequences."""
    with connection.cursor() as cursor:
        if names := filled_tables():
            cursor.execute(f"TRUNCATE {', '.join(names)} RESTART IDENTITY CASCADE")


@dataclass
class World:
    """Customers, messages, and the actors of one schedule."""

    scheduler: Scheduler
    sessions: Sessions
    random: Random
    customers: list[Customer] = field(default_factory=list)
    leads: list[Customer] = field(default_factory=list)
    companies: list[Company] = field(default_factory=list)
    messages: dict[str, Message] = field(default_factory=dict)
    # Messages whose pause has returned and that are not resumed.
    paused: set[int] = field(default_factory=set)
    # When an opt-out of a customer was committed.
    unsubscribed: dict[int, float] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)
    merged: set[int] = field(default_factory=set)
    # Interesting states that were reached ("sometimes").
    reached: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    servers: Servers = field(init=False)

    def __post_init__(self) -> None:
        self.servers = Servers(self.scheduler, self.random, self.check_begin)
        self.fill()

    # The world

    def fill(self) -> None:
        """Fill the empty database, from a copy if these messages were chosen before, and vary the customers."""
        draw = self.random
        chosen = tuple(sorted({*draw.sample(sorted(MESSAGES), draw.randint(2, 4)), "welcome"}))
        if chosen not in FILLED:
            create_world(chosen)
            FILLED[chosen] = copy_rows()
        else:
            restore_rows(FILLED[chosen])
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE audiences_customer c SET name = given.name, attributes = jsonb_build_object('plan', given.plan)"
                " FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS given(name, plan, place)"
                " WHERE c.user_id = 'u' || given.place - 1",
                [
                    [draw.choice(("Ada", "Bob")) for _ in range(CUSTOMERS)],
                    [draw.choice(("pro", "pro", "free")) for _ in range(CUSTOMERS)],
                ],
            )
            cursor.execute(
                "DELETE FROM audiences_membership WHERE id IN (SELECT id FROM audiences_membership ORDER BY id OFFSET %s)",
                [draw.randint(0, 6)],
            )
        self.customers = list(Customer.objects.exclude(user_id=None).order_by("pk"))
        self.leads = list(Customer.objects.filter(user_id=None))
        self.companies = list(Company.objects.order_by("pk"))
        self.messages = {message.title: message for message in Message.objects.order_by("pk")}

    def message(self, *names: str) -> Message | None:
        """Return one of these messages, read again; None if this world has none of them."""
        there = [name for name in names if name in self.messages]
        return Message.objects.get(pk=self.messages[self.random.choice(there)].pk) if there else None

    def customer(self) -> Customer:
        return Customer.objects.get(pk=self.random.choice(self.customers).pk)

    # What is checked while it runs

    def check_begin(self, copy: HandOver) -> None:
        """Check a copy that begins now."""
        message, customer = self.owner_of(copy.record)
        if message in self.paused:
            self.wrong.append(f"record {copy.record} began although message {message} was paused")
        since = self.unsubscribed.get(customer)
        if since is not None and copy.seconds > since + CHECK_VALID_FOR:
            self.wrong.append(f"record {copy.record} began {copy.seconds - since:.2f} s after an opt-out")

    def owner_of(self, record: int) -> tuple[int, int]:
        """Return the message and the customer of a record, as committed."""
        row = self.scheduler.locks.session.execute(  # type: ignore[attr-defined]
            "SELECT message_id, customer_id FROM delivery_deliveryrecord WHERE id = %s", [record]
        ).fetchone()
        assert row is not None
        return row

    # Actors

    def add(self, name: str, work: Callable[[], object], *, is_mortal: bool = True) -> None:
        """Add a process with one actor, which has a database connection."""
        process = Process(name, is_mortal=is_mortal)

        def run() -> None:
            self.sessions.open()
            try:
                work()
            except REFUSALS as no:
                self.reached[f"refused: {type(no).__name__}"] += 1
            except CONNECTION_ERRORS:
                if not process.has_lost_connection:
                    raise
                self.reached["gave up after a lost connection"] += 1
            finally:
                connection.close()

        self.scheduler.spawn(name, process, run)

    def actors(self) -> None:
        """Add the actors of a schedule: workers, and a choice of everything that may happen meanwhile."""
        draw = self.random
        for number in range(draw.randint(1, 3)):
            self.add(f"worker {number}", self.send)
        steps: dict[str, Callable[[], object]] = {
            "matcher": self.match_by_changes,
            "full matcher": self.match_in_full,
            "visitor": self.visit,
            "reader": self.check,
            "launcher": self.launch,
            "sampler": self.sample_and_rest,
            "pauser": self.pause_and_resume,
            "stopper": self.stop,
            "editor": self.edit,
            "rule editor": self.edit_rules,
            "planner": self.schedule,
            "merger": self.merge,
            "eraser": self.erase,
            "importer": self.import_rows,
            "bouncer": self.bounce,
            "leaver": self.unsubscribe,
            "member": self.change_membership,
            "writer": self.write,
            "sweeper": self.sweep,
            "resolver": self.resolve,
        }
        chosen = draw.sample(sorted(steps), draw.randint(4, 7))
        for name in chosen:
            self.add(name, steps[name])

    def send(self) -> None:
        scheduler = self.scheduler
        dispatcher.dispatch(clock=scheduler.now, until=scheduler.now() + timedelta(seconds=DISPATCH_SECONDS))

    def match_by_changes(self) -> None:
        rounds.match_ongoing(at=self.scheduler.now())

    def match_in_full(self) -> None:
        if message := self.message("welcome", "company"):
            ongoing.match(message, at=self.scheduler.now())

    def visit(self) -> None:
        known = self.customer()
        if known.archived_at is None:
            visit.visit(known, at=self.scheduler.now())

    def check(self) -> None:
        visit.check(self.customer(), at=self.scheduler.now())

    def launch(self) -> None:
        if message := self.message("news", "offer", "push"):
            if self.random.random() < 0.5:
                launch.launch(message, at=self.scheduler.now())
            else:
                launch_job.request_launch(message, at=self.scheduler.now())
                launch_job.launch(message.pk, at=self.scheduler.now())

    def sample_and_rest(self) -> None:
        if message := self.message("news", "offer"):
            launch.launch(message, at=self.scheduler.now(), sample=2)
            self.scheduler.sleep(self.random.choice((0.1, 5.0)))
            launch.send_to_rest(Message.objects.get(pk=message.pk), at=self.scheduler.now())

    def pause_and_resume(self) -> None:
        message = self.message(*self.messages)
        assert message is not None
        lifecycle.pause(message)
        self.note_end_of_sending(message)
        self.scheduler.sleep(self.random.choice((0.05, 1.0, 10.0)))
        again = Message.objects.get(pk=message.pk)
        with transaction.atomic():
            message_lifecycle.resume(again, at=self.scheduler.now())
            # From the moment of the commit it may go on.
            self.paused.discard(message.pk)

    def stop(self) -> None:
        message = self.message(*self.messages)
        assert message is not None
        lifecycle.stop(message)
        self.note_end_of_sending(message)

    def note_end_of_sending(self, message: Message) -> None:
        """Note that pause or stop has returned: no copy of a living process is on its way, and none begins."""
        self.paused.add(message.pk)
        for copy in self.servers.in_flight:
            owner, _ = self.owner_of(copy.record)
            if owner == message.pk and not copy.process.is_frozen:
                self.reached["in flight when a pause returned"] += 1
                if not copy.process.has_lost_connection:
                    self.wrong.append(f"record {copy.record} was on its way when the pause of {message} returned")

    def edit(self) -> None:
        message = self.message(*self.messages)
        assert message is not None
        words = {"subject": "New {{ first_name }}", "body": message.version.body if message.version else "<p>New</p>"}
        authoring.revise(message, **words, by=None, at=self.scheduler.now())

    def edit_rules(self) -> None:
        if message := self.message("welcome"):
            lifecycle.pause(message)
            self.note_end_of_sending(message)
            message = Message.objects.get(pk=message.pk)
            rules = {"match": "all", "rules": [rule("name", "is", self.random.choice(("Ada", "Bob")))]}
            authoring.change_audience(message, rules=rules, by=None, at=self.scheduler.now())
            with transaction.atomic():
                message_lifecycle.resume(Message.objects.get(pk=message.pk), at=self.scheduler.now())
                self.paused.discard(message.pk)

    def schedule(self) -> None:
        if message := self.message("news", "offer"):
            now = self.scheduler.now()
            message_lifecycle.schedule(message, for_=now + timedelta(seconds=1), at=now)
            self.scheduler.sleep(2)
            sweep.launch_scheduled(at=self.scheduler.now())

    def merge(self) -> None:
        lead, user = Customer.objects.get(pk=self.leads[0].pk), self.customer()
        self.merged |= {lead.pk, user.pk}
        merge.merge(lead, into=user, at=self.scheduler.now())

    def erase(self) -> None:
        known = self.customer()
        self.erased.add(known.pk)
        erase.erase(known, at=self.scheduler.now())

    def import_rows(self) -> None:
        rows = []
        for line in range(2):
            row = dict.fromkeys(COLUMNS) | {
                "line": line,
                "user_id": self.random.choice(("u0", "u1", "new")) if line else "u2",
                "attributes": '{"plan": "pro"}',
                "company_id": "k1",
            }
            rows.append([row[name] for name in COLUMNS])
        with transaction.atomic(), connection.cursor() as cursor:
            upsert_slice(cursor, rows, tag=None, at=self.scheduler.now(), with_relations=True)

    def bounce(self) -> None:
        if record := self.sent_record():
            address = record.customer.email or ""
            suppression.record_hard_bounce(record, address=address, at=self.scheduler.now())

    def unsubscribe(self) -> None:
        if record := self.sent_record():
            links.unsubscribe(record, at=self.scheduler.now())
            owner = DeliveryRecord.objects.get(pk=record.pk).customer_id
            self.unsubscribed.setdefault(owner, self.scheduler.seconds)

    def sent_record(self) -> DeliveryRecord | None:
        """Wait a little for a sent email and return it."""
        for _ in range(5):
            rows = DeliveryRecord.objects.filter(status=Status.SENT, message__channel="email")
            if keys := list(rows.order_by("pk").values_list("pk", flat=True)):
                return DeliveryRecord.objects.get(pk=self.random.choice(keys))
            self.scheduler.sleep(0.2)
        return None

    def change_membership(self) -> None:
        known, company = self.random.choice(self.customers[:3]), self.random.choice(self.companies)
        change: dict[str, Any] = {"company_id": company.company_id}
        if self.random.random() < 0.6:
            change["remove"] = True
        intake.identify({"user_id": known.user_id, "companies": [change]}, at=self.scheduler.now())
        if self.random.random() < 0.2:
            Company.objects.filter(pk=company.pk).update(archived_at=self.scheduler.now())

    def write(self) -> None:
        plan = self.random.choice(("pro", "free"))
        facts = {"user_id": f"u{self.random.randint(0, 9)}", "custom_attributes": {"plan": plan}}
        if self.random.random() < 0.3:
            facts["email"] = f"{self.random.randint(0, 9)}@x.example"
        intake.identify(facts, at=self.scheduler.now())

    def sweep(self) -> None:
        sweep.sweep(at=self.scheduler.now())

    def resolve(self) -> None:
        self.scheduler.sleep(1)
        uncertain.mark_as_sent(DeliveryRecord.objects.all(), at=self.scheduler.now())

    def repair(self) -> None:
        """Do all regular work until nothing is left: what must always be enough after the faults have ended."""
        for _ in range(6):
            with suppress(*CONNECTION_ERRORS):
                sweep.sweep(at=self.scheduler.now())
                rounds.match_ongoing(at=self.scheduler.now())
                self.send()
            left = DeliveryRecord.objects.filter(status__in=(Status.WAITING, Status.SENDING), message__state="live")
            if (
                not left.exclude(reason="visit").exists()
                and not Message.objects.filter(launching_at__isnull=False).exists()
            ):
                return
            self.scheduler.sleep(1_000)
