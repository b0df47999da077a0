"""Everything that may happen to a record at once: no duplicate copies, and no violated invariants."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.utils import timezone

from audiences.models import Company, Customer, Membership, Workspace
from delivery.channels import CHANNELS, Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.customers import erase as customer_erase
from delivery.customers import merge as customer_merge
from delivery.maintenance import sweep
from delivery.matching import lifecycle, rounds
from delivery.models import DeliveryRecord, Status
from delivery.monitoring import invariants
from delivery.sending import claim, dispatcher, outcome, uncertain
from delivery.visits import visit as customer_visit
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message, WrongState
from tests.factories import AT, CompanyFactory, CustomerFactory, MessageFactory
from tests.support.concurrency import Job, at_once

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("migrated")]

SECONDS = 4.0
# Enough emails for a result. A busy machine needs more than SECONDS to send them, but not more than PATIENCE.
ENOUGH, PATIENCE = 100, 40.0
USERS, LEADS, ADDRESSES = 300, 30, 120
A_MOMENT = timedelta(milliseconds=50)
REFUSALS = (Unavailable("451 later"), Rejected("550 spam"), NoSuchMailbox("550 5.1.1 nobody"))


class Moody:
    """A channel that refuses some copies, loses the connection for others, and records the accepted ones."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.subjects: Counter[str] = Counter()
        self.noting = threading.Lock()
        self.random = random.Random(1)  # noqa: S311 - moods, no secrets

    def send(self, envelope: Envelope) -> str:
        time.sleep(0.001)
        mood = self.random.random()
        if mood < 0.08:
            raise self.random.choice(REFUSALS)
        with self.noting:
            self.taken[envelope.message_id] += 1
            self.subjects[envelope.subject[0]] += 1
        if mood < 0.09:
            raise TimeoutError("no answer")
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def channel(monkeypatch) -> Moody:
    channel = Moody()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    monkeypatch.setattr(outcome, "BACK_OFF", [A_MOMENT] * len(outcome.BACK_OFF))
    monkeypatch.setattr(claim, "SOON", A_MOMENT)
    return channel


def over_and_over(
    step: Callable[[random.Random], object], *, every: float, seed: int, enough: Callable[[], bool]
) -> Job:
    """Repeat an action until the time is up, with a random generator of its own."""

    def go_on() -> None:
        chance, began = random.Random(seed), time.monotonic()  # noqa: S311 - chances, no secrets
        while time.monotonic() < began + (SECONDS if enough() else PATIENCE):
            step(chance)
            time.sleep(every)

    return go_on


@dataclass
class World:
    """Users with shared addresses, in no, one or two companies; leads; and everything that happens to them at once."""

    channel: Moody
    messages: list[Message] = field(default_factory=list)
    users: list[Customer] = field(default_factory=list)
    leads: list[Customer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.users = Customer.objects.bulk_create(
            CustomerFactory.build(user_id=f"u{n}", email=f"{n % ADDRESSES}@x.example") for n in range(USERS)
        )
        self.leads = Customer.objects.bulk_create(
            CustomerFactory.build(user_id=None, email=f"lead{n}@x.example") for n in range(LEADS)
        )
        companies = Company.objects.bulk_create(CompanyFactory.build(name=f"C{n}") for n in range(10))
        Membership.objects.bulk_create(
            Membership(customer=customer, company=companies[(n + which) % 10], created_at=AT)
            for n, customer in enumerate(self.users)
            for which in range(n % 3)
        )

    def one(self, chance: random.Random) -> Customer:
        return Customer.objects.get(pk=chance.choice(self.users).pk)

    def hand_over(self, _chance: random.Random) -> None:
        dispatcher.dispatch(clock=timezone.now, until=timezone.now() + timedelta(seconds=1))

    def match(self, _chance: random.Random) -> None:
        rounds.match_ongoing(at=timezone.now())

    def sweep(self, _chance: random.Random) -> None:
        sweep.sweep(at=timezone.now())

    def pause(self, chance: random.Random) -> None:
        message = Message.objects.get(pk=chance.choice(self.messages).pk)
        with suppress(WrongState):
            lifecycle.pause(message)
            returned = self.channel.subjects[message.title]
            time.sleep(0.05)
            assert self.channel.subjects[message.title] == returned
            message_lifecycle.resume(message, at=timezone.now())

    def edit(self, chance: random.Random) -> None:
        message = Message.objects.get(pk=self.messages[0].pk)
        words = f"A {{{{ first_name }}}} {chance.random()}"
        authoring.revise(message, subject=words, body="<p>Hi</p>", by=None, at=timezone.now())

    def change(self, chance: random.Random) -> None:
        facts = {
            "email": f"{chance.randrange(ADDRESSES)}@x.example",
            "unsubscribed_from_emails": chance.random() < 0.5,
            "archived_at": timezone.now(),
        }
        name = chance.choice(list(facts))
        Customer.objects.filter(pk=self.one(chance).pk, archived_at=None).update(**{name: facts[name]})

    def visit(self, chance: random.Random) -> None:
        if (customer := self.one(chance)).archived_at is None:
            customer_visit.visit(customer, at=timezone.now())

    def merge(self, chance: random.Random) -> None:
        if self.leads:
            lead = Customer.objects.get(pk=self.leads.pop().pk)
            customer_merge.merge(lead, into=self.one(chance), at=timezone.now())

    def erase(self, chance: random.Random) -> None:
        customer_erase.erase(self.one(chance), at=timezone.now())

    def settle(self, _chance: random.Random) -> None:
        uncertain.mark_as_sent(DeliveryRecord.objects.all(), at=timezone.now())

    def jobs(self) -> list[Job]:
        steps = [(step, 0.01) for step in (*[self.hand_over] * 4, self.change, self.visit)]
        steps += [(step, 0.1) for step in (self.match, self.match, self.edit, self.merge, self.pause)]
        steps += [(step, 0.3) for step in (self.sweep, self.settle, self.erase)]
        return [
            over_and_over(step, every=every, seed=seed, enough=lambda: self.channel.taken.total() > ENOUGH)
            for seed, (step, every) in enumerate(steps)
        ]


@pytest.mark.parametrize("most", [None, 2])
def test_no_duplicates_and_no_violated_invariants_whatever_happens_meanwhile(channel, caplog, most):
    Workspace.objects.update(cap_messages=most, cap_days=1)
    now = timezone.now()
    world = World(channel)
    world.messages = [
        MessageFactory(title="A", subject="A {{ first_name }}", live=True, at=now),
        MessageFactory(title="B", subject="B", body="<p>{{ company.name }}</p>", live=True, at=now),
        MessageFactory(title="C", subject="C", one_off=True, live=True, at=now),
        MessageFactory(title="D", subject="D", one_off=True, same_inbox_once=False, live=True, at=now),
    ]

    run = at_once(world.jobs())

    assert run.wrong == []
    assert channel.taken.total() > ENOUGH
    for _ in range(20):
        sweep.sweep(at=timezone.now())
        dispatcher.dispatch(clock=timezone.now, until=timezone.now() + timedelta(seconds=5))
        time.sleep(A_MOMENT.total_seconds())
    assert [message_id for message_id, times in channel.taken.items() if times > 1] == []
    assert list(invariants.find_violations(at=timezone.now() + timedelta(minutes=3))) == []
    left = DeliveryRecord.objects.filter(status__in=(Status.WAITING, Status.SENDING))
    assert left.count() == left.filter(reason="cap").count()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
