"""Company messages go only to present members of a company that is not archived (behaviour 4.15)."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from audiences import identity_verification, intake
from audiences.models import Company, Customer, Device, Membership, Workspace
from delivery import channels
from delivery.channels import Envelope, Unavailable
from delivery.customers import merge
from delivery.eligibility.explain import Verdict, explain
from delivery.maintenance import sweep
from delivery.matching import direct, launch, lifecycle, ongoing, rounds
from delivery.models import DeliveryRecord, Reason, Status
from delivery.monitoring import invariants
from delivery.sending import batch, dispatcher, uncertain
from delivery.visits import visit as customer_visit
from delivery.visits.fast_path import NeedsFullVisit
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MembershipFactory, MessageFactory, SenderFactory
from tests.support import fcm_server
from tests.support.concurrency import elsewhere
from tests.support.fcm_server import Firebase

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:Message.token is deprecated"),
]
HOUR = timedelta(hours=1)
ABOUT_THE_COMPANY = "<p>{{ company.name }}</p>"
CHANNELS = (Channel.EMAIL, Channel.PUSH, Channel.IN_APP)
SEND_TYPES = ("one_off", "ongoing")
# The result for a record whose customer left the company.
SETTLED = {"one_off": (Status.SKIPPED, Reason.LEFT_COMPANY), "ongoing": (Status.WITHDRAWN, Reason.LEFT_COMPANY)}
EVENINGS = [{"weekday": day, "from": "20:00", "to": "24:00"} for day in range(7)]


class Mailbox:
    """A channel that records its emails and answers as the test decides."""

    def __init__(self) -> None:
        self.given: list[Envelope] = []
        self.answer: Callable[[Envelope], str] = lambda _envelope: "id"

    def send(self, envelope: Envelope) -> str:
        self.given.append(envelope)
        return self.answer(envelope)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def mailbox(monkeypatch) -> Mailbox:
    mailbox = Mailbox()
    monkeypatch.setitem(channels.CHANNELS, Channel.EMAIL, lambda: mailbox)
    return mailbox


@pytest.fixture
def firebase(settings, monkeypatch) -> Iterator[Firebase]:
    with fcm_server.serving(settings, monkeypatch) as server:
        yield server


@pytest.fixture
def ann() -> Customer:
    ann = CustomerFactory(user_id="ann", email="ann@x.example")
    Device.objects.create(customer=ann, token="phone", created_at=ann.created_at)
    MembershipFactory(customer=ann, company__company_id="acme", company__name="Acme")
    return ann


def company_message(at: datetime, **facts) -> Message:
    """A live message with a company variable; ongoing emails and pushes are matched."""
    if facts.get("channel") == Channel.IN_APP:
        facts["format"] = "chat"
    message = MessageFactory(body=ABOUT_THE_COMPANY, live=True, at=at, **facts)
    ongoing.match(message, at=at)
    return message


def leave(at: datetime) -> None:
    intake.identify({"user_id": "ann", "companies": [{"company_id": "acme", "remove": True}]}, at=at)


def archive(at: datetime) -> None:
    Company.objects.filter(company_id="acme").update(archived_at=at)


def come_back(at: datetime) -> None:
    """The application reports the company with the customer again, which also brings an archived company back."""
    intake.identify({"user_id": "ann", "companies": [{"company_id": "acme"}]}, at=at)


WAYS_TO_LEAVE = {"left": leave, "archived": archive}


def work(at: datetime) -> list[str]:
    """Run the periodic work: the hourly round, sending, a visit, the sweep. Return the texts of the visit."""
    rounds.match_ongoing(at=at)
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    shown = [message.body for message in customer_visit.visit(Customer.objects.get(user_id="ann"), at=at).shown]
    sweep.sweep(at=at)
    return shown


def state(message: Message) -> tuple[str, str] | None:
    """Return the status and reason of the one record of a message; None if there is none."""
    return message.records.values_list("status", "reason").first()


def check_that_counts_add_up(message: Message) -> None:
    assert list(invariants.find_violations(at=None)) == []
    if message.send_type == "one_off" and message.to_customer_id is None:
        message.refresh_from_db()
        assert sum(message.records.counts().values()) == message.audience_count


@pytest.fixture
def received(mailbox, firebase) -> Callable[[], int]:
    """Return how many copies reached the customer outside of the messenger."""
    return lambda: len(mailbox.given) + len(firebase.tokens)


@pytest.mark.parametrize("left", WAYS_TO_LEAVE)
@pytest.mark.parametrize("send_type", SEND_TYPES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_nothing_reaches_customers_about_a_company_they_left_or_that_is_archived(
    at, ann, received, channel, send_type, left
):
    message = company_message(at, channel=channel, send_type=send_type)
    WAYS_TO_LEAVE[left](at)

    shown = work(at)

    assert (received(), shown) == (0, [])
    # In-app messages that are ongoing have no record before they are shown.
    in_app_ongoing = (channel, send_type) == (Channel.IN_APP, "ongoing")
    assert state(message) == (None if in_app_ongoing else SETTLED[send_type])
    check_that_counts_add_up(message)
    message.refresh_from_db()
    assert message.state == ("sent" if send_type == "one_off" else "live")


@pytest.mark.parametrize("left", WAYS_TO_LEAVE)
@pytest.mark.parametrize("send_type", SEND_TYPES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_customers_who_return_before_their_turn_get_it(at, ann, received, channel, send_type, left):
    message = company_message(at, channel=channel, send_type=send_type)
    WAYS_TO_LEAVE[left](at)
    come_back(at)

    shown = work(at)

    assert state(message) == (Status.SENT, "")
    assert (received(), shown) == ((0, ["<p>Acme</p>"]) if channel == Channel.IN_APP else (1, []))
    check_that_counts_add_up(message)


@pytest.mark.parametrize("left", WAYS_TO_LEAVE)
@pytest.mark.parametrize("send_type", SEND_TYPES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_customers_who_return_later_get_ongoing_messages_only(at, ann, received, channel, send_type, left):
    message = company_message(at, channel=channel, send_type=send_type)
    WAYS_TO_LEAVE[left](at)
    work(at)
    come_back(at + HOUR)

    shown = work(at + HOUR)

    if send_type == "one_off":
        assert state(message) == SETTLED["one_off"]
        assert (received(), shown) == (0, [])
    else:
        assert state(message) == (Status.SENT, "")
        assert (received(), shown) == ((0, ["<p>Acme</p>"]) if channel == Channel.IN_APP else (1, []))
    check_that_counts_add_up(message)


def test_a_visit_makes_a_withdrawn_email_wait_again(at, ann, mailbox):
    message = company_message(at)
    leave(at)
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    come_back(at)

    customer_visit.visit(Customer.objects.get(user_id="ann"), at=at + HOUR)

    assert state(message) == (Status.WAITING, Reason.QUEUED)


def test_other_companies_of_the_customer_are_unaffected(at, ann, mailbox):
    MembershipFactory(customer=ann, company__name="Beta")
    email = company_message(at, send_type="one_off")
    in_app = company_message(at, channel=Channel.IN_APP, send_type="one_off")
    leave(at)

    assert work(at) == ["<p>Beta</p>"]

    assert [envelope.text.split()[0] for envelope in mailbox.given] == ["Beta"]
    for message in (email, in_app):
        assert message.records.counts() | {"sent": 1, "skipped": 1} == message.records.counts()
        check_that_counts_add_up(message)


@pytest.mark.parametrize("left", WAYS_TO_LEAVE)
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_message_to_one_person_about_a_company_they_left_is_skipped(at, ann, received, channel, left):
    record = direct.send_to_one(
        ann,
        channel=channel,
        format="chat" if channel == Channel.IN_APP else "",
        sender=SenderFactory(),
        subject="Hello",
        body=ABOUT_THE_COMPANY,
        by=None,
        at=at,
        company=Company.objects.get(),
    )
    WAYS_TO_LEAVE[left](at)

    shown = work(at)

    assert (received(), shown) == (0, [])
    assert state(record.message) == SETTLED["one_off"]
    check_that_counts_add_up(record.message)


def test_nothing_is_sent_about_an_archived_company(at, ann):
    archive(at)

    with pytest.raises(ValidationError, match="Acme is archived"):
        direct.send_to_one(
            ann,
            channel=Channel.EMAIL,
            format="",
            sender=SenderFactory(),
            subject="Hello",
            body=ABOUT_THE_COMPANY,
            by=None,
            at=at,
            company=Company.objects.get(),
        )


# Between the match and the hand-over


@pytest.mark.parametrize("send_type", SEND_TYPES)
@pytest.mark.parametrize("channel", [Channel.EMAIL, Channel.PUSH])
def test_membership_is_asked_when_the_window_opens(at, ann, received, channel, send_type):
    message = company_message(at, channel=channel, send_type=send_type, window=EVENINGS)
    assert state(message) == (Status.WAITING, Reason.WINDOW)
    leave(at)

    dispatcher.dispatch(clock=lambda: at.replace(hour=21), until=at.replace(hour=22))

    assert (state(message), received()) == (SETTLED[send_type], 0)


def test_in_app_membership_is_asked_when_it_would_be_shown_and_not_outside_the_window(at, ann):
    message = company_message(at, channel=Channel.IN_APP, send_type="one_off", window=EVENINGS)
    leave(at)
    assert work(at) == []
    assert state(message) == (Status.WAITING, Reason.VISIT)

    assert work(at.replace(hour=21)) == []

    assert state(message) == SETTLED["one_off"]


@pytest.mark.parametrize("send_type", SEND_TYPES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_paused_message_settles_nothing_and_asks_for_membership_once_it_is_resumed(
    at, ann, received, channel, send_type
):
    message = company_message(at, channel=channel, send_type=send_type)
    before = state(message)
    lifecycle.pause(message)
    leave(at)
    work(at + HOUR)
    assert state(message) == before

    message.refresh_from_db()
    message_lifecycle.resume(message, at=at + HOUR)
    shown = work(at + HOUR)

    assert (received(), shown) == (0, [])
    assert state(message) == (before and SETTLED[send_type])
    check_that_counts_add_up(message)


@pytest.mark.parametrize("send_type", SEND_TYPES)
def test_a_copy_that_is_tried_again_goes_only_to_members(at, ann, mailbox, send_type):
    message = company_message(at, send_type=send_type)

    def later(_envelope: Envelope) -> str:
        raise Unavailable("451 later")

    mailbox.answer = later
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    assert state(message) == (Status.WAITING, Reason.RETRY)
    leave(at)

    work(at + HOUR)

    assert (state(message), len(mailbox.given)) == (SETTLED[send_type], 1)


@pytest.mark.parametrize("send_type", SEND_TYPES)
def test_an_uncertain_copy_that_staff_send_again_goes_only_to_members(at, ann, mailbox, send_type):
    message = company_message(at, send_type=send_type)

    def lost(_envelope: Envelope) -> str:
        raise RuntimeError("the connection was lost")

    mailbox.answer = lost
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    leave(at)
    uncertain.send_again(message.records.all(), at=at + HOUR)
    assert state(message) == (Status.WAITING, Reason.QUEUED)

    dispatcher.dispatch(clock=lambda: at + HOUR, until=at + HOUR + timedelta(seconds=1))

    assert (state(message), len(mailbox.given)) == (SETTLED[send_type], 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("send_type", SEND_TYPES)
def test_customers_who_leave_during_their_batch_get_nothing(at, ann, mailbox, settings, send_type):
    settings.EMAIL_CONNECTIONS = 1
    for number in range(3):
        MembershipFactory(customer__email=f"{number}@x.example", company=Company.objects.get())
    message = company_message(at, send_type=send_type)

    def everybody_leaves(_envelope: Envelope) -> str:
        elsewhere(Membership.objects.all().delete)
        # Longer than a check is valid.
        time.sleep(1.2 * batch.CHECK_VALID_FOR)
        return "id"

    mailbox.answer = everybody_leaves
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(minutes=1))

    assert len(mailbox.given) == 1
    settled = message.records.exclude(status=Status.SENT).values_list("status", "reason", "attempts")
    assert list(settled) == [(*SETTLED[send_type], 0)] * 3
    check_that_counts_add_up(message)


def test_a_batch_in_hand_asks_for_all_memberships_in_one_statement(at, ann, mailbox):
    for number in range(5):
        MembershipFactory(customer__email=f"{number}@x.example", company=Company.objects.get())
    company_message(at)
    moments = iter([at] * 10 + [at + batch.PAUSE_CHECK_INTERVAL] * 1000)

    with CaptureQueriesContext(connection) as asked:
        dispatcher.dispatch(clock=lambda: next(moments), until=at + timedelta(seconds=1))

    assert len(mailbox.given) == 6
    assert sum("audiences_membership" in query["sql"] for query in asked) <= 2


@pytest.mark.parametrize("send_type", SEND_TYPES)
def test_a_push_that_one_device_has_is_sent_and_goes_to_no_other_device(at, ann, firebase, send_type):
    Device.objects.create(customer=ann, token="tablet", created_at=at)
    firebase.says("tablet", fcm_server.BUSY)
    message = company_message(at, channel=Channel.PUSH, send_type=send_type)
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    assert state(message) == (Status.WAITING, Reason.RETRY)
    leave(at)

    work(at + HOUR)

    assert state(message) == (Status.SENT, "")
    assert sorted(firebase.tokens) == ["phone", "tablet"]


def test_members_are_asked_for_in_the_sample_and_in_the_rest(at, ann, mailbox):
    other = MembershipFactory(customer__email="bea@x.example", company=Company.objects.get()).customer
    message = MessageFactory(body=ABOUT_THE_COMPANY, one_off=True, at=at)
    launch.launch(message, at=at, sample=1)
    sampled = message.records.get().customer
    Membership.objects.filter(customer=sampled).delete()
    work(at)
    assert state(message) == SETTLED["one_off"]

    launch.send_to_rest(message, at=at + HOUR)
    Membership.objects.all().delete()
    work(at + HOUR)

    assert mailbox.given == []
    rest = message.records.get(customer=other if sampled == ann else ann)
    assert (rest.status, rest.reason) == SETTLED["one_off"]
    # The sampled customer has left all companies, and is in the rest as well, without a copy.
    assert message.records.filter(status=Status.SKIPPED).count() == message.records.count() == 3
    check_that_counts_add_up(message)


@pytest.mark.parametrize("is_member", [True, False])
def test_the_record_of_a_lead_who_becomes_a_user_goes_by_the_memberships_of_both(at, ann, mailbox, is_member):
    lead = MembershipFactory(customer__lead=True, customer__email="lead@x.example", company=Company.objects.get())
    Membership.objects.filter(customer=ann).delete()
    role = {"attribute": "role", "operator": "is", "value": "lead"}
    message = company_message(at, send_type="one_off", rules=[role])
    if not is_member:
        lead.delete()

    merge.merge(lead.customer, into=ann, at=at)
    work(at)

    assert state(message) == ((Status.SENT, "") if is_member else SETTLED["one_off"])
    assert len(mailbox.given) == is_member
    check_that_counts_add_up(message)


def test_records_of_former_members_take_no_room_under_the_cap(at, ann):
    Workspace.current()
    Workspace.objects.update(cap_messages=1, cap_days=7)
    about = company_message(at, channel=Channel.IN_APP, send_type="one_off")
    other = MessageFactory(in_app=True, one_off=True, body="<p>Hello</p>", live=True, at=at)
    leave(at)

    assert work(at) == ["<p>Hello</p>"]

    assert state(about) == SETTLED["one_off"]
    assert state(other) == (Status.SENT, "")


def test_message_once_shown_stays_shown_until_it_is_opened(at, ann):
    company_message(at, channel=Channel.IN_APP, send_type="one_off")
    assert work(at) == ["<p>Acme</p>"]
    leave(at)

    assert work(at + HOUR) == ["<p>Acme</p>"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_short", [True, False])
def test_neither_way_of_a_visit_shows_a_company_message_to_former_members(ann, monkeypatch, is_short):
    secret = Workspace.current().identity_secret
    user = {"user_id": "ann", "user_hash": identity_verification.user_hash(secret, "ann")}
    ping = {"user": user}
    APIClient().post("/messenger/ping", ping, format="json")
    message = company_message(timezone.now(), channel=Channel.IN_APP, send_type="one_off")
    # The first visit compiles the live messages.
    APIClient().post("/messenger/ping", {"user": {"email": "other@x.example"}}, format="json")
    bob = {"user_id": "bob", "user_hash": identity_verification.user_hash(secret, "bob")}
    APIClient().post("/messenger/ping", {"user": bob}, format="json")
    leave(timezone.now())

    def other_way(*_args: object, **_facts: object) -> None:
        raise NeedsFullVisit if not is_short else AssertionError("The visit did not take the fast path.")

    monkeypatch.setattr(customer_visit, "full_visit" if is_short else "fast_visit", other_way)
    answer = APIClient().post("/messenger/ping", ping, format="json")

    assert answer.status_code == 200, answer.content
    assert answer.json()["messages"] == []
    assert state(message) == SETTLED["one_off"]


def test_a_visit_that_says_the_customer_left_shows_nothing_about_that_company(at, ann):
    message = company_message(at, channel=Channel.IN_APP, send_type="one_off")
    facts = {"user_id": "ann", "companies": [{"company_id": "acme", "remove": True}]}

    visit = customer_visit.visit_identified(lambda: (intake.identify(facts, at=at), None), at=at)

    assert (visit.shown, state(message)) == ([], SETTLED["one_off"])


# Why


@pytest.mark.parametrize("left", WAYS_TO_LEAVE)
@pytest.mark.parametrize("send_type", SEND_TYPES)
def test_why_says_that_they_left_before_and_after_it_is_settled(at, ann, send_type, left):
    message = company_message(at, send_type=send_type)

    def verdict() -> Verdict:
        cases = explain(message, ann, at=at).cases
        return next(case.verdict for case in cases if case.record)

    assert verdict() is Verdict.WAITING
    WAYS_TO_LEAVE[left](at)
    assert verdict() is Verdict.LEFT_COMPANY
    work(at)
    assert verdict() is (Verdict.SKIPPED if send_type == "one_off" else Verdict.LEFT_COMPANY)
    come_back(at)
    assert verdict() is (Verdict.SKIPPED if send_type == "one_off" else Verdict.NEXT_CHECK)


def test_no_record_of_another_message_is_touched(at, ann):
    plain = MessageFactory(one_off=True, live=True, at=at)
    leave(at)

    work(at)

    assert state(plain) == (Status.SENT, "")
    assert not DeliveryRecord.objects.filter(reason=Reason.LEFT_COMPANY).exists()
