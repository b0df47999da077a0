"""The actors of a schedule: workers, matchers, customers and teammates, each a process with a database connection."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.utils import InterfaceError, OperationalError

from audiences import intake
from audiences.intake.attributes.fields import Refused
from audiences.intake.csv_import.upsert import COLUMNS, upsert_slice
from audiences.models import Company, Customer
from delivery.customers import erase, merge
from delivery.maintenance import sweep
from delivery.matching import launch, launch_job, lifecycle, ongoing, rounds
from delivery.models import DeliveryRecord, Status
from delivery.sending import dispatcher, suppression, uncertain
from delivery.tracking import links
from delivery.visits import visit
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, NotReady, WrongState
from tests.factories import rule
from tests.simulation.database import Sessions
from tests.simulation.processes import Process, current_actor
from tests.simulation.scheduler import Scheduler
from tests.simulation.world import World

# A teammate or a worker that loses its database connection gets one of these; a later try, or the sweep, goes on.
CONNECTION_ERRORS = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
# Refusals that a teammate reads; and rows that another actor erased or merged meanwhile.
REFUSALS = (WrongState, NotReady, Customer.DoesNotExist, DeliveryRecord.DoesNotExist, Refused, intake.Conflict)
# How long a dispatcher works, and how long after that the next one begins, in simulated seconds.
DISPATCH_SECONDS, PAUSE_SECONDS = 15, 50
# In simulated seconds. A pause that took longer gave up waiting (behaviour 4.9).
PAUSE_PATIENCE = 9.0
ONE_OFF_EMAILS = ("news", "offer")
# Not the engine's constant, which a planted fault changes (behaviour 4.7).
CHECK_SECONDS = 900


@dataclass
class Actors:
    """Adds actors to a schedule."""

    world: World
    scheduler: Scheduler
    sessions: Sessions

    def add(self, name: str, work: Callable[[], object], *, is_mortal: bool = True, machine: str = "A") -> Process:
        """Add a process with one actor, which has a database connection."""
        process = Process(name, is_mortal=is_mortal, machine=machine)

        def run() -> None:
            self.sessions.open()
            try:
                work()
            except REFUSALS as no:
                self.world.reached[f"refused: {type(no).__name__}"] += 1
            except CONNECTION_ERRORS:
                if not process.has_lost_connection:
                    raise
                self.world.reached["gave up after a lost connection"] += 1
            finally:
                connection.close()

        self.scheduler.spawn(name, process, run)
        return process

    def add_all(self) -> None:
        """Add the actors of a schedule: workers, and a choice of everything that may happen meanwhile."""
        draw = self.world.random
        has_two_machines = draw.random() < 0.4
        self.workers = [
            self.add(f"worker {number}", self.send_repeatedly, machine=draw.choice("AB") if has_two_machines else "A")
            for number in range(draw.randint(1, 3))
        ]
        work: dict[str, Callable[[], object]] = {
            "matcher": self.match_by_changes,
            "full matcher": self.match_in_full,
            "prompt matcher": self.match_promptly,
            "visitor": self.visit,
            "reader": self.check,
            "second reader": self.check,
            "launcher": self.launch,
            "second launcher": self.launch,
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
            "archiver": self.archive_company,
            "writer": self.write,
            "second writer": self.write,
            "sweeper": self.sweep,
            "resolver": self.mark_as_sent,
            "repeater": self.send_again,
            "operator": self.stop_worker,
        }
        for name in draw.sample(sorted(work), draw.randint(4, 7)):
            self.add(name, self.delayed(work[name], seconds=draw.choice((0.0, 0.5, 1.5))))

    def delayed(self, work: Callable[[], object], *, seconds: float) -> Callable[[], object]:
        """Return work that begins later: many things happen while copies are being sent."""

        def run() -> object:
            self.scheduler.sleep(seconds)
            return work()

        return run

    # Workers

    def send(self) -> None:
        now = self.scheduler.now
        dispatcher.dispatch(clock=now, until=now() + timedelta(seconds=DISPATCH_SECONDS))

    def send_repeatedly(self) -> None:
        self.send()
        self.scheduler.sleep(PAUSE_SECONDS)
        self.send()

    def stop_worker(self) -> None:
        """Ask a worker process to end, as SIGTERM does."""
        self.scheduler.sleep(0.1)
        chosen = self.world.random.choice(self.workers)
        chosen.memory.setdefault("stop_signals", []).append(15)

    def match_by_changes(self) -> None:
        rounds.match_ongoing(at=self.scheduler.now())

    def match_promptly(self) -> None:
        for _ in range(2):
            rounds.run_prompt_round(at=self.scheduler.now())
            self.scheduler.sleep(0.3)

    def match_in_full(self) -> None:
        if message := self.world.message("welcome", "company"):
            ongoing.match(message, at=self.scheduler.now())

    def sweep(self) -> None:
        sweep.sweep(at=self.scheduler.now())

    # Customers

    def visit(self) -> None:
        known = self.world.customer()
        if known.archived_at is None:
            self.world.reached["a visit showed a message"] += bool(visit.visit(known, at=self.scheduler.now()).shown)

    def check(self) -> None:
        world, at = self.world, self.scheduler.now()
        known = Customer.objects.get(pk=world.random.choice(world.customers[:2]))
        seconds = self.scheduler.seconds
        if visit.check(known, at=at) is None:
            before = world.checked.get(known.pk)
            if before is not None and abs(seconds - before) < CHECK_SECONDS:
                world.fail(f"customer {known.pk} was matched twice within 15 minutes")
            world.checked[known.pk] = seconds
        else:
            world.reached["a second GET did not match"] += 1

    def bounce(self) -> None:
        if record := self.sent_record():
            address = record.address or ""
            if suppression.record_hard_bounce(record, address=address, at=self.scheduler.now()) and address:
                self.world.opted_out.setdefault(address, self.scheduler.seconds)

    def unsubscribe(self) -> None:
        if record := self.sent_record():
            links.unsubscribe(record, at=self.scheduler.now())
            now = self.scheduler.seconds
            rows = self.world.watch.rows("SELECT customer_id FROM delivery_deliveryrecord WHERE id = %s", [record.pk])
            self.world.opted_out.setdefault(rows[0][0], now)
            if record.address:
                self.world.opted_out.setdefault(record.address, now)

    def sent_record(self) -> DeliveryRecord | None:
        """Wait a little for a sent email and return it."""
        for _ in range(4):
            rows = DeliveryRecord.objects.filter(status=Status.SENT, message__channel="email")
            if keys := list(rows.order_by("pk").values_list("pk", flat=True)):
                return DeliveryRecord.objects.get(pk=self.world.random.choice(keys))
            self.scheduler.sleep(0.3)
        return None

    # Data

    @contextmanager
    def changing(self, *customers: int) -> Iterator[None]:
        """Note that the facts of customers change during the block."""
        for pk in customers:
            self.world.changed[pk] = float("inf")
        yield
        for pk in customers:
            self.world.changed[pk] = self.scheduler.seconds

    def write(self) -> None:
        world, draw = self.world, self.world.random
        number = draw.randint(0, 7)
        facts: dict[str, Any] = {"user_id": f"u{number}"}
        facts["custom_attributes"] = {"plan": draw.choice(("pro", "free"))}
        if draw.random() < 0.2:
            facts["email"] = f"{draw.randint(0, 9)}@x.example"
        with self.changing(*world.customers[number : number + 1]):
            intake.identify(facts, at=self.scheduler.now())

    def import_rows(self) -> None:
        rows = []
        for line in range(2):
            row = dict.fromkeys(COLUMNS) | {
                "line": line,
                "user_id": self.world.random.choice(("u0", "u1", "new")) if line else "u2",
                "attributes": '{"plan": "pro"}',
                "company_id": "k1",
            }
            rows.append([row[name] for name in COLUMNS])
        with self.changing(*self.world.customers[:2]):
            for customer in self.world.customers[:2]:
                # They become members again.
                self.world.left.pop((customer, self.world.companies["k1"]), None)
            with transaction.atomic(), connection.cursor() as cursor:
                upsert_slice(cursor, rows, tag=None, at=self.scheduler.now(), with_relations=True)

    def change_membership(self) -> None:
        world, draw = self.world, self.world.random
        customer = draw.choice(world.customers[:2])
        name = draw.choice(sorted(world.companies))
        change: dict[str, Any] = {"company_id": name}
        pair = customer, world.companies[name]
        if draw.random() < 0.7:
            change["remove"] = True
        else:
            world.left.pop(pair, None)
        number = world.customers.index(customer)
        intake.identify({"user_id": f"u{number}", "companies": [change]}, at=self.scheduler.now())
        # An import may have made the customer a member again meanwhile.
        is_member = world.watch.rows(
            "SELECT FROM audiences_membership WHERE customer_id = %s AND company_id = %s", list(pair)
        )
        if not is_member:
            world.left[pair] = self.scheduler.seconds

    def archive_company(self) -> None:
        pk = self.world.random.choice(sorted(self.world.companies.values()))
        Company.objects.filter(pk=pk).update(archived_at=self.scheduler.now())
        self.world.archived[pk] = self.scheduler.seconds

    def merge(self) -> None:
        world = self.world
        lead, user = Customer.objects.get(pk=world.lead), world.customer()
        with self.changing(lead.pk, user.pk), self.among_copies("a merge", lead.pk, user.pk):
            merge.merge(lead, into=user, at=self.scheduler.now())
        world.merged |= {lead.pk, user.pk}

    def erase(self) -> None:
        known = self.world.customer()
        with self.changing(known.pk), self.among_copies("an erasure", known.pk):
            erase.erase(known, at=self.scheduler.now())
        self.world.erased[known.pk] = self.scheduler.seconds

    @contextmanager
    def among_copies(self, event: str, *customers: int) -> Iterator[None]:
        """Note whether copies of customers were being sent during the block."""
        asked = "SELECT count(*) FROM delivery_deliveryrecord WHERE status = 'sending' AND customer_id = ANY(%s)"
        before = self.world.watch.rows(asked, [list(customers)])[0][0]
        yield
        after = self.world.watch.rows(asked, [list(customers)])[0][0]
        self.world.reached[f"{event} of a claimed record"] += bool(before or after)

    # Teammates

    def launch(self) -> None:
        world = self.world
        message = world.message(*ONE_OFF_EMAILS, "push", "notice")
        assert message is not None
        if world.random.random() < 0.5:
            launch.launch(message, at=self.scheduler.now())
        else:
            launch_job.request_launch(message, at=self.scheduler.now())
            launch_job.launch(message.pk, at=self.scheduler.now())
        world.reached["launched"] += 1

    def sample_and_rest(self) -> None:
        message = self.world.message(*ONE_OFF_EMAILS)
        assert message is not None
        launch.launch(message, at=self.scheduler.now(), sample=2)
        self.scheduler.sleep(self.world.random.choice((0.1, 5.0)))
        launch.send_to_rest(Message.objects.get(pk=message.pk), at=self.scheduler.now())
        self.world.reached["sent to the rest of a sample"] += 1

    def schedule(self) -> None:
        message = self.world.message(*ONE_OFF_EMAILS)
        assert message is not None
        now = self.scheduler.now()
        message_lifecycle.schedule(message, for_=now + timedelta(seconds=1), at=now)
        self.scheduler.sleep(2)
        sweep.launch_scheduled(at=self.scheduler.now())

    def pause_and_resume(self) -> None:
        message = self.world.message(*self.world.messages)
        assert message is not None
        with self.pausing(message):
            lifecycle.pause(message)
        self.scheduler.sleep(self.world.random.choice((0.05, 1.0, 10.0)))
        self.resume(message.pk)

    def resume(self, pk: int) -> None:
        with transaction.atomic():
            message_lifecycle.resume(Message.objects.get(pk=pk), at=self.scheduler.now())
            # From the moment of the commit it may go on.
            self.world.paused.discard(pk)
            self.world.resumed[pk] = self.scheduler.seconds

    def stop(self) -> None:
        message = self.world.message(*self.world.messages)
        assert message is not None
        with self.pausing(message):
            lifecycle.stop(message)

    @contextmanager
    def pausing(self, message: Message) -> Iterator[None]:
        """Note that a message is being paused, and afterwards check that none of its copies is on its way."""
        world, began = self.world, self.scheduler.seconds
        world.pausing.add(message.pk)
        world.reached["a pause during a hand-over"] += any(
            self.message_of(copy.record) == message.pk for copy in world.servers.in_flight
        )
        try:
            yield
        finally:
            world.pausing.discard(message.pk)
        actor = current_actor()
        assert actor is not None
        world.paused.add(message.pk)
        if self.scheduler.seconds - began >= PAUSE_PATIENCE or actor.process.has_lost_connection:
            world.loose.add(message.pk)
            world.reached["a pause gave up waiting"] += 1
            return
        for copy in world.servers.in_flight:
            is_alive = not (copy.process.is_frozen or copy.process.has_lost_connection)
            if is_alive and self.message_of(copy.record) == message.pk:
                world.fail(f"record {copy.record} was on its way when the pause of {message} returned")

    def message_of(self, record: int) -> int:
        rows = self.world.watch.rows("SELECT message_id FROM delivery_deliveryrecord WHERE id = %s", [record])
        return int(rows[0][0])

    def edit(self) -> None:
        message = self.world.message(*self.world.messages)
        assert message is not None
        words = {"subject": "New {{ first_name }}", "body": message.version.body if message.version else "<p>New</p>"}
        authoring.revise(message, **words, by=None, at=self.scheduler.now())

    def edit_rules(self) -> None:
        message = self.world.message("welcome")
        assert message is not None
        with self.pausing(message):
            lifecycle.pause(message)
        name = self.world.random.choice(("Ada", "Bob"))
        rules = {"match": "all", "rules": [rule("name", "is", name)]}
        authoring.change_audience(Message.objects.get(pk=message.pk), rules=rules, by=None, at=self.scheduler.now())
        self.world.rules[message.pk] = "name", name
        self.resume(message.pk)

    def mark_as_sent(self) -> None:
        self.scheduler.sleep(1)
        uncertain.mark_as_sent(DeliveryRecord.objects.all(), at=self.scheduler.now())

    def send_again(self) -> None:
        for _ in range(2):
            self.scheduler.sleep(self.world.random.choice((1, 30, 350)))
            uncertain.send_again(DeliveryRecord.objects.all(), at=self.scheduler.now())

    # After the faults

    def repair(self) -> None:
        """Do all regular work until nothing is left: what must always be enough after the faults have ended."""
        self.world.servers.is_healthy = True
        for _ in range(6):
            sweep.sweep(at=self.scheduler.now())
            rounds.match_ongoing(at=self.scheduler.now())
            self.send()
            left = DeliveryRecord.objects.filter(status__in=(Status.WAITING, Status.SENDING), message__state="live")
            if (
                not left.exclude(reason__in=("visit", "window", "cap")).exists()
                and not Message.objects.filter(launching_at__isnull=False).exists()
            ):
                return
            self.scheduler.sleep(1_000)
