"""What every actor has, and the work of teammates: launches, pauses, edits, and the settlement of doubts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

import psycopg
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.utils import InterfaceError, OperationalError

from audiences import intake
from audiences.intake.attributes.fields import Refused
from audiences.models import Customer
from delivery.maintenance import sweep
from delivery.matching import launch, launch_job, lifecycle
from delivery.models import DeliveryRecord
from delivery.sending import uncertain
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
REFUSALS = (
    *(WrongState, NotReady, ValidationError, Refused, intake.Conflict),
    *(Customer.DoesNotExist, DeliveryRecord.DoesNotExist),
)
# In simulated seconds. A pause that took longer gave up waiting (behaviour 4.9).
PAUSE_PATIENCE = 9.0
# How long an actor waits for something that it wants to meet, in simulated seconds.
PATIENCE = 3.0
ONE_OFF_EMAILS = ("news", "offer")


class Beginning(Enum):
    """When an actor begins."""

    AT_ONCE = auto()
    LATER = auto()
    # While a copy is on its way, or while another actor has an open transaction that has written or locked something.
    DURING_A_HAND_OVER = auto()
    DURING_A_TRANSACTION = auto()
    # While its partner is held at the gate where it is most easily disturbed.
    DURING_A_CATCH = auto()


@dataclass
class Crew:
    """Adds actors to a schedule: each is a process with a database connection."""

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

    def delayed(
        self, name: str, work: Callable[[], object], *, begins: Beginning, partner: str = ""
    ) -> Callable[[], object]:
        """Return work that begins at a certain moment; with a partner, during a transaction of this actor."""

        def run() -> object:
            if begins is Beginning.LATER:
                self.scheduler.sleep(0.5)
            elif begins is Beginning.DURING_A_HAND_OVER:
                self.wait_until(lambda: bool(self.world.servers.in_flight))
                self.scheduler.sleep(self.world.random.choice((0.0, 0.02, 0.2)))
            elif begins is Beginning.DURING_A_TRANSACTION:
                self.wait_until(lambda: any(one.matters and partner in ("", one.name) for one in self.scheduler.living))
            elif begins is Beginning.DURING_A_CATCH:
                self.wait_until(lambda: self.scheduler.catches[partner].caught is not None)
            self.world.busy.add(name)
            try:
                return work()
            finally:
                self.world.busy.discard(name)
                self.world.done.add(name)

        return run

    def wait_until(self, holds: Callable[[], bool]) -> bool:
        return self.scheduler.wait(holds, timeout=PATIENCE, gate="wait")


class Staff(Crew):
    """The work of teammates."""

    def launch(self) -> None:
        world = self.world
        # The last one is live already.
        message = world.message(*ONE_OFF_EMAILS, "push", "push", "notice", "welcome")
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
        self.pause(*self.world.messages)

    def pause_during_round(self) -> None:
        self.wait_until(lambda: bool(self.world.busy & {"matcher", "full matcher", "prompt matcher"}))
        self.pause("welcome", "company")

    def pause_during_visit(self) -> None:
        self.wait_until(lambda: "visitor" in self.world.busy)
        self.pause("chat" if "chat" in self.world.messages else "notice")

    def pause(self, *names: str) -> None:
        message = self.world.message(*names)
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
            if pk not in self.world.loose:
                self.world.resumed[pk] = self.scheduler.seconds

    def stop(self) -> None:
        message = self.world.message(*self.world.messages)
        assert message is not None
        with self.pausing(message):
            lifecycle.stop(message)

    def stop_push(self) -> None:
        """Launch a push, and stop it while one device has it and another one does not."""
        world = self.world
        launch.launch(Message.objects.get(pk=world.messages["push"]), at=self.scheduler.now())
        self.wait_until(lambda: bool(world.servers.accepted_devices))
        self.scheduler.sleep(world.random.choice((0.1, 1.0, 4.0)))
        message = Message.objects.get(pk=world.messages["push"])
        with self.pausing(message):
            lifecycle.stop(message)
        world.reached["stopped a push"] += 1

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
        world.done.add(actor.name)
        if self.scheduler.seconds - began >= PAUSE_PATIENCE or actor.process.has_lost_connection:
            world.loose.add(message.pk)
            world.reached["a pause gave up waiting"] += 1
            return
        for copy in world.servers.in_flight:
            is_alive = not (copy.process.is_frozen or copy.process.has_lost_connection)
            if is_alive and self.message_of(copy.record) == message.pk:
                world.fail(f"record {copy.record} was on its way when the pause of {message} returned")

    def message_of(self, record: int) -> int:
        return self.world.messages[self.world.owners[record][0]]

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
        name = self.world.random.choice(("Ada", "Bob", "Bob"))
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
