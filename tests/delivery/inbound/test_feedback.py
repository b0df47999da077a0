"""Feedback on sent emails: every transition once, repeated and in any order."""

from datetime import timedelta
from itertools import permutations
from uuid import UUID

import pytest
from django.db import connection

from audiences.models import Customer, Suppression
from delivery import rendering, reply_addresses
from delivery.conversations import threads
from delivery.customers import erase
from delivery.inbound import dsn, feedback, router
from delivery.inbound.feedback import HANDLERS, Feedback, FeedbackType
from delivery.inbound.router import Outcome
from delivery.models import AnswerMail, DeliveryRecord, Reason, Status
from delivery.reply_addresses import Referent, ReferentKind
from delivery.tracking import links, preferences
from tests.factories import CustomerFactory, MessageFactory, TopicFactory
from tests.support.inbound_emails import parse_email, reply_sample, sample_email, to_bounce_address, with_headers
from tests.support.records import mark_records_sent
from tests.support.rows import rolled_back

pytestmark = pytest.mark.django_db

CLAIM = UUID("00000000-0000-0000-0000-000000000001")
LEFT = timedelta(minutes=-30)


@pytest.fixture(autouse=True)
def bounces(settings) -> None:
    settings.BOUNCE_DOMAIN = "bounce.acme.example"


@pytest.fixture
def record(at) -> DeliveryRecord:
    """An email that is being sent to Ann."""
    CustomerFactory(user_id="ann", email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at + LEFT).records.get()
    DeliveryRecord.objects.filter(pk=record.pk).update(
        status=Status.SENDING, claim=CLAIM, leased_until=at, taken_at=at + LEFT, address="ann@x.example", attempts=1
    )
    record.refresh_from_db()
    return record


def set_status(record: DeliveryRecord, status: Status, *, at) -> None:
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    {
        Status.SENDING: lambda: None,
        Status.SENT: lambda: mark_records_sent(rows, at=at + LEFT),
        Status.UNCERTAIN: lambda: rows.mark_uncertain(reason=Reason.LOST_TOUCH, detail="lost"),
        Status.FAILED: lambda: rows.mark_failed(reason=Reason.REJECTED, detail="550 no"),
        Status.WAITING: lambda: rows.put_back(reason=Reason.RETRY, due_at=at, detail="451 later"),
    }[status]()


def make_feedback(what: FeedbackType, *, at, **facts) -> Feedback:
    return Feedback(type=what, at=at, **{"address": "ann@x.example", **facts})


def state(record: DeliveryRecord) -> dict[str, object]:
    """Return the relevant facts of a record, with timestamps reduced to whether they are set."""
    record.refresh_from_db()
    customer = Customer.objects.get(pk=record.customer_id)
    moments = ("bounced_at", "complained_at", "unsubscribed_at")
    flags = ("has_hard_bounced", "marked_email_as_spam", "unsubscribed_from_emails")
    return {
        "status": Status(record.status),
        "happened": {name.removesuffix("_at") for name in moments if getattr(record, name)},
        "flags": {name for name in flags if getattr(customer, name)},
    }


NOTHING: set[str] = set()
BOUNCED = {"bounced"}
HARD = {"has_hard_bounced"}
SPAM = {"marked_email_as_spam", "unsubscribed_from_emails"}
COMPLAINED = {"complained", "unsubscribed"}
OUT = {"unsubscribed_from_emails"}

# Feedback, status after, timestamps set on the record, flags set on the customer.
ON_SENT = [
    (FeedbackType.ACCEPTED, Status.SENT, NOTHING, NOTHING),
    (FeedbackType.BOUNCED, Status.SENT, BOUNCED, NOTHING),
    (FeedbackType.NO_MAILBOX, Status.SENT, BOUNCED, HARD),
    (FeedbackType.REFUSED, Status.SENT, BOUNCED, NOTHING),
    (FeedbackType.REFUSED_NO_MAILBOX, Status.SENT, BOUNCED, HARD),
    (FeedbackType.COMPLAINED, Status.SENT, COMPLAINED, SPAM),
    (FeedbackType.UNSUBSCRIBED, Status.SENT, {"unsubscribed"}, OUT),
    (FeedbackType.DOUBTFUL, Status.SENT, NOTHING, NOTHING),
]


def changed(rows, **changes):
    """Return the rows with other results for some kinds of feedback."""
    by_type = {what: (what, *rest) for what, *rest in rows}
    return [*(by_type | {FeedbackType[name]: (FeedbackType[name], *rest) for name, rest in changes.items()}).values()]


ON_UNSETTLED = changed(
    ON_SENT,
    REFUSED=(Status.FAILED, NOTHING, NOTHING),
    REFUSED_NO_MAILBOX=(Status.FAILED, BOUNCED, HARD),
)
BY_STATUS = {
    Status.SENT: ON_SENT,
    Status.UNCERTAIN: ON_UNSETTLED,
    # The webhook arrives before the worker has its answer.
    Status.SENDING: ON_UNSETTLED,
    # Settled records do not change.
    Status.FAILED: [
        (what, Status.FAILED, NOTHING if what == FeedbackType.BOUNCED else happened, flags)
        for what, _, happened, flags in ON_UNSETTLED
    ],
    # The record waits for a retry, and its email turns out to have left; or another record may be sent instead.
    Status.WAITING: changed(
        ON_SENT,
        REFUSED=(Status.WAITING, NOTHING, NOTHING),
        REFUSED_NO_MAILBOX=(Status.WAITING, BOUNCED, HARD),
    ),
}
EDGES = [(before, *row) for before, rows in BY_STATUS.items() for row in rows]


@pytest.mark.parametrize("times", [1, 3], ids=["once", "thrice"])
def test_every_transition_once_and_repeated(record, at, subtests, times):
    for before, what, after, happened, flags in EDGES:
        with subtests.test(before=before, what=what), rolled_back():
            set_status(record, before, at=at)

            for _ in range(times):
                assert feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), make_feedback(what, at=at))

            assert state(record) == {"status": after, "happened": happened, "flags": flags}


def test_every_transition_is_tested():
    assert set(HANDLERS) == set(FeedbackType)
    statuses = {before for before, *_ in EDGES}
    assert {(before, what) for before, what, *_ in EDGES} == {
        (before, what) for before in statuses for what in FeedbackType
    }


ORDERS = [
    ({FeedbackType.ACCEPTED, FeedbackType.NO_MAILBOX}, Status.SENT, BOUNCED, HARD),
    ({FeedbackType.ACCEPTED, FeedbackType.BOUNCED, FeedbackType.NO_MAILBOX}, Status.SENT, BOUNCED, HARD),
    ({FeedbackType.ACCEPTED, FeedbackType.COMPLAINED}, Status.SENT, COMPLAINED, SPAM),
    ({FeedbackType.COMPLAINED, FeedbackType.UNSUBSCRIBED, FeedbackType.ACCEPTED}, Status.SENT, COMPLAINED, SPAM),
    (
        {FeedbackType.NO_MAILBOX, FeedbackType.COMPLAINED, FeedbackType.ACCEPTED},
        Status.SENT,
        BOUNCED | COMPLAINED,
        HARD | SPAM,
    ),
]


@pytest.mark.parametrize("before", [Status.SENT, Status.UNCERTAIN])
def test_order_of_feedback_does_not_matter(record, at, subtests, before):
    for order, after, happened, flags in (
        (order, *rest) for whats, *rest in ORDERS for order in permutations(sorted(whats))
    ):
        with subtests.test(order=order), rolled_back():
            set_status(record, before, at=at)

            # Each event keeps its own time in any order, and the first one is repeated at the end.
            when = {what: at + timedelta(minutes=minute) for minute, what in enumerate(sorted(order))}
            for what in (*order, order[0]):
                feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), make_feedback(what, at=when[what]))

            assert state(record) == {"status": after, "happened": happened, "flags": flags}


def test_record_that_was_never_claimed_is_not_cancelled(record, at):
    DeliveryRecord.objects.update(status=Status.WAITING, claim=None, leased_until=None, taken_at=None, due_at=at)

    feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.ACCEPTED, at=at))

    assert state(record)["status"] is Status.WAITING


def test_of_two_records_at_one_address_the_sent_one_stays(record, at):
    set_status(record, Status.WAITING, at=at)
    twin = CustomerFactory(email="ann@x.example")
    DeliveryRecord.objects.create(
        message=record.message, customer=twin, status=Status.SENT, sent_at=at, matched_at=at, address="ann@x.example"
    )

    assert feedback.record_feedback(
        Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.ACCEPTED, at=at)
    )

    assert state(record)["status"] is Status.WAITING


# Repetitions do not undo later changes by people


def test_repeated_bounce_does_not_set_a_cleared_flag_again(record, at):
    set_status(record, Status.SENT, at=at)
    bounced = make_feedback(FeedbackType.NO_MAILBOX, at=at)
    feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), bounced)
    Suppression.objects.all().lift(at=at)

    feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), bounced)

    assert state(record)["flags"] == NOTHING


def test_repeated_complaint_does_not_unsubscribe_again(record, at):
    set_status(record, Status.SENT, at=at)
    for what in (FeedbackType.UNSUBSCRIBED, FeedbackType.COMPLAINED):
        feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), make_feedback(what, at=at))
    links.subscribe_again(record, at=at)

    for what in (FeedbackType.UNSUBSCRIBED, FeedbackType.COMPLAINED):
        feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), make_feedback(what, at=at))

    assert state(record)["flags"] == {"marked_email_as_spam"}


def test_complaint_after_an_opt_out_of_the_topic_still_unsubscribes_from_everything(at):
    CustomerFactory(email="ann@x.example")
    record = MessageFactory(topic=TopicFactory(), one_off=True, live=True, at=at).records.get()
    mark_records_sent(DeliveryRecord.objects.all(), at=at)
    preferences.unsubscribe_from_message(record, at=at)
    assert not Customer.objects.get(pk=record.customer_id).unsubscribed_from_emails

    feedback.record_feedback(
        Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.COMPLAINED, at=at + timedelta(days=1))
    )

    assert Customer.objects.get(pk=record.customer_id).unsubscribed_from_emails


def test_providers_unsubscribe_after_opt_outs_of_the_topic_unsubscribes_from_everything_once(at, subtests):
    topic = TopicFactory()
    ann = CustomerFactory(email="ann@x.example")
    first, second = (MessageFactory(topic=topic, one_off=True, live=True, at=at).records.get() for _ in range(2))
    mark_records_sent(DeliveryRecord.objects.all(), at=at)
    minute = timedelta(minutes=1)

    def opts_out_by_both() -> None:
        preferences.unsubscribe_from_message(first, at=at)
        preferences.unsubscribe_from_message(second, at=at + minute)

    def changes_her_mind() -> None:
        preferences.unsubscribe_from_message(second, at=at)
        preferences.change_topics(second, subscribed_to=[topic], at=at + minute)
        preferences.unsubscribe_from_message(second, at=at + 2 * minute)

    def subscribes_again_after_another_unsubscribe() -> None:
        opts_out_by_both()
        links.unsubscribe(first, at=at + 2 * minute)
        links.subscribe_again(first, at=at + 3 * minute)

    for does in (opts_out_by_both, changes_her_mind, subscribes_again_after_another_unsubscribe):
        with subtests.test(does=does.__name__), rolled_back():
            does()
            assert not Customer.objects.get(pk=ann.pk).unsubscribed_from_emails
            event = make_feedback(FeedbackType.UNSUBSCRIBED, at=at + timedelta(hours=1))
            feedback.record_feedback(Referent(ReferentKind.RECORD, second.pk), event)
            assert Customer.objects.get(pk=ann.pk).unsubscribed_from_emails

            links.subscribe_again(second, at=at + timedelta(hours=2))
            feedback.record_feedback(Referent(ReferentKind.RECORD, second.pk), event)
            assert not Customer.objects.get(pk=ann.pk).unsubscribed_from_emails


def test_hard_bounce_may_follow_a_soft_one(record, at):
    set_status(record, Status.SENT, at=at)
    feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.BOUNCED, at=at))

    feedback.record_feedback(
        Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.NO_MAILBOX, at=at + timedelta(days=1))
    )

    assert state(record)["flags"] == HARD
    assert record.bounced_at == at + timedelta(days=1)


def test_bounce_of_a_former_address_sets_no_flag(record, at):
    set_status(record, Status.SENT, at=at)
    Customer.objects.update(email="ann@new.example")

    feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.NO_MAILBOX, at=at))

    assert state(record) == {"status": Status.SENT, "happened": BOUNCED, "flags": NOTHING}


def test_provider_id_is_recorded_with_the_first_event(record, at):
    set_status(record, Status.UNCERTAIN, at=at)

    feedback.record_feedback(
        Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.ACCEPTED, at=at, provider_id="pm-1")
    )
    feedback.record_feedback(
        Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.ACCEPTED, at=at, provider_id="other")
    )

    record.refresh_from_db()
    assert record.provider_id == "pm-1"
    assert feedback.find_referent(message_ids=("<else@x.example>",), provider_id="pm-1") == (
        ReferentKind.RECORD,
        record.pk,
    )


def test_lookup_by_provider_id_uses_an_index():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = DeliveryRecord.objects.named_by_provider("pm-1").values("pk").explain()

    assert "record_of_provider" in plan


def test_refusal_keeps_the_providers_reason(record, at):
    set_status(record, Status.UNCERTAIN, at=at)

    feedback.record_feedback(
        Referent(ReferentKind.RECORD, record.pk), make_feedback(FeedbackType.REFUSED, at=at, detail="on our list")
    )

    record.refresh_from_db()
    assert (record.reason, record.detail) == (Reason.REJECTED, "on our list")


def test_feedback_on_a_missing_record_is_ignored(at):
    assert not feedback.record_feedback(
        Referent(ReferentKind.RECORD, 4_000_000), make_feedback(FeedbackType.ACCEPTED, at=at)
    )
    assert not feedback.record_feedback(
        Referent(ReferentKind.ANSWER, 4_000_000), make_feedback(FeedbackType.ACCEPTED, at=at)
    )
    assert not feedback.record_feedback(
        Referent(ReferentKind.CONVERSATION, 1), make_feedback(FeedbackType.ACCEPTED, at=at)
    )


def test_message_id_is_valid_after_a_key_rotation(record, settings):
    message_id = rendering.message_id(record.pk)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]

    assert reply_addresses.referent_of_message_id(message_id) == (ReferentKind.RECORD, record.pk)
    settings.SECRET_KEY_FALLBACKS = []
    assert reply_addresses.referent_of_message_id(message_id) is None


@pytest.mark.parametrize(
    "forged", ["<1.aaaaaaaaaaaaaaaa@acme.example>", "<1@acme.example>", "", "<>", "<note.1.abc@x>"]
)
def test_foreign_message_id_has_no_referent(forged):
    assert reply_addresses.referent_of_message_id(forged) is None


# Answer emails

ANSWERS = [
    (Status.UNCERTAIN, FeedbackType.ACCEPTED, Status.SENT, NOTHING),
    (Status.UNCERTAIN, FeedbackType.NO_MAILBOX, Status.FAILED, HARD),
    (Status.SENT, FeedbackType.BOUNCED, Status.FAILED, NOTHING),
    (Status.SENT, FeedbackType.NO_MAILBOX, Status.FAILED, HARD),
    (Status.SENT, FeedbackType.COMPLAINED, Status.SENT, {"marked_email_as_spam"}),
    (Status.FAILED, FeedbackType.ACCEPTED, Status.FAILED, NOTHING),
]


@pytest.mark.parametrize(("before", "what", "after", "flags"), ANSWERS)
def test_feedback_on_an_answer_email(at, django_user_model, before, what, after, flags):
    customer = CustomerFactory(email="ann@x.example")
    conversation = threads.open_by_customer(customer, body="Help!", at=at)
    teammate = django_user_model.objects.create_user("ada")
    part = threads.reply_by_teammate(conversation, teammate=teammate, body="Here", at=at)
    AnswerMail.objects.update(status=before)

    for _ in range(2):
        assert feedback.record_feedback(
            Referent(ReferentKind.ANSWER, part.pk), make_feedback(what, at=at, detail="550 no")
        )

    customer.refresh_from_db()
    held = {"has_hard_bounced", "marked_email_as_spam"}
    assert (AnswerMail.objects.get().status, {name for name in held if getattr(customer, name)}) == (after, flags)


# Reports by email

POSTFIX = {"action": "failed", "status": "5.1.1", "said": "550 5.1.1 <ann@x.example>: Recipient address rejected"}
BY_MAIL = [
    ("bounce_postfix", POSTFIX, BOUNCED, HARD),
    ("bounce_postfix", {**POSTFIX, "status": "5.2.2", "said": "552 5.2.2 mailbox is full"}, BOUNCED, NOTHING),
    ("bounce_postfix", {**POSTFIX, "status": "5.7.1", "said": "554 5.7.1 spam"}, BOUNCED, NOTHING),
    ("bounce_postfix", {**POSTFIX, "status": "4.4.1", "said": "connect timed out"}, BOUNCED, NOTHING),
    ("bounce_postfix", {**POSTFIX, "action": "delayed", "status": "4.4.1", "said": "later"}, NOTHING, NOTHING),
    ("bounce_postfix", {**POSTFIX, "action": "delivered", "status": "2.0.0", "said": "250 ok"}, NOTHING, NOTHING),
    ("bounce_exchange_headers_only", {}, BOUNCED, HARD),
    ("bounce_exim_without_report", {}, BOUNCED, HARD),
    ("complaint_arf", {"feedback": "abuse"}, COMPLAINED, SPAM),
    ("complaint_arf", {"feedback": "opt-out"}, {"unsubscribed"}, OUT),
]


@pytest.mark.parametrize("before", [Status.SENT, Status.UNCERTAIN])
@pytest.mark.parametrize(("name", "marks", "happened", "flags"), BY_MAIL)
def test_reports_of_mail_servers_are_parsed(record, at, before, name, marks, happened, flags):
    set_status(record, before, at=at)
    mail = reply_sample(record, name, **marks)

    for _ in range(2):
        assert router.receive(to_bounce_address(record, mail), at=at + timedelta(days=1)) is Outcome.NOTICE

    assert state(record) == {"status": Status.SENT, "happened": happened, "flags": flags}


def test_bounce_report_contains_time_address_and_reason(record, at):
    found = dsn.read_notices(parse_email(reply_sample(record, "bounce_postfix", **POSTFIX)), at=at + timedelta(days=1))

    assert [
        (notice.referent, notice.feedback.at, notice.feedback.address, notice.feedback.detail) for notice in found
    ] == [
        (
            (ReferentKind.RECORD, record.pk),
            at + timedelta(seconds=7),
            "ann@x.example",
            "550 5.1.1 <ann@x.example>: Recipient address rejected",
        )
    ]


def test_bounce_is_identified_by_its_bounce_address_alone(record, at):
    set_status(record, Status.SENT, at=at)
    mail = reply_sample(record, "bounce_postfix", **POSTFIX, message_id="<rewritten@relay.example>")

    assert router.receive(parse_email(mail), at=at) is Outcome.NOTICE

    assert state(record)["flags"] == HARD


def test_not_spam_report_is_not_a_complaint(record, at):
    set_status(record, Status.SENT, at=at)

    router.receive(to_bounce_address(record, reply_sample(record, "complaint_arf", feedback="not-spam")), at=at)

    assert state(record) == {"status": Status.SENT, "happened": NOTHING, "flags": NOTHING}


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("bounce_postfix", {**POSTFIX, "return_path": "ada@acme.example"}),
        ("bounce_exchange_headers_only", {}),
        ("bounce_exim_without_report", {}),
        ("complaint_arf", {"feedback": "abuse"}),
    ],
)
def test_report_about_a_foreign_email_changes_nothing(record, at, name, marks):
    set_status(record, Status.SENT, at=at)
    mail = sample_email(name, reply_to="ada@acme.example", **marks)

    assert router.receive(parse_email(mail), at=at) is Outcome.FOREIGN

    assert state(record) == {"status": Status.SENT, "happened": NOTHING, "flags": NOTHING}


def test_notice_that_is_not_understood_is_shown_to_staff_and_flags_nobody(record, at):
    set_status(record, Status.SENT, at=at)
    mail = b"From: MAILER-DAEMON@mx.x.example\r\nSubject: Hello\r\nMessage-ID: <1@x>\r\n\r\nYour request was noted.\r\n"

    assert router.receive(to_bounce_address(record, mail), at=at) is Outcome.DOUBTFUL

    assert state(record) == {"status": Status.SENT, "happened": NOTHING, "flags": NOTHING}
    assert record.why == feedback.DOUBTFUL_NOTICE


def test_truncated_report_is_not_a_reply(record, at):
    mail = reply_sample(record, "bounce_postfix", **POSTFIX)

    for end in range(0, len(mail), 97):
        if mail[:end].strip():
            assert router.receive(parse_email(mail[:end] + b"\r\n\r\n"), at=at) is not Outcome.REPLY


def test_bounce_of_an_erased_customer_changes_nothing(record, at):
    set_status(record, Status.SENT, at=at)
    erase.erase(record.customer, at=at)

    router.receive(parse_email(reply_sample(record, "bounce_postfix", **POSTFIX)), at=at)

    customer = Customer.objects.get()
    assert (customer.email, record.__class__.objects.get().bounced_at is not None) == (None, True)


def test_vacation_note_to_the_return_path_is_not_a_bounce(record, at):
    set_status(record, Status.SENT, at=at)
    mail = with_headers(
        reply_sample(record, "vacation_gmail"), To=reply_addresses.return_path(ReferentKind.RECORD, record.pk)
    )

    assert router.receive(parse_email(mail), at=at) is Outcome.AUTO_REPLY

    assert state(record)["happened"] == NOTHING
