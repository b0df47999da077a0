"""Sending a batch: claimed, committed, sent, settled; with a channel that answers as the test decides."""

import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audiences.models import Company, Customer
from delivery import rendering
from delivery.channels import CHANNELS, ChannelDown, Envelope, Rejected, SenderRefused, Unavailable
from delivery.maintenance import sweep
from delivery.matching import lifecycle
from delivery.matching import ongoing as ongoing_matching
from delivery.models import DeliveryRecord, Pace, Reason, Status
from delivery.sending import batch as sending_batch
from delivery.sending import claim, dispatcher, outcome, settle
from messaging import authoring, content
from messaging.models import Channel, Message, MessageVersion
from tests.factories import (
    CompanyFactory,
    CustomAttributeFactory,
    CustomerFactory,
    MembershipFactory,
    MessageFactory,
    SenderFactory,
    rule,
)
from tests.support.concurrency import elsewhere
from tests.support.sending import send_one_batch

pytestmark = pytest.mark.django_db


class Obedient:
    """A channel that records its envelopes and answers as the test decides."""

    def __init__(self) -> None:
        self.given: list[Envelope] = []
        self.answer: Callable[[Envelope], str] = lambda envelope: f"id of {envelope.to[0]}"
        self.is_open = True

    def send(self, envelope: Envelope) -> str:
        self.given.append(envelope)
        return self.answer(envelope)

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def channel(monkeypatch) -> Obedient:
    channel = Obedient()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


def matched(at, **facts) -> Message:
    message = MessageFactory(live=True, at=at, **facts)
    ongoing_matching.match(message, at=at)
    return message


def hand_over(at) -> int:
    return dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


def refuse(reason: Exception) -> Callable[[Envelope], str]:
    def answer(_: Envelope) -> str:
        raise reason

    return answer


def test_custom_attributes_of_customer_and_company_are_in_the_copy(at, channel):
    CustomAttributeFactory(name="plan")
    CustomAttributeFactory(name="seats", kind="number", scope="company")
    member = MembershipFactory(customer__email="ann@x.example", customer__attributes={"plan": "pro"})
    Company.objects.update(attributes={"seats": 7})
    matched(at, body="<p>{{ custom_attributes.plan }}: {{ company.custom_attributes.seats }}</p>")

    hand_over(at)

    assert channel.given[0].text.startswith("pro: 7\n")
    assert DeliveryRecord.objects.get(customer=member.customer).variables == {
        "custom_attributes.plan": "pro",
        "company.custom_attributes.seats": 7,
    }


@pytest.mark.parametrize("name", [*content.VARIABLES, "custom_attributes.a.b", "company.custom_attributes.a.b"])
def test_claim_reads_the_columns_that_a_variable_needs(name, monkeypatch):
    person = {column: f"{column} of Ann" for column in claim.PEOPLE} | {"attributes": {"a.b": 1}}
    company = {column: f"{column} of Acme" for column in claim.COMPANIES} | {"attributes": {"a.b": 2}}
    monkeypatch.setattr(rendering, "known_variables", lambda _version: frozenset({name}))

    people, companies = claim.fact_columns(Message(version=MessageVersion()))

    found = rendering.variable_values(
        {name},
        customer={column: person[column] for column in people},
        company={column: company[column] for column in companies},
    )
    assert found == rendering.variable_values({name}, customer=person, company=company) != {}
    assert len(people) + len(companies) <= 2


def test_due_record_is_handed_over_and_settled_as_sent(at, channel):
    customer = CustomerFactory(email="ann@x.example", name="Ann Lee")
    message = matched(at, subject="Hi {{ first_name }}", body="<p>You are {{ name }}</p>")

    assert hand_over(at) == 1

    record = message.records.get()
    assert (record.status, record.sent_at, record.attempts) == (Status.SENT, at, 1)
    assert record.variables == {"first_name": "Ann", "name": "Ann Lee"}
    assert record.provider_id == "id of ann@x.example"
    assert record.version == message.version
    (envelope,) = channel.given
    assert envelope.subject == "Hi Ann"
    assert "You are Ann Lee" in envelope.html
    assert "You are Ann Lee" in envelope.text
    customer.refresh_from_db()
    assert customer.last_contacted_at == at


@pytest.mark.django_db(transaction=True)
def test_record_is_committed_as_sending_before_the_channel_sees_it(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    seen = []
    channel.answer = lambda _: seen.append(elsewhere(lambda: message.records.get().status)) or ""

    hand_over(at)

    assert seen == [Status.SENDING]


def test_copy_about_a_company_is_filled_with_that_company(at, channel):
    customer = CustomerFactory(email="ann@x.example")
    for name in ("A", "B"):
        MembershipFactory(customer=customer, company=CompanyFactory(name=name))
    matched(at, subject="{{ company.name }}")

    hand_over(at)

    assert sorted(envelope.subject for envelope in channel.given) == ["A", "B"]


def test_message_id_is_the_same_at_every_try_and_differs_between_records(at, channel):
    CustomerFactory(email="ann@x.example")
    CustomerFactory(email="bob@x.example")
    matched(at)
    channel.answer = refuse(Unavailable("busy"))
    hand_over(at)
    hand_over(at + timedelta(minutes=5))

    ids = [envelope.message_id for envelope in channel.given]
    assert len(ids) == 4
    assert len(set(ids)) == 2


def test_rejected_record_fails_with_the_text_of_the_reason(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    channel.answer = refuse(Rejected("550 no such user"))

    hand_over(at)

    record = message.records.get()
    assert (record.status, record.reason, record.detail) == (Status.FAILED, Reason.REJECTED, "550 no such user")


def test_one_bad_recipient_does_not_stop_the_batch(at, channel):
    for name in ("a", "bad", "c"):
        CustomerFactory(email=f"{name}@x.example")
    message = matched(at)
    channel.answer = lambda e: refuse(Rejected("no"))(e) if "bad" in e.to[0] else ""

    hand_over(at)

    assert message.records.counts() | {"sent": 2, "failed": 1} == message.records.counts()


def test_unavailable_record_is_retried_with_back_off_and_then_fails(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    channel.answer = refuse(Unavailable("450 try later"))
    waits, now = [], at
    while True:
        hand_over(now)
        record = message.records.get()
        if record.status == Status.FAILED:
            break
        assert (record.status, record.reason, record.detail) == (Status.WAITING, Reason.RETRY, "450 try later")
        waits.append(record.due_at - now)
        now = record.due_at

    assert len(waits) == len(outcome.BACK_OFF)
    assert all(base <= wait <= base * 1.25 for base, wait in zip(outcome.BACK_OFF, waits, strict=True))
    assert (record.reason, record.detail) == (Reason.GAVE_UP, "450 try later")


def test_unknown_outcome_is_uncertain_and_never_repeated(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    channel.answer = refuse(TimeoutError("no answer after the text"))

    hand_over(at)
    hand_over(at + timedelta(days=3))

    record = message.records.get()
    assert (record.status, record.reason) == (Status.UNCERTAIN, Reason.LOST_TOUCH)
    assert "no answer after the text" in record.detail
    assert len(channel.given) == 1


@pytest.mark.parametrize(
    "wrong",
    [Rejected("no \0 \ud800"), Unavailable("later \0 \ud800"), ChannelDown("off \0 \ud800"), OSError("gone \0 \ud800")],
)
def test_an_error_text_that_cannot_be_stored_leaves_no_copy_of_the_batch_unsettled(at, channel, wrong):
    for number in range(3):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at)
    channel.answer = lambda envelope: "id" if envelope.to[0] == "0@x.example" else refuse(wrong)(envelope)

    hand_over(at)

    counts = message.records.counts()
    assert (counts["sent"], counts["sending"]) == (1, 0)
    assert message.records.exclude(status=Status.SENT).latest("pk").detail.endswith("? ?")


def test_provider_id_is_stored_without_characters_the_database_refuses(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    channel.answer = lambda _: "id\0\ud800"

    hand_over(at)

    assert (message.records.get().status, message.records.get().provider_id) == (Status.SENT, "id??")


def test_message_whose_copies_all_fail_to_render_rests_without_a_used_attempt(at, channel, monkeypatch):
    for number in range(3):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at)
    Pace.objects.create(channel=message.channel, warm_up=[100], warm_up_from=at.date(), day=at.date(), taken_today=2)
    with monkeypatch.context() as broken:
        broken.setattr(rendering, "envelope", lambda *_, **__: 1 / 0)
        hand_over(at)
        message.refresh_from_db()
        assert "no copy of this message can be rendered" in message.problem
        assert set(message.records.values_list("status", "attempts")) == {(Status.WAITING, 0)}
        pace = Pace.objects.get()
        assert pace.taken_today == 2

    hand_over(at + timedelta(minutes=2))

    message.refresh_from_db()
    assert message.problem == ""
    assert set(message.records.values_list("status", flat=True)) == {Status.SENT}


def test_copy_that_fails_to_render_does_not_hold_up_its_batch_and_fails_in_the_end(at, channel, monkeypatch):
    people = [CustomerFactory(email=f"{number}@x.example") for number in range(5)]
    message = matched(at)
    render = rendering.Copy.render
    poison = message.records.get(customer=people[2])

    def fails(copy, filled, *, record_id):
        if record_id == poison.pk:
            raise MemoryError("What nobody thought of.")
        return render(copy, filled, record_id=record_id)

    monkeypatch.setattr(rendering.Copy, "render", fails)
    hand_over(at)

    poison.refresh_from_db()
    assert len(channel.given) == 4
    assert (poison.status, poison.reason, poison.attempts) == (Status.WAITING, Reason.RETRY, 1)

    for _ in range(10):
        hand_over(poison.due_at or at)
        poison.refresh_from_db()
    assert (poison.status, poison.reason) == (Status.FAILED, Reason.GAVE_UP)


def test_channel_that_is_down_uses_up_no_tries(at, channel):
    for number in range(25):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at)
    channel.answer = refuse(ChannelDown("connection refused"))

    hand_over(at)

    assert len(channel.given) == 1
    assert message.records.counts()["waiting"] == 25
    assert set(message.records.values_list("attempts", flat=True)) == {0}


def test_refused_sender_holds_its_message_and_loses_none_of_it(at, channel):
    for number in range(15):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at, subject="refused")
    matched(at, subject="fine")
    channel.answer = lambda e: refuse(SenderRefused("553 not yours"))(e) if e.subject == "refused" else "id"

    assert hand_over(at) > 0

    assert [envelope.subject for envelope in channel.given].count("fine") == 15
    assert [envelope.subject for envelope in channel.given].count("refused") == 1
    assert set(message.records.values_list("status", "attempts")) == {(Status.WAITING, 0)}
    message.refresh_from_db()
    assert (
        message.problem
        == "Paused: the mail server refuses this sender. Sending resumes once it is accepted. 553 not yours"
    )

    channel.answer = lambda _: "id"
    hand_over(at + timedelta(minutes=1))

    assert message.records.counts()["sent"] == 15
    message.refresh_from_db()
    assert message.problem == ""


def test_channel_that_is_down_rests_for_all_workers_and_nudges_and_longer_the_longer_it_is_down(at, channel):
    for number in range(25):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at)
    channel.answer = refuse(ChannelDown("connection refused"))
    tried = []
    for second in range(600):
        hand_over(at + timedelta(seconds=second))
        if len(channel.given) > len(tried):
            tried.append(second)

    breaks = [later - earlier for earlier, later in pairwise(tried)]
    assert breaks[0] == 5
    assert breaks == sorted(breaks)
    assert breaks[-1] == 60
    assert set(message.records.values_list("attempts", flat=True)) == {0}

    channel.answer = lambda _: "id"
    assert hand_over(at + timedelta(seconds=661)) == 25


@pytest.mark.django_db(transaction=True)
def test_worker_claims_at_most_a_batch_more_than_it_has_connections(at, channel, settings):
    settings.IN_FLIGHT, settings.EMAIL_CONNECTIONS = 4, 3
    for number in range(30):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at)
    in_hand = message.records.filter(status=Status.SENDING)
    held = []
    channel.answer = lambda _: held.append(elsewhere(in_hand.count)) or ""

    assert hand_over(at) == 30
    assert 4 < max(held) <= 4 + 3


def test_abandoned_records_become_uncertain_once_the_lease_is_over(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    sending_batch.claim(message, at=at, token=uuid4())

    sweep.sweep(at=at + claim.LEASE)
    assert message.records.get().status == Status.SENDING
    sweep.sweep(at=at + claim.LEASE + timedelta(seconds=1))
    assert (message.records.get().status, message.records.get().reason) == (Status.UNCERTAIN, Reason.WORKER_DIED)


def test_worker_thought_dead_settles_nothing_when_it_wakes(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    batch = sending_batch.claim(message, at=at, token=uuid4())
    settle.expire_leases(at=at + claim.LEASE * 2)

    settle.settle_batch(batch, outcome.Outcome(sent={batch.records[0].pk: ""}), at=at + claim.LEASE * 2)

    assert message.records.get().status == Status.UNCERTAIN


def test_paused_message_hands_nothing_over(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at)
    lifecycle.pause(message)

    assert hand_over(at) == 0
    assert channel.given == []
    assert message.records.get().why == "The message is paused"


def test_customer_who_unsubscribed_since_the_match_gets_nothing(at, channel):
    ongoing = CustomerFactory(email="ann@x.example")
    message = matched(at)
    one_off = MessageFactory(one_off=True, live=True, at=at)
    ongoing.unsubscribed_from_emails = True
    ongoing.save()

    hand_over(at)

    assert channel.given == []
    assert (message.records.get().status, message.records.get().reason) == (Status.WITHDRAWN, Reason.UNSUBSCRIBED)
    assert (one_off.records.get().status, one_off.records.get().reason) == (Status.SKIPPED, Reason.UNSUBSCRIBED)


def test_archived_customer_gets_nothing(at, channel):
    customer = CustomerFactory(email="ann@x.example")
    message = matched(at, send_type="one_off")
    customer.archived_at = at
    customer.save()

    hand_over(at)

    assert message.records.get().reason == Reason.ARCHIVED


def test_window_that_closed_meanwhile_is_waited_for_again(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at, window=[{"weekday": 0, "from": "09:00", "to": "10:30"}])

    assert hand_over(at.replace(minute=30)) == 0

    record = message.records.get()
    assert (record.reason, record.due_at) == (Reason.WINDOW, (at + timedelta(days=7)).replace(hour=9))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("zone", ["workspace", "customer"])
def test_copies_that_wait_for_a_connection_when_the_window_closes_wait_for_it_to_open(at, channel, settings, zone):
    settings.EMAIL_CONNECTIONS = 1
    for n in range(10):
        CustomerFactory(email=f"{n}@x.example", timezone="UTC")
    window = [{"weekday": 0, "from": "09:00", "to": "10:30"}]
    message = matched(at, window=window, window_zone=zone)
    now, begun, closed = [at], [], []

    def answer(_envelope: Envelope) -> str:
        begun.append(time.monotonic())
        if len(begun) == 2:
            now[0] = at.replace(minute=30)
            closed.append(time.monotonic())
        time.sleep(0.15)
        return ""

    channel.answer = answer
    dispatcher.dispatch(clock=lambda: now[0], until=at + timedelta(hours=1))

    # A copy begins at most half a second after it was checked.
    assert begun[-1] < closed[0] + 0.5
    rest = message.records.exclude(status=Status.SENT)
    assert set(rest.values_list("status", "reason")) == {(Status.WAITING, Reason.WINDOW)}


def test_one_off_that_waited_for_the_window_is_not_rechecked(at, channel):
    customer = CustomerFactory(email="ann@x.example", name="Pro")
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    MessageFactory(one_off=True, rules=[rule("name", "is", "Pro")], window=window, live=True, at=at)
    customer.name = "Free"
    customer.save()

    assert hand_over(at.replace(day=5, hour=9)) == 1


def test_ongoing_record_that_waited_for_the_window_is_rechecked_before_sending(at, channel):
    customer = CustomerFactory(email="ann@x.example", name="Pro")
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = matched(at, rules=[rule("name", "is", "Pro")], window=window)
    customer.name = "Free"
    customer.save()

    assert hand_over(at.replace(day=5, hour=9)) == 0
    assert message.records.get().status == Status.WITHDRAWN


def test_edit_of_a_live_message_applies_to_later_copies(at, channel):
    CustomerFactory(email="ann@x.example")
    message = matched(at, subject="old")
    authoring.revise(message, subject="new", body="<p>new</p>", by=None, at=at)

    hand_over(at)

    assert channel.given[0].subject == "new"
    assert message.records.get().version.number == 2


def test_window_and_sender_of_a_live_message_hold_from_the_next_batch_on(at, channel, settings):
    settings.IN_FLIGHT = 2
    for number in range(6):
        CustomerFactory(email=f"{number}@x.example")
    message = matched(at)
    edited = Message.objects.get()

    send_one_batch(message, clock=lambda: at)
    edited.sender = SenderFactory(email="bob@x.example")
    edited.save()
    send_one_batch(message, clock=lambda: at)
    edited.window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    edited.save()
    send_one_batch(message, clock=lambda: at)
    hand_over(at)

    assert ["bob@" in envelope.sender for envelope in channel.given] == [False, False, True, True]
    assert set(message.records.filter(status=Status.WAITING).values_list("reason", flat=True)) == {Reason.WINDOW}


@pytest.mark.parametrize(("send_type", "status"), [("ongoing", Status.WITHDRAWN), ("one_off", Status.SKIPPED)])
def test_nothing_is_sent_about_an_archived_company(at, channel, send_type, status):
    MembershipFactory(customer__email="ann@x.example")
    message = matched(at, body="<p>{{ company.name }}</p>", send_type=send_type)
    Company.objects.update(archived_at=at)

    hand_over(at)

    assert channel.given == []
    assert (message.records.get().status, message.records.get().reason) == (status, Reason.LEFT_COMPANY)


def test_requeued_record_has_all_its_attempts_again(at, channel):
    customer = CustomerFactory(email="ann@x.example")
    message = matched(at)
    message.records.update(attempts=len(outcome.BACK_OFF))
    Customer.objects.update(unsubscribed_from_emails=True)
    hand_over(at)
    Customer.objects.filter(pk=customer.pk).update(unsubscribed_from_emails=False)
    ongoing_matching.match(message, at=at)
    channel.answer = refuse(Unavailable("451 later"))

    hand_over(at)

    assert (message.records.get().status, message.records.get().attempts) == (Status.WAITING, 1)


def test_one_off_is_sent_once_nothing_is_left(at, channel):
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(one_off=True, live=True, at=at)
    sweep.sweep(at=at)
    message.refresh_from_db()
    assert message.state == "live"
    hand_over(at)
    sweep.sweep(at=at)

    message.refresh_from_db()
    assert message.state == "sent"


def test_small_message_does_not_wait_behind_a_large_one(at, channel):
    for number in range(250):
        CustomerFactory(email=f"{number}@x.example")
    matched(at, subject="large")
    CustomerFactory(email="vip@x.example", name="Vip")
    matched(at, subject="small", rules=[rule("name", "is", "Vip")])

    hand_over(at)

    assert [envelope.subject for envelope in channel.given].index("small") <= 100


@pytest.mark.django_db(transaction=True)
def test_four_workers_hand_over_each_record_once(at, channel):
    from concurrent.futures import ThreadPoolExecutor

    for number in range(60):
        CustomerFactory(email=f"{number}@x.example")
    matched(at)

    def work(_: int) -> int:
        try:
            return hand_over(at)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 60
    assert len({envelope.to for envelope in channel.given}) == len(channel.given) == 60
    assert DeliveryRecord.objects.filter(status=Status.SENT).count() == 60


def test_clock_of_the_window_and_quiet_hours_come_with_the_claim(at, channel):
    for name in "abcdefgh":
        CustomerFactory(email=f"{name}@x.example")
    message = matched(at, window=[{"weekday": 0, "from": "09:00", "to": "17:00"}])

    with CaptureQueriesContext(connection) as asked:
        batch = claim.claim(message, at=at, token=uuid4())

    assert len(batch.records) == 8
    assert sum('FROM "audiences_workspace"' in query["sql"] for query in asked.captured_queries) == 0
