"""One schedule: a seeded world, its actors and faults, and the checks during and after it."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from audiences.models import Customer
from delivery.channels import CHANNELS
from delivery.models import IN_AN_INBOX, DeliveryRecord, DeviceCopy, MissedMatch, Reason, Status
from delivery.monitoring import invariants
from messaging.models import Channel, Message, State
from tests.factories import AT
from tests.simulation import environment
from tests.simulation.actors import Actors
from tests.simulation.database import Sessions, Watch, empty_database
from tests.simulation.processes import Actor, Process
from tests.simulation.scheduler import NoFaults, Scheduler
from tests.simulation.world import BEGINNING, ONGOING, World

# Breaks a guard of the engine for a while.
Fault = Callable[[], AbstractContextManager[object]]
# Gates at which an actor is often slow.
WRITES = ("COMMIT", "INSERT", "UPDATE")
# A waiting record may have these reasons when everything has settled.
MAY_WAIT = {"visit", "paused", "cap", "window"}
# Customers keep these records when they are merged into another one.
MAY_STAY = {"skipped", "failed", "withdrawn"}


@dataclass(eq=False)
class SeededFaults:
    """Kills and stops processes, drops connections and delays actors, at random moments."""

    random: Random
    counts: Counter[str] = field(default_factory=Counter)
    # The processes with a copy on its way: there a fault matters most.
    busy: Callable[[], set[Process]] = set

    def __post_init__(self) -> None:
        draw = self.random
        self.rate = draw.choice((0.0, 0.003, 0.01, 0.03))
        self.left = {"killed": draw.randint(0, 3), "dropped": draw.randint(0, 2), "stopped": draw.randint(0, 2)}
        self.left["slow"] = 30
        # Much may happen between a look and a write, and between a write and its commit.
        self.write_rate = draw.choice((0.0, 0.1, 0.3))
        # A dispatcher that is slow all the time, while its threads send.
        self.sluggish = draw.choice(("worker 0", "", ""))

    def may_happen(self, name: str, rate: float) -> bool:
        if self.counts[name] >= self.left[name] or self.random.random() >= rate:
            return False
        self.counts[name] += 1
        return True

    def may_freeze(self, process: Process) -> bool:
        return self.may_happen("killed", self.rate * (4 if process in self.busy() else 1))

    def may_drop(self, _actor: object) -> bool:
        return self.may_happen("dropped", self.rate / 2)

    def may_delay(self, actor: Actor) -> bool:
        if actor.gate.startswith(WRITES):
            return self.may_happen("slow", self.write_rate)
        return self.may_happen("slow", 0.15 if actor.name == self.sluggish else self.rate)

    def may_stop(self, process: Process) -> bool:
        return self.may_happen("stopped", self.rate * (3 if process in self.busy() else 0.5))


@dataclass
class Result:
    """What came of a schedule."""

    seed: int
    actors: int
    # Scheduling points before and after the faults ended.
    steps: int
    all_steps: int
    digest: str
    reached: Counter[str]
    wrong: list[str]
    trace: list[str]

    def difference_from(self, again: "Result") -> str:
        """Return the first event that differs in the trace of the same seed; "" if there is none."""
        if self.digest == again.digest:
            return ""
        for place, (one, other) in enumerate(zip(self.trace, again.trace, strict=False)):
            if one != other:
                before = " / ".join(event[:60] for event in self.trace[max(0, place - 3) : place])
                return f"the traces differ from event {place}: {one[:150]} / {other[:150]} (after {before})"
        return f"one trace has {len(self.trace)} events, the other {len(again.trace)}"


@dataclass
class Schedule:
    """A schedule in an empty database."""

    seed: int
    # What is broken in the engine, if anything.
    fault: Fault = nullcontext

    def run(self) -> Result:
        """Run it to its end and check everything."""
        draw = Random(self.seed)  # noqa: S311 - reproducible
        empty_database()
        watch = Watch()
        scheduler = Scheduler(
            random=draw,
            start=AT,
            locks=watch,
            swap=environment.swap_memory,
            on_freeze=environment.release_journals,
        )
        sessions = Sessions(scheduler, watch)
        faults = SeededFaults(draw)
        with (
            tempfile.TemporaryDirectory() as folder,
            environment.simulated(scheduler, sessions, seed=self.seed, folder=Path(folder)) as begin,
        ):
            world = World(scheduler, watch, draw)
            # Only the first world of its kind is created, which takes random numbers.
            begin()
            scheduler.on_commit = world.check_statuses
            before = dict(CHANNELS)
            CHANNELS[Channel.EMAIL], CHANNELS[Channel.PUSH] = world.servers.open_email, world.servers.open_push
            faults.busy = lambda: {copy.process for copy in world.servers.in_flight}
            actors = Actors(world, scheduler, sessions)
            count = steps = 0
            broken = ExitStack()
            try:
                broken.enter_context(self.fault())
                actors.add_all()
                count = len(scheduler.actors)
                scheduler.faults = faults
                scheduler.run()
                steps = scheduler.steps
                # Now nothing goes wrong any more, and everything has to settle.
                scheduler.faults, scheduler.is_calm = NoFaults(), True
                scheduler.seconds += 1_000
                actors.add("repair", actors.repair, is_mortal=False)
                scheduler.run()
            except AssertionError as stuck:
                world.fail(f"stuck: {stuck}")
            finally:
                # Before the threads of killed processes end.
                is_killed = any(copy.process.is_frozen for copy in world.servers.in_flight)
                world.reached["killed between hand-over and settlement"] += is_killed
                scheduler.end()
                broken.close()
                CHANNELS.update(before)
        world.wrong += [f"{a.name}: {a.error!r}" for a in scheduler.actors if a.error is not None]
        if not world.wrong:
            Checks(world).run()
        self.note_reached(world, faults)
        watch.close()
        return Result(
            self.seed,
            count,
            steps or scheduler.steps,
            scheduler.steps,
            scheduler.digest(),
            +world.reached,
            world.wrong,
            scheduler.trace,
        )

    def note_reached(self, world: World, faults: SeededFaults) -> None:
        """Count the interesting states that were reached."""
        reached, trace = world.reached, world.scheduler.trace
        for name, times in faults.counts.items():
            reached[name] += times
        reached["waited for a lock"] += any(event.endswith("waits for a lock") for event in trace)
        reached["a wait for a lock timed out"] += any(event.endswith("no longer") for event in trace)
        reached["a visit did not wait for a round"] += "visitor waits for a lock no longer" in trace
        for status, reason in DeliveryRecord.objects.values_list("status", "reason"):
            reached[f"{status}: {reason}" if reason else status] += 1


def has_told_all(worker: Process, processes: Iterable[Process]) -> bool:
    """Return whether the journal of a worker told the sweep which of its copies had begun.

    The sweep runs on machine A. The lease of a worker that is stopped, or has lost the database, may expire first: then
    all that it has claimed is uncertain. So may that of a dead one, if a reader of its journal is stopped.
    """
    stopped = {process for process in processes if process.stopped_until}
    is_read = not any(reader.has_read_journals for reader in stopped)
    return worker.machine == "A" and is_read and worker not in stopped and not worker.has_lost_connection


@dataclass
class Checks:
    """What must be true once everything has settled."""

    world: World

    def run(self) -> None:
        world = self.world
        records = {record.pk: record for record in DeliveryRecord.objects.select_related("message", "customer")}
        self.check_records(records)
        self.check_addresses(records)
        self.check_audiences(records)
        self.check_people(records)
        self.check_cap(records)
        self.check_pushes(records)
        for missed in MissedMatch.objects.all():
            world.fail(f"rounds missed customer {missed.customer_id} for message {missed.message_id}")
        world.wrong += list(invariants.find_violations(at=world.scheduler.now()))

    def check_records(self, records: dict[int, DeliveryRecord]) -> None:
        """Check that each copy has the outcome that its server knows."""
        world = self.world
        accepted = world.servers.accepted
        begun = {copy.record for copy in world.servers.begun}
        processes = {actor.process for actor in world.scheduler.actors}
        for pk, record in records.items():
            if record.message.channel == Channel.EMAIL:
                has_left = accepted[pk] > 0
                if has_left and record.status not in (Status.SENT, Status.UNCERTAIN) and not world.repeated[pk]:
                    world.fail(f"record {pk} was accepted and is {record.status} ({record.reason})")
                if record.status == Status.SENT and not has_left and pk not in world.resolved:
                    world.fail(f"record {pk} is sent and no server has it")
            if record.status == Status.SENDING:
                world.fail(f"record {pk} is still being sent")
            if record.status == Status.UNCERTAIN and pk not in begun and has_told_all(world.claimers[pk], processes):
                world.fail(f"record {pk} is uncertain although no worker began it")
            if record.status == Status.WAITING:
                if record.message.state == State.STOPPED:
                    world.fail(f"record {pk} of a stopped message still waits")
                if record.reason not in MAY_WAIT and record.message.state == State.LIVE:
                    world.fail(f"record {pk} still waits ({record.reason}, due {record.due_at})")

    def check_addresses(self, records: dict[int, DeliveryRecord]) -> None:
        """Check that no address got a message twice, and that no pair of customer and company has two records."""
        got = Counter(
            (record.message_id, record.address, record.company_id)
            for pk, record in records.items()
            if self.world.servers.accepted[pk] and record.address
        )
        self.world.wrong += [f"message {key[0]} went to {key[1]} {n} times" for key, n in got.items() if n > 1]
        pairs = Counter((record.message_id, record.customer_id, record.company_id) for record in records.values())
        self.world.wrong += [f"message {key[0]} has {n} records of {key[1]}" for key, n in pairs.items() if n > 1]

    def check_audiences(self, records: dict[int, DeliveryRecord]) -> None:
        """Check that everyone who matches has a record, and that a one-off has no others."""
        world = self.world
        have = {(record.message_id, record.customer_id) for record in records.values()}
        people = list(Customer.objects.filter(role="user", archived_at=None))
        for message in Message.objects.filter(channel=Channel.EMAIL, per_company=False).exclude(went_live_at=None):
            attribute, value = world.rules.get(message.pk, ("", ""))
            is_ongoing = message.title in ONGOING
            if is_ongoing and message.state != State.LIVE:
                continue
            if not is_ongoing and message.sample_size is not None and message.rest_sent_at is None:
                continue
            for one in people:
                known = {"plan": one.attributes.get("plan"), "name": one.name, "": ""}[attribute]
                has = (message.pk, one.pk) in have
                reachable = one.email and not one.unsubscribed_from_emails and not one.has_hard_bounced
                if is_ongoing and known == value and reachable and not has:
                    world.fail(f"customer {one.pk} matches {message.title} and has no record")
                # Facts that never changed held at the launch, too.
                was_constant = one.pk in world.customers and world.changed.get(one.pk, BEGINNING) <= BEGINNING
                if not is_ongoing and was_constant and has != (known == value):
                    world.fail(f"customer {one.pk} and the one-off {message.title}: has a record: {has}")

    def check_people(self, records: dict[int, DeliveryRecord]) -> None:
        """Check merged and erased customers."""
        world = self.world
        for pk, record in records.items():
            if record.address and record.customer_id in world.erased:
                world.fail(f"record {pk} of an erased customer has the address {record.address}")
            if world.merged and record.customer_id == world.lead and record.status not in MAY_STAY:
                world.fail(f"record {pk} of a merged lead is {record.status}")
        for one in Customer.objects.filter(pk__in=world.erased):
            if one.email or one.name or one.user_id:
                world.fail(f"customer {one.pk} is erased and still has {one.email}, {one.name}")

    def check_pushes(self, records: dict[int, DeliveryRecord]) -> None:
        """Check that a push that a device has counts as sent."""
        for pk in DeviceCopy.objects.values_list("record", flat=True).distinct():
            record = records.get(pk)
            if record and record.status in (Status.WITHDRAWN, Status.SKIPPED) and record.reason != Reason.MERGED:
                self.world.fail(f"a device has the push {pk}, and it is {record.status} ({record.reason})")

    def check_cap(self, records: dict[int, DeliveryRecord]) -> None:
        """Check that no customer got more messages than the cap allows."""
        world = self.world
        if world.cap is None:
            return
        had = Counter(record.customer_id for record in records.values() if record.status in IN_AN_INBOX)
        for customer, times in had.items():
            if times > world.cap and customer not in world.merged:
                world.fail(f"customer {customer} got {times} messages and the cap is {world.cap}")
