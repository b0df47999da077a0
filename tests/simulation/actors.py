"""The actors of a schedule: workers, matchers, customers and teammates, each a process with a database connection."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from django.db import connection, transaction

from audiences import intake
from audiences.intake.attributes.fields import raise_refusal
from audiences.intake.csv_import.upsert import COLUMNS, upsert_slice
from audiences.models import Company, Customer
from audiences.transactions import retried
from delivery.customers import erase, merge
from delivery.maintenance import sweep
from delivery.matching import ongoing, rounds
from delivery.models import DeliveryRecord, Status
from delivery.sending import dispatcher, suppression, uncertain
from delivery.tracking import links
from delivery.visits import visit
from messaging.models import Message
from tests.simulation.processes import Catch, Process
from tests.simulation.staff import Beginning, Staff

T = TypeVar("T")

# How long a dispatcher works, and how long after that the next one may begin, in simulated seconds.
DISPATCH_SECONDS, PAUSES = 10, (1.0, 40.0)
NEW_RECORDS = "INSERT INTO delivery_deliveryrecord"
# Actors that can get into each other's way. Each schedule has at least one of these pairs, and often the second one
# begins during a transaction of the first one, while the first one is held at this gate, or at this moment.
PAIRS: tuple[tuple[str, str, str | Beginning], ...] = (
    ("reader", "second reader", "COMMIT"),
    ("launcher", "second launcher", "COMMIT"),
    ("sampler", "launcher", "COMMIT"),
    ("full matcher", "round pauser", NEW_RECORDS),
    ("full matcher", "round pauser", NEW_RECORDS),
    ("full matcher", "visitor", NEW_RECORDS),
    ("full matcher", "reader", NEW_RECORDS),
    ("full matcher", "rule editor", NEW_RECORDS),
    ("visitor", "visit pauser", "COMMIT"),
    ("visitor", "visit pauser", "COMMIT"),
    ("eraser", "importer", "COMMIT"),
    ("launcher", "eraser", Beginning.DURING_A_HAND_OVER),
    ("launcher", "eraser", Beginning.DURING_A_HAND_OVER),
    ("writer", "matcher", "COMMIT"),
    ("writer", "prompt matcher", "COMMIT"),
    ("merger", "full matcher", "COMMIT"),
    ("push stopper", "sweeper", ""),
    ("stand-in", "writer", ""),
    ("stand-in", "resolver", ""),
    ("killer", "sweeper", ""),
    ("killer", "round pauser", ""),
)
# How long an actor is held at its gate at most, in simulated seconds; shorter than the patience of a pause.
HELD_FOR = 4.0
# Where a worker is held until another one sends: that one claims meanwhile, and counts the same customers for the cap.
CLAIMS = "UPDATE delivery_deliveryrecord r SET status = 'sending'"
# When the others begin.
MOMENTS = (Beginning.AT_ONCE, Beginning.LATER, Beginning.DURING_A_HAND_OVER, Beginning.DURING_A_TRANSACTION)
# How many actors there are at least, besides the threads that send.
FEWEST = 5
# How long a worker is stopped, and after how much of it its lease has expired (behaviour 5), in simulated seconds.
STOPPED_FOR, EXPIRED_AFTER = 400.0, 310.0
# Not the engine's constant, which a planted fault changes (behaviour 4.7).
CHECK_SECONDS = 900


class Actors(Staff):
    """Adds the actors of a schedule."""

    def add_all(self) -> None:
        """Add the actors of a schedule: workers, and a choice of everything that may happen meanwhile."""
        draw = self.world.random
        has_two_machines = draw.random() < 0.5
        self.workers = [
            self.add(f"worker {number}", self.send_repeatedly, machine=draw.choice("AB") if has_two_machines else "A")
            for number in range(draw.choice((2, 3) if self.world.cap else (1, 2, 2, 3)))
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
            "objector": self.opt_out,
            "round pauser": self.pause_during_round,
            "visit pauser": self.pause_during_visit,
            "member": self.change_membership,
            "archiver": self.archive_company,
            "writer": self.write,
            "second writer": self.write,
            "sweeper": self.sweep,
            "resolver": self.mark_as_sent,
            "repeater": self.send_again,
            "operator": self.stop_worker,
            "push stopper": self.stop_push,
            "stand-in": self.stand_in,
            "killer": self.kill_worker,
        }
        first, second, worst = draw.choice(PAIRS)
        chosen = [first, second]
        chosen += draw.sample(sorted(work.keys() - set(chosen)), draw.randint(0, 2))
        if draw.random() < 0.6:
            # So that there is something to send.
            self.add("first launcher", self.launch)
        if missing := max(0, FEWEST - len(self.scheduler.actors) - len(chosen)):
            chosen += draw.sample(sorted(work.keys() - set(chosen)), missing)
        first_begins = draw.choice(MOMENTS)
        begins, partner = draw.choice(MOMENTS), ""
        if worst and draw.random() < 0.5:
            begins, partner, first_begins = Beginning.DURING_A_CATCH, first, Beginning.AT_ONCE
            if isinstance(worst, Beginning):
                begins = worst
            else:
                self.scheduler.catches[first] = Catch(worst, lambda _since: second in self.world.done, HELD_FOR)
        elif draw.random() < 0.5:
            begins, partner = Beginning.DURING_A_TRANSACTION, first
        if len(self.workers) > 1 and draw.random() < (0.8 if self.world.cap else 0.5):
            catch = Catch(CLAIMS, lambda since: self.others_send(catch, since), HELD_FOR)
            self.scheduler.catches |= dict.fromkeys((str(worker) for worker in self.workers), catch)
        self.add(second, self.delayed(second, work[second], begins=begins, partner=partner))
        self.add(first, self.delayed(first, work[first], begins=first_begins))
        for name in chosen[2:]:
            self.add(name, self.delayed(name, work[name], begins=draw.choice(MOMENTS)))

    # Workers

    def send(self) -> None:
        now = self.scheduler.now
        dispatcher.dispatch(clock=now, until=now() + timedelta(seconds=DISPATCH_SECONDS))

    def send_repeatedly(self) -> None:
        self.send()
        if self.world.random.random() < 0.25:
            self.scheduler.sleep(self.world.random.choice(PAUSES))
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
        for _ in range(2):
            sweep.sweep(at=self.scheduler.now())
            self.scheduler.sleep(self.world.random.choice((0.1, 1.0, 200.0)))

    def others_send(self, catch: Catch, since: float) -> bool:
        """Return whether another worker than the one that is held has begun a copy since then."""
        begun, held = self.world.servers.begun, catch.caught.process if catch.caught else None
        return any(copy.seconds > since and copy.process is not held for copy in begun)

    def busy_workers(self) -> list[Process]:
        """Return the workers with a copy on its way."""
        return [one for one in self.workers if one in {copy.process for copy in self.world.servers.in_flight}]

    def kill_worker(self) -> None:
        """Kill a worker with a copy on its way."""
        self.wait_until(lambda: bool(self.busy_workers()))
        if busy := self.busy_workers():
            self.world.random.choice(busy).is_doomed = True

    def stand_in(self) -> None:
        """Stop a worker for so long that it loses its lease, and do its work meanwhile."""
        world, scheduler = self.world, self.scheduler
        self.wait_until(lambda: bool(self.busy_workers()))
        if not (busy := self.busy_workers()):
            return
        stopped = world.random.choice(busy)
        scheduler.note(f"{stopped} is stopped for {STOPPED_FOR:g} s")
        stopped.stopped_until = scheduler.seconds + STOPPED_FOR
        scheduler.sleep(EXPIRED_AFTER)
        sweep.sweep(at=scheduler.now())
        world.reached["a worker lost its lease"] += 1
        if world.random.random() < 0.5:
            uncertain.send_again(DeliveryRecord.objects.all(), at=scheduler.now())
        self.send()

    def run_slowly(self, work: Callable[[], T]) -> T:
        """Run work in a transaction, in which what follows may take a while."""
        seconds = self.world.random.choice((0.0, 0.0, 0.5, 2.0))

        @retried
        def run() -> T:
            done = work()
            if seconds:
                self.scheduler.sleep(seconds)
            return done

        return run()

    # Customers

    def visit(self) -> None:
        world = self.world
        for pk in world.random.sample(world.customers, 3):
            known = Customer.objects.get(pk=pk)
            if known.archived_at is None:
                visited = self.run_slowly(functools.partial(visit.visit, known, at=self.scheduler.now()))
                world.reached["a visit showed a message"] += bool(visited.shown)

    def check(self) -> None:
        """Ask for the conversations twice: the second request must not match."""
        self.check_once()
        self.check_once()

    def check_once(self) -> None:
        world, at = self.world, self.scheduler.now()
        known = Customer.objects.get(pk=world.random.choice(world.customers[:2]))
        seconds = self.scheduler.seconds
        again_at = visit.check(known, at=at)
        if again_at is None:
            before = world.checked.get(known.pk)
            if before is not None and abs(seconds - before) < CHECK_SECONDS:
                world.fail(f"customer {known.pk} was matched twice within 15 minutes")
            world.checked[known.pk] = seconds
        elif again_at == at:
            # Another transaction holds a key of the customer: the answer comes without matching, which does not count.
            world.reached["a GET did not wait for a round"] += 1
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

    def opt_out(self) -> None:
        """State an opt-out over the API."""
        known = self.world.customer()
        intake.identify({"id": str(known.pk), "unsubscribed_from_emails": True}, at=self.scheduler.now())
        self.world.opted_out.setdefault(known.pk, self.scheduler.seconds)

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
        is_new = number >= len(world.customers)
        facts: dict[str, Any] = {"user_id": f"u{number}"}
        facts["custom_attributes"] = {"plan": draw.choice(("pro", "pro", "free"))}
        if is_new or draw.random() < 0.2:
            facts["email"] = f"{number if is_new else draw.randint(0, 9)}@x.example"
        with self.changing(*world.customers[number : number + 1]):
            self.run_slowly(lambda: intake.identify(facts, at=self.scheduler.now()))

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
        with self.changing(*self.world.customers[:3]):
            for customer in self.world.customers[:3]:
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
        facts = {"user_id": f"u{world.customers.index(user.pk)}"}
        with self.changing(lead.pk, user.pk), self.among_copies("a merge", lead.pk, user.pk), transaction.atomic():
            merged = merge.log_in(
                lead, facts, at=self.scheduler.now(), source=intake.Source.REST, on_bad_value=raise_refusal
            )
        # If the user was erased meanwhile, the lead itself becomes a user.
        if merged.pk != lead.pk:
            world.merged |= {lead.pk, merged.pk}

    def erase(self) -> None:
        world = self.world
        # With a copy that has begun, the address is stored for good.
        begun = sorted({world.owners[copy.record][1] for copy in world.servers.in_flight} & set(world.customers))
        has_begun = begun and world.random.random() < 0.7
        known = Customer.objects.get(pk=world.random.choice(begun)) if has_begun else world.customer()
        with self.changing(known.pk), self.among_copies("an erasure", known.pk):
            erase.erase(known, at=self.scheduler.now())
        world.erased[known.pk] = self.scheduler.seconds

    @contextmanager
    def among_copies(self, event: str, *customers: int) -> Iterator[None]:
        """Note whether copies of customers were being sent during the block."""
        asked = "SELECT count(*) FROM delivery_deliveryrecord WHERE status = 'sending' AND customer_id = ANY(%s)"
        before = self.world.watch.rows(asked, [list(customers)])[0][0]
        yield
        after = self.world.watch.rows(asked, [list(customers)])[0][0]
        self.world.reached[f"{event} of a claimed record"] += bool(before or after)

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
