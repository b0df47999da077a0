"""Lock order: no two paths for one customer deadlock, and no update is lost (behaviour 4.19).

Each pair of paths is made to collide: while a third transaction holds the row of a customer, the first path runs until
it waits or ends, then the second does, then the row is released. A path that locks a record before the customer
deadlocks with one that locks them the other way round.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations_with_replacement, count, product
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import DatabaseError, connection, transaction

from audiences import transactions
from audiences.intake import Source, identify_in_transaction
from audiences.intake.attributes import kind_conversion
from audiences.intake.attributes.fields import raise_refusal
from audiences.intake.csv_import import upsert
from audiences.models import CustomAttribute, Customer
from audiences.rules import Kind
from delivery import locks
from delivery.conversations import threads
from delivery.customers import erase as customer_erase
from delivery.customers import merge as customer_merge
from delivery.inbound import feedback
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.matching import lifecycle
from delivery.models import Conversation, DeliveryRecord, Reason, Status
from delivery.reply_addresses import Referent, ReferentKind
from delivery.sending import claim as sending_claim
from delivery.sending import outcome
from delivery.sending import settle as sending_settle
from delivery.sending import uncertain as uncertain_records
from delivery.tracking import in_app, links
from delivery.visits import visit as customer_visit
from messaging.models import Message
from tests.factories import AT, CustomAttributeFactory, CustomerFactory, MessageFactory

LATER = AT + timedelta(hours=1)
LONGEST = 20
NUMBERS = count(1)


@dataclass
class Scene:
    """The messages of all records; created once."""

    sent: Message
    sending: Message
    refused: Message
    uncertain: Message
    due: Message
    shown: Message
    attribute: CustomAttribute


@dataclass
class World:
    """A lead and the user they turn out to be, each with a copy of every message."""

    scene: Scene
    lead: Customer
    user: Customer
    claims: dict[str, UUID] = field(default_factory=dict)
    records: dict[tuple[str, int], DeliveryRecord] = field(default_factory=dict)

    def record(self, name: str, customer: Customer) -> DeliveryRecord:
        return DeliveryRecord.objects.select_related("customer", "message").get(pk=self.records[name, customer.pk].pk)

    def both(self, name: str) -> Any:
        return DeliveryRecord.objects.filter(pk__in=[self.records[name, one.pk].pk for one in (self.lead, self.user)])

    def conversation(self) -> Conversation:
        return Conversation.objects.get(record=self.records["shown", self.lead.pk])

    def batch(self, name: str) -> sending_claim.Batch:
        taken = [
            sending_claim.Claimed(record.pk, 1, ("a@x.example",), {}) for record in self.both(name).order_by("-pk")
        ]
        return sending_claim.Batch(getattr(self.scene, name), None, self.claims[name], taken, LATER)


def make_scene() -> Scene:
    names = ("sent", "sending", "refused", "uncertain", "due")
    made = {name: MessageFactory(one_off=True, title=name) for name in names}
    shown = MessageFactory(one_off=True, in_app=True, title="shown")
    for message in (*made.values(), shown):
        Message.objects.filter(pk=message.pk).update(state="live", went_live_at=AT)
    return Scene(**made, shown=shown, attribute=CustomAttributeFactory(name="size"))


def make_world(scene: Scene) -> World:
    """The lead is older in every second world, so that both orders of their keys are met."""
    number = next(NUMBERS)
    people: dict[str, Customer] = {}
    for role in ("lead", "user") if number % 2 else ("user", "lead"):
        facts: dict[str, Any] = {"lead": True} if role == "lead" else {"user_id": f"user {number}"}
        people[role] = CustomerFactory(email=f"{role}.{number}@x.example", attributes={"size": "1"}, **facts)
    world = World(scene, people["lead"], people["user"], {"sending": uuid4(), "refused": uuid4()})
    in_hand = {"status": Status.SENDING, "leased_until": LATER, "taken_at": AT}
    facts = {
        "sent": {"status": Status.SENT, "sent_at": AT, "variables": {"name": "Ann"}},
        "sending": {**in_hand, "claim": world.claims["sending"]},
        "refused": {**in_hand, "claim": world.claims["refused"]},
        "uncertain": {"status": Status.UNCERTAIN, "taken_at": AT},
        "due": {"status": Status.WAITING, "reason": Reason.QUEUED, "due_at": AT},
        "shown": {"status": Status.SENT, "sent_at": AT},
    }
    rows = []
    for one, (name, columns) in product((world.user, world.lead), facts.items()):
        message: Message = getattr(scene, name)
        rows.append(DeliveryRecord(message=message, version=message.version, customer=one, matched_at=AT, **columns))
    DeliveryRecord.objects.bulk_create(rows)
    world.records = {(row.message.title, row.customer_id): row for row in rows}
    threads.open_conversations([row for row in rows if row.message == scene.shown], at=AT)
    return world


def survivor(world: World) -> Customer:
    """Return the customer that owns the lead's records now."""
    return world.record("sent", world.lead).customer


# Actions


def unsubscribe(world: World) -> None:
    links.unsubscribe(world.record("sent", world.lead), at=LATER)


def complain(world: World) -> None:
    record = world.records["sent", world.lead.pk].pk
    feedback.record_feedback(Referent(ReferentKind.RECORD, record), Feedback(type=FeedbackType.COMPLAINED, at=LATER))


def merge(world: World) -> None:
    with transaction.atomic():
        facts = {"user_id": world.user.user_id}
        customer_merge.log_in(world.lead, facts, at=LATER, source=Source.REST, on_bad_value=raise_refusal)


def erase(world: World) -> None:
    customer_erase.erase(world.user, at=LATER)


def settle(world: World) -> None:
    batch = world.batch("sending")
    sending_settle.settle_batch(batch, outcome.Outcome(sent={record.pk: "id" for record in batch.records}), at=LATER)


def settle_bounces(world: World) -> None:
    batch = world.batch("refused")
    failed = [(record.pk, Reason.BOUNCED, "No such mailbox") for record in batch.records]
    sending_settle.settle_batch(batch, outcome.Outcome(failed=failed), at=LATER)


def mark_as_sent(world: World) -> None:
    uncertain_records.mark_as_sent(world.both("uncertain"), at=LATER)


def reply_as_customer(world: World) -> None:
    threads.reply_by_customer(world.conversation(), body="Hello", at=LATER)


def visit(world: World) -> None:
    def identified() -> tuple[Customer, None]:
        facts = {"user_id": world.user.user_id, "name": "Ann"}
        return identify_in_transaction(facts, at=LATER, source=Source.BROWSER, on_bad_value=raise_refusal), None

    customer_visit.visit_identified(identified, at=LATER)


def change_kind(world: World) -> None:
    kind_conversion.convert_attribute(world.scene.attribute, to=Kind.TEXT, lose_at_most=10_000)


def import_opt_outs(world: World) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        upsert.suppress_addresses(
            cursor, [world.lead.email, world.user.email], file="list.csv", by=None, at=LATER, dry=False
        )


def claim(world: World) -> None:
    sending_claim.claim(world.scene.due, at=LATER, token=uuid4(), most=10)


def withdraw(world: World) -> None:
    with transaction.atomic():
        locks.block_batches_and_rounds(world.scene.due)
        lifecycle.withdraw_stopped(world.scene.due)


def see(world: World) -> None:
    in_app.record_open(world.record("shown", world.lead), at=LATER)


def always(_world: World) -> bool:
    return True


# Each path, and a condition that holds after it, whatever else happened.
Path = Callable[[World], None]
PATHS: dict[Path, Callable[[World], bool]] = {
    unsubscribe: lambda world: survivor(world).unsubscribed_by_customer_at is not None,
    complain: lambda world: survivor(world).marked_email_as_spam,
    merge: lambda world: Customer.objects.filter(pk=world.lead.pk, email=None, archived_at=LATER).exists(),
    erase: lambda world: Customer.objects.get(pk=world.user.pk).archived_at is not None,
    settle: lambda world: not world.both("sending").filter(status=Status.SENDING).exists(),
    settle_bounces: lambda world: not world.both("refused").filter(status=Status.SENDING).exists(),
    mark_as_sent: lambda world: not world.both("uncertain").filter(status=Status.UNCERTAIN).exists(),
    reply_as_customer: lambda world: world.conversation().first_reply_at == LATER,
    see: lambda world: world.record("shown", world.lead).opened_at == LATER,
    visit: always,
    change_kind: always,
    import_opt_outs: always,
    claim: always,
    withdraw: always,
}
# The rows that are locked first. The order of arrival matters only at the customers, for which every path waits.
GATES: dict[str, Callable[[World], Any]] = {
    "customers": lambda world: Customer.objects.filter(pk__in=(world.lead.pk, world.user.pk)),
    "conversations": lambda world: Conversation.objects.filter(customer__in=(world.lead, world.user)),
    "records": lambda world: DeliveryRecord.objects.filter(customer__in=(world.lead, world.user)),
}


class Session:
    """A thread with its own connection."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.pid: int = self.run(self.begin).result()

    def run(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.thread.submit(function, *args)

    def begin(self) -> int:
        with connection.cursor() as cursor:
            # Only a superuser may have deadlocks looked for sooner than after a second.
            cursor.execute(
                "SELECT set_config('deadlock_timeout', '20ms', FALSE) FROM pg_roles"
                " WHERE rolname = current_user AND rolsuper"
            )
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    def end(self) -> None:
        """Close the connection; its statistics appear once its process has ended."""
        if self.pid:
            self.run(lambda: connection.close()).result()
            self.thread.shutdown()
            while self.is_there():
                time.sleep(0.01)
        self.pid = 0

    def is_there(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)", [self.pid])
            return cursor.fetchone()[0]

    def waits(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)", [self.pid])
            return cursor.fetchone()[0]


@pytest.fixture
def sessions(transactional_db) -> Iterator[tuple[Session, Session]]:
    first, second = Session(), Session()
    yield first, second
    first.end()
    second.end()


def deadlocks() -> int:
    """Return the number of deadlocks in this database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]


def lead_into_each_other(world: World, gate: str, paths: Iterable[Path], sessions: Iterable[Session]) -> None:
    under_way = []
    with transaction.atomic():
        list(GATES[gate](world).order_by("pk").select_for_update(no_key=True))
        for path, session in zip(paths, sessions, strict=True):
            future = session.run(path, world)
            until = time.monotonic() + LONGEST
            # Each query for a wait takes processor time from the path.
            while wait([future], timeout=0.004).not_done and not session.waits() and time.monotonic() < until:
                pass
            under_way.append(future)
    for future in under_way:
        future.result(LONGEST)


@pytest.mark.parametrize("gate", GATES)
def test_no_two_things_that_happen_to_a_customer_deadlock_and_none_is_lost(gate, sessions, monkeypatch):
    # Without retries, so that a deadlock is seen.
    monkeypatch.setattr(transactions, "MAX_ATTEMPTS", 1)
    scene, before, wrong = make_scene(), deadlocks(), []
    pairs = product(PATHS, repeat=2) if gate == "customers" else combinations_with_replacement(PATHS, 2)
    for first, second in pairs:
        world, both = make_world(scene), f"{first.__name__} and {second.__name__}"
        try:
            lead_into_each_other(world, gate, (first, second), sessions)
        except DatabaseError as cancelled:
            wrong.append(f"{both}: {cancelled}")
        else:
            wrong += [f"{both}: {path.__name__} is lost" for path in {first, second} if not PATHS[path](world)]
        DeliveryRecord.objects.filter(status=Status.WAITING).skip(reason=Reason.STOPPED)
    for session in sessions:
        session.end()

    assert wrong == []
    assert deadlocks() == before
