"""Matchers, launches, pauses and visits at the same moment: no duplicate, no deadlock, no lost record, no long wait."""

import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.test import Client

from audiences.models import Company, Customer, Integration, Membership
from delivery.channels import CHANNELS, Envelope
from delivery.maintenance import sweep
from delivery.matching import launch, lifecycle, ongoing, rounds, sql
from delivery.models import DeliveryRecord, Status
from delivery.sending import dispatcher
from delivery.visits import visit as customer_visit
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message, State, WrongState
from tests.factories import AT, CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory
from tests.support.concurrency import Job, LockWaits, Run, at_once
from tests.support.machine import slowdown

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("migrated")]

LONGEST_WAIT = 1.0
# The whole duration of a visit depends on how many processes share the processors.
FAR_TOO_LONG = 10


def longest_wait() -> float:
    """Return the longest time, in seconds, that a visit may wait for locks: more on a busy machine."""
    return LONGEST_WAIT * slowdown()


LOCKED_OUT_AFTER = 0.15
A_BREATH = 0.1
PEOPLE, COMPANIES = 300, 15
DAY = timedelta(days=1)
COMPANY = "<p>{{ company.name }}</p>"


class Noting:
    """A slow channel that records the time of each envelope."""

    def __init__(self, *, takes: float = 0.0005) -> None:
        self.given: list[tuple[float, str]] = []
        self.takes = takes

    def send(self, envelope: Envelope) -> str:
        time.sleep(self.takes)
        self.given.append((time.monotonic(), envelope.message_id))
        return ""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def channel(monkeypatch) -> Noting:
    channel = Noting()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


@pytest.fixture
def people(migrated) -> list[Customer]:
    """Customers in no, one and two companies."""
    made = Customer.objects.bulk_create(CustomerFactory.build(email=f"{n}@x.example") for n in range(PEOPLE))
    companies = Company.objects.bulk_create(CompanyFactory.build(name=f"C{n}") for n in range(COMPANIES))
    Membership.objects.bulk_create(
        Membership(customer=customer, company=companies[(n + which) % COMPANIES], created_at=AT)
        for n, customer in enumerate(made)
        for which in range(n % 3)
    )
    return made


def pairs(message: Message) -> Counter:
    return Counter(message.records.values_list("customer", "company"))


def expected(message: Message, customers: list[Customer]) -> Counter:
    """Return the pairs that a message without filters goes to."""
    if not message.per_company:
        return Counter((customer.pk, None) for customer in customers)
    among = {customer.pk for customer in customers}
    return Counter(Membership.objects.filter(customer__in=among).values_list("customer", "company"))


def comes(customer: Customer, *, at: datetime, locks: LockWaits, times: int = 1, after: float = 0) -> Job:
    """Let a customer visit at these seconds after the start. Return the duration of each visit."""

    def come() -> list[float]:
        locks.mine()
        took = []
        own = Customer.objects.get(pk=customer.pk)
        time.sleep(after)
        for number in range(times):
            began = time.monotonic()
            customer_visit.visit(own, at=at + timedelta(minutes=6 * number))
            took.append(time.monotonic() - began)
        return took

    return come


def warm_up() -> None:
    """Warm up a connection like those of a web server, and roll back."""
    with transaction.atomic():
        customer_visit.visit(CustomerFactory(user_id=None, email=None), at=AT)
        transaction.set_rollback(True)


def waits_in(run: Run) -> list[float]:
    """The duration of each visit."""
    return [wait for took in run.returned if isinstance(took, list) for wait in took]


def tell(capsys, what: str, waits: list[float], locks: LockWaits) -> None:
    """Print the durations, and the parts of them that were waits for locks of others than visits."""
    took = f"median {statistics.median(waits):.3f} s, longest {max(waits):.3f} s"
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {took}; for locks of others at most {locks.longest():.3f} s\n")


def test_matchers_launches_pauses_and_fifty_visits_on_the_same_messages(at, people, channel, capsys):
    mails = [MessageFactory(live=True, at=at), MessageFactory(body=COMPANY, live=True, at=at)]
    shown = [MessageFactory(in_app=True, live=True, at=at), MessageFactory(in_app=True, body=COMPANY, live=True, at=at)]
    paused = [MessageFactory(live=True, at=at), MessageFactory(in_app=True, live=True, at=at)]
    mail_drafts = [MessageFactory(), MessageFactory(body=COMPANY)]
    one_offs = [MessageFactory(one_off=True), MessageFactory(one_off=True, body=COMPANY)]
    in_app_draft, in_app_one_off = MessageFactory(in_app=True), MessageFactory(in_app=True, one_off=True)
    drafts = [*mail_drafts, *one_offs, in_app_draft, in_app_one_off]
    # Thirty customers with one visit each, and five with four at once.
    visitors = people[:30] + people[30:35] * 4
    locks = LockWaits("visit")
    # The clock of the queue is ahead of the visits, so that their records are due.
    later = at + timedelta(hours=1)

    def pause_and_resume(message: Message) -> None:
        lifecycle.pause(message)
        time.sleep(A_BREATH)
        message_lifecycle.resume(message, at=at)

    def match() -> None:
        rounds.match_ongoing(at=at)
        time.sleep(A_BREATH)  # A round may take an hour. Only its locks may delay visits.

    run = at_once(
        [
            *[comes(customer, at=at, locks=locks) for customer in visitors],
            *[partial(launch.launch, message, at=at) for message in drafts],
        ],
        meanwhile=[
            locks.look,
            *[match] * 2,
            *[partial(dispatcher.dispatch, clock=lambda: later, until=later + DAY)] * 2,
            *[partial(pause_and_resume, message) for message in paused],
        ],
        processes=4,
        warm_up=warm_up,
    )
    assert run.wrong == []

    sweep.sweep(at=later)
    rounds.match_ongoing(at=later)
    dispatcher.dispatch(clock=lambda: later, until=later + DAY)
    came = people[:35]
    for customer in came:
        customer_visit.visit(customer, at=later)
    for message in [*mails, *shown, *paused, *drafts]:
        message.refresh_from_db()
        wanted = expected(message, came if message in (*shown, paused[1], in_app_draft) else people)
        counts = message.records.counts()
        reached = len(came) if message == in_app_one_off else wanted.total()
        if message == one_offs[1]:
            wanted += Counter((customer.pk, None) for customer in people if not customer.memberships.exists())
            assert counts["skipped"] == wanted.total() - reached
        assert pairs(message) == wanted
        assert counts["sent"] == reached
    assert len(channel.given) == len({message_id for _, message_id in channel.given})
    assert len(channel.given) == DeliveryRecord.objects.filter(message__channel="email", status=Status.SENT).count()
    tell(capsys, f"{len(visitors)} visits at once", waits_in(run), locks)
    assert len(waits_in(run)) == len(visitors)
    assert locks.longest() < longest_wait()
    assert max(waits_in(run)) < FAR_TOO_LONG * longest_wait()


def add_people(number: int) -> None:
    """Add thousands of customers, copies of the first one."""
    own = ("id", "user_id", "email")
    rest = ", ".join(field.column for field in Customer._meta.concrete_fields if field.column not in own)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO audiences_customer ({rest}, user_id, email)"  # noqa: S608 - the model's own columns
            f" SELECT {rest}, 'more-' || n, n || '@more.example' FROM generate_series(1, %s) n,"
            " (SELECT * FROM audiences_customer ORDER BY id LIMIT 1) AS like_this",
            [number],
        )
        cursor.execute("ANALYZE audiences_customer")


def test_visits_and_pauses_during_a_large_launch_and_round_are_short(at, people, capsys):
    add_people(sql.SLICE)
    large, one_off = MessageFactory(live=True, at=at), MessageFactory(one_off=True)
    welcome, paused = MessageFactory(in_app=True, live=True, at=at), MessageFactory(in_app=True, live=True, at=at)
    # The customers that a slice inserts first, and so locks for longest, and those that it inserts last.
    visitors = [*Customer.objects.order_by("pk")[:10], *Customer.objects.order_by("-pk")[:10]]
    locks = LockWaits("visit")

    def timed(job: Job) -> Job:
        def work() -> float:
            began = time.monotonic()
            job()
            return time.monotonic() - began

        return work

    def pause_and_stop() -> None:
        lifecycle.pause(paused)
        message_lifecycle.resume(paused, at=at)
        lifecycle.stop(paused)

    run = at_once(
        [
            timed(partial(ongoing.match, large, at=at)),
            timed(partial(launch.launch, one_off, at=at)),
            pause_and_stop,
            *[comes(customer, at=at, locks=locks, times=3, after=n % 10 * 0.05) for n, customer in enumerate(visitors)],
        ],
        meanwhile=[locks.look],
        processes=4,
        warm_up=warm_up,
    )

    assert run.wrong == []
    waits, busy = waits_in(run), [took for took in run.returned if isinstance(took, float)]
    tell(
        capsys,
        f"{len(waits)} visits during a round and a launch of {min(busy):.1f} and {max(busy):.1f} s",
        waits,
        locks,
    )
    assert locks.longest() < longest_wait()
    assert max(waits) < FAR_TOO_LONG * longest_wait()
    rounds.match_ongoing(at=at)
    everybody = PEOPLE + sql.SLICE
    assert [message.records.count() for message in (large, one_off, welcome)] == [everybody, everybody, len(visitors)]


@contextmanager
def written_down_elsewhere(message: Message, customer: Customer) -> Iterator[Callable[[], object]]:
    """Let another connection insert the customer's record and commit only when the test says so."""
    inserted, end = threading.Event(), threading.Event()

    def insert() -> None:
        try:
            with transaction.atomic():
                message.records.create(customer=customer, matched_at=AT, due_at=AT, reason="queued")
                inserted.set()
                end.wait(20)
        finally:
            connection.close()

    thread = threading.Thread(target=insert, daemon=True)
    thread.start()
    assert inserted.wait(10)

    def commit() -> None:
        end.set()
        thread.join(10)

    try:
        yield commit
    finally:
        commit()


def test_visit_during_the_insert_of_a_round_returns_in_app_messages(at):
    customer = CustomerFactory(email="ann@x.example")
    mail, shown = MessageFactory(live=True, at=at), MessageFactory(in_app=True, live=True, at=at)
    company = CompanyFactory()
    MembershipFactory(customer=customer, company=company)
    customer_visit.visit(CustomerFactory(), at=at)  # Compiles the live messages.

    with written_down_elsewhere(mail, customer) as commit:
        began = time.monotonic()
        visit = customer_visit.visit(customer, at=at, company=company)
        took = time.monotonic() - began
        assert [message.message for message in visit.shown] == [shown.pk]
        assert LOCKED_OUT_AFTER <= took < longest_wait()
        customer.refresh_from_db()
        company.refresh_from_db()
        assert (customer.last_seen_at, company.last_seen_at, customer.session_count) == (at, at, 1)
        commit()

    customer_visit.visit(customer, at=at + timedelta(minutes=5))
    assert pairs(mail)[customer.pk, None] == pairs(shown)[customer.pk, None] == 1


def test_check_during_the_insert_of_a_round_does_not_count(at):
    customer = CustomerFactory(email="ann@x.example")
    mail = MessageFactory(live=True, at=at)

    with written_down_elsewhere(mail, customer):
        assert customer_visit.check(customer, at=at) == at

    assert customer_visit.check(customer, at=at) is None


def test_visits_of_one_company_queue_and_none_fails(at):
    """Each visit moves the last-seen of the shared company, so the others wait for a slow one."""
    company = CompanyFactory()
    slow, quick = (MembershipFactory(company=company).customer for _ in range(2))
    held = threading.Event()

    def take_long() -> None:
        with transaction.atomic():
            customer_visit.visit(slow, at=at, company=company)
            held.set()
            time.sleep(3 * LOCKED_OUT_AFTER)

    def come_meanwhile() -> None:
        held.wait(10)
        customer_visit.visit(quick, at=at, company=Company.objects.get(pk=company.pk))

    assert at_once([take_long, come_meanwhile]).wrong == []
    quick.refresh_from_db()
    assert quick.last_seen_at == at


def test_of_twenty_gets_at_once_exactly_one_matches(at):
    CustomerFactory(user_id="ann", email="ann@x.example")
    message = MessageFactory(live=True, at=at)
    _, token = Integration.issue(name="twenty")
    said = []

    def get() -> None:
        answer = Client().get("/api/conversations?type=user&user_id=ann", headers={"Authorization": f"Bearer {token}"})
        said.append((answer.status_code, answer.headers.get("X-Outbound-Matching")))

    assert at_once([get] * 20).wrong == []
    assert Counter(said) == {(200, "ran"): 1, (200, "limited"): 19}
    assert message.records.count() == 1


@pytest.mark.parametrize("ended", [lifecycle.pause, lifecycle.stop])
def test_nothing_is_matched_shown_or_sent_once_the_pause_has_returned(ended, at, people, channel):
    """Visits, a matcher and two workers run all the time. After pause returns, no copy is added."""
    channel.takes = 0.01
    mail, shown = MessageFactory(live=True, at=at), MessageFactory(in_app=True, live=True, at=at)
    for customer in people[:150]:
        customer_visit.visit(customer, at=at)
    rest = people[150:]
    seen: dict[str, tuple[float, dict[int, int]]] = {}

    def records() -> dict[int, int]:
        return {message.pk: message.records.count() for message in (mail, shown)}

    def come() -> None:
        with suppress(IndexError):
            customer_visit.visit(rest.pop(), at=at)

    def click() -> None:
        while not channel.given:
            time.sleep(0.01)
        ended(shown)
        ended(mail)
        seen["end"] = (time.monotonic(), records())
        time.sleep(0.4)

    def match() -> None:
        CustomerFactory(email="new@x.example")
        rounds.match_ongoing(at=at)

    run = at_once(
        [click],
        meanwhile=[come, come, match, *[partial(dispatcher.dispatch, clock=lambda: at, until=at + DAY)] * 2],
    )

    assert run.wrong == []
    returned_at, there = seen["end"]
    assert 0 < len(channel.given) < there[mail.pk]
    assert max(when for when, _ in channel.given) <= returned_at
    assert records() == there
    assert not mail.records.filter(status=Status.SENDING).exists()


def test_two_launches_of_one_draft_are_one(at, people):
    message = MessageFactory(one_off=True)
    outcomes = []

    def launch_draft() -> None:
        try:
            outcomes.append(launch.launch(Message.objects.get(pk=message.pk), at=at))
        except WrongState:
            outcomes.append("too late")

    assert at_once([launch_draft, launch_draft]).wrong == []
    assert sorted(outcomes, key=str) == [PEOPLE, "too late"]
    assert pairs(message) == expected(message, people)
    message.refresh_from_db()
    assert message.state == State.LIVE


def test_lock_waits_are_measured_correctly(at):
    """Check the measurement of the other tests: one job locks a row until the other has waited for half a second."""
    customer, locks, held = CustomerFactory(), LockWaits("visit"), threading.Event()

    def hold() -> float:
        with transaction.atomic():
            Customer.objects.select_for_update().get(pk=customer.pk)
            began = time.monotonic()
            held.set()
            while locks.longest() < 0.5:
                assert time.monotonic() < began + 30
                time.sleep(0.01)
        return time.monotonic() - began

    def want() -> None:
        locks.mine()
        held.wait(10)
        with transaction.atomic():
            Customer.objects.select_for_update().get(pk=customer.pk)

    run = at_once([hold, want], meanwhile=[locks.look])
    assert run.wrong == []
    assert 0.5 <= locks.longest() <= max(took for took in run.returned if took)
