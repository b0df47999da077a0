"""One schedule: a seeded world, its actors and faults, and the checks during and after it."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from audiences.models import Customer
from delivery.channels import CHANNELS
from delivery.models import DeliveryRecord, Status
from delivery.monitoring import invariants
from messaging.models import Channel, Message, State
from tests.factories import AT
from tests.simulation import environment
from tests.simulation.database import Sessions, Watch
from tests.simulation.scheduler import Actor, NoFaults, Process, Scheduler
from tests.simulation.world import World, empty_database

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
# A waiting record may have these reasons when everything has settled.
MAY_WAIT = {"visit", "paused", "cap", "window"}


@dataclass(eq=False)
class SeededFaults:
    """Kills up to three processes, drops connections and delays actors, at random moments."""

    random: Random
    freezes: int = 3
    drops: int = 2
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rate = self.random.choice((0.0, 0.003, 0.01, 0.03))
        self.freezes = self.random.randint(0, self.freezes)
        self.drops = self.random.randint(0, self.drops)

    def may_freeze(self, _process: Process) -> bool:
        if self.counts["killed"] >= self.freezes or self.random.random() >= self.rate:
            return False
        self.counts["killed"] += 1
        return True

    def may_drop(self, _actor: Actor) -> bool:
        if self.counts["dropped"] >= self.drops or self.random.random() >= self.rate / 2:
            return False
        self.counts["dropped"] += 1
        return True

    def may_delay(self, _actor: Actor) -> bool:
        is_slow = self.random.random() < self.rate
        self.counts["slow"] += is_slow
        return is_slow


@dataclass
class Result:
    """What came of a schedule."""

    seed: int
    actors: int
    steps: int
    digest: str
    faults: Counter[str]
    reached: Counter[str]
    statuses: Counter[str]
    wrong: list[str]
    trace: list[str]


@dataclass
class Schedule:
    """A schedule in an empty database."""

    seed: int
    has_faults: bool = True
    statuses: dict[int, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

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
            on_step=self.check_statuses,
            on_freeze=environment.release_journals,
        )
        self.watch, self.scheduler = watch, scheduler
        sessions = Sessions(scheduler)
        faults = SeededFaults(draw)
        with (
            tempfile.TemporaryDirectory() as folder,
            environment.simulated(scheduler, sessions, seed=self.seed, folder=Path(folder)),
        ):
            world = World(scheduler, sessions, draw)
            before = dict(CHANNELS)
            CHANNELS[Channel.EMAIL], CHANNELS[Channel.PUSH] = world.servers.open_email, world.servers.open_push
            try:
                world.actors()
                count = len(scheduler.actors)
                if self.has_faults:
                    scheduler.faults = faults
                scheduler.run()
                steps, digest = scheduler.steps, scheduler.digest()
                # Now nothing goes wrong any more, and everything has to settle.
                scheduler.faults = NoFaults()
                scheduler.seconds += 1_000
                world.add("repair", world.repair, is_mortal=False)
                scheduler.run()
            except AssertionError as stuck:
                self.wrong.append(f"stuck: {stuck}")
                steps, digest, count = scheduler.steps, scheduler.digest(), len(scheduler.actors)
            finally:
                scheduler.end()
                CHANNELS.update(before)
        self.note_reached(world, scheduler)
        self.wrong += world.wrong
        self.wrong += [f"{a.name}: {a.error!r}" for a in scheduler.actors if a.error is not None]
        if not self.wrong:
            self.check_end(world)
        watch.close()
        statuses = Counter(DeliveryRecord.objects.values_list("status", flat=True))
        return Result(
            self.seed, count, steps, digest, faults.counts, world.reached, statuses, self.wrong, scheduler.trace
        )

    def check_statuses(self, _actor: Actor) -> None:
        """Check that every committed change of a status is allowed."""
        rows = self.watch.session.execute("SELECT id, status FROM delivery_deliveryrecord").fetchall()
        for pk, status in rows:
            before = self.statuses.get(pk)
            if before != status and status not in MAY_BECOME[before]:
                self.wrong.append(f"record {pk} went from {before} to {status}")
        self.statuses = dict(rows)

    def note_reached(self, world: World, scheduler: Scheduler) -> None:
        """Count the interesting states that were reached."""
        trace = scheduler.trace
        reached = world.reached
        frozen_in_flight = [copy for copy in world.servers.in_flight if copy.process.is_frozen]
        reached["killed between hand-over and settlement"] += bool(frozen_in_flight)
        reached["waited for a lock"] += any("waits for a lock" in event for event in trace)
        reached["merge during claim"] += bool(world.merged)

    def check_end(self, world: World) -> None:
        """Check what must be true once everything has settled."""
        records = {record.pk: record for record in DeliveryRecord.objects.select_related("message", "customer")}
        wrong, accepted = self.wrong, world.servers.accepted
        wrong += [f"record {pk} was sent {times} times" for pk, times in accepted.items() if times > 1]
        wrong += [
            f"record {pk} was pushed to {token} {times} times"
            for (pk, token), times in world.servers.accepted_devices.items()
            if times > 1
        ]
        for pk, record in records.items():
            if record.message.channel == Channel.EMAIL:
                has_left = accepted[pk] > 0
                if has_left and record.status not in (Status.SENT, Status.UNCERTAIN):
                    wrong.append(f"record {pk} was accepted and is {record.status} ({record.reason})")
                if record.status == Status.SENT and not has_left and not world.reached["resolved"]:
                    wrong.append(f"record {pk} is sent and no server has it")
            if record.status == Status.SENDING:
                wrong.append(f"record {pk} is still being sent")
            if record.status == Status.WAITING and record.reason not in MAY_WAIT and record.message.state == State.LIVE:
                wrong.append(f"record {pk} still waits ({record.reason}, due {record.due_at})")
        self.check_addresses(world, records)
        self.check_audiences(world, records)
        wrong += list(invariants.find_violations(at=world.scheduler.now()))

    def check_addresses(self, world: World, records: dict[int, DeliveryRecord]) -> None:
        """Check that no address got a message twice."""
        got = Counter(
            (record.message_id, record.address, record.company_id)
            for pk, record in records.items()
            if world.servers.accepted[pk] and record.address
        )
        self.wrong += [f"message {key[0]} went to {key[1]} {times} times" for key, times in got.items() if times > 1]

    def check_audiences(self, world: World, records: dict[int, DeliveryRecord]) -> None:
        """Check that everyone who matches an ongoing email has a record."""
        have = {(record.message_id, record.customer_id) for record in records.values()}
        for message in Message.objects.filter(
            state=State.LIVE, send_type="ongoing", channel=Channel.EMAIL, per_company=False
        ):
            assert message.audience is not None
            (asked,) = message.audience.rules["rules"]
            for one in Customer.objects.filter(role="user", archived_at=None, unsubscribed_from_emails=False):
                value = one.name if asked["attribute"] == "name" else one.attributes.get("plan")
                matches = value == asked["value"]
                reachable = one.email and not one.has_hard_bounced and not one.marked_email_as_spam
                if matches and reachable and (message.pk, one.pk) not in have:
                    self.wrong.append(f"customer {one.pk} matches message {message.pk} and has no record")
