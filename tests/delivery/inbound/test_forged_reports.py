"""Forged reports: anyone can write one, so reports count only at addresses that only servers know."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.db.migrations import RunSQL
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from audiences.models import Customer
from delivery import rendering, reply_addresses
from delivery.conversations import threads
from delivery.inbound import router
from delivery.inbound.router import Outcome
from delivery.models import AnswerMail, ConversationPart, DeliveryRecord, Status, Upgrade
from delivery.reply_addresses import Purpose, ReferentKind
from tests.factories import CustomerFactory, MessageFactory
from tests.support.inbound_emails import parse_email, reply_sample, sample_email, to_bounce_address, with_headers
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db

FEEDBACK = "fbl@acme.example"
DAY = timedelta(days=1)
CLAIM = UUID(int=1)
POSTFIX = {"action": "failed", "status": "5.1.1", "said": "550 5.1.1 no such user"}
# Each kind of report that servers send.
REPORTS = {
    "bounce": ("bounce_postfix", POSTFIX),
    "delivery": ("bounce_postfix", {**POSTFIX, "action": "delivered", "status": "2.0.0", "said": "250 ok"}),
    "bounce with headers": ("bounce_exchange_headers_only", {}),
    "bounce in words": ("bounce_exim_without_report", {}),
    "complaint": ("complaint_arf", {"feedback": "abuse"}),
    "wish to get no more": ("complaint_arf", {"feedback": "opt-out"}),
}
COMPLAINTS = ("complaint", "wish to get no more")
FLAGS = ("has_hard_bounced", "marked_email_as_spam", "unsubscribed_from_emails")


@pytest.fixture(autouse=True)
def domains(settings, tmp_path) -> None:
    settings.BOUNCE_DOMAIN, settings.INBOUND_DOMAIN = "bounce.acme.example", "reply.acme.example"
    settings.FEEDBACK_ADDRESS, settings.MEDIA_ROOT = FEEDBACK, tmp_path


@pytest.fixture
def record(at) -> DeliveryRecord:
    """An email that Ann has in her inbox."""
    CustomerFactory(user_id="ann", email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at).records.get()
    DeliveryRecord.objects.filter(pk=record.pk).update(status=Status.SENDING, claim=CLAIM, leased_until=at, taken_at=at)
    mark_records_sent(DeliveryRecord.objects.filter(pk=record.pk), at=at)
    record.refresh_from_db()
    return record


@pytest.fixture
def upgraded():
    """Set the time of this installation's upgrade; None if there was none."""

    def upgraded(at: datetime | None) -> None:
        Upgrade.objects.filter(name=Upgrade.BOUNCE_TOKENS).delete()
        if at is not None:
            Upgrade.objects.create(name=Upgrade.BOUNCE_TOKENS, at=at)

    return upgraded


def stored_facts() -> list[dict]:
    """Return everything that a report could change, and every reply that it could be taken for."""
    rows = (Customer, DeliveryRecord, AnswerMail, ConversationPart)
    return [row for model in rows for row in model.objects.order_by("pk").values()]


def flags() -> set[str]:
    customer = Customer.objects.get()
    return {name for name in FLAGS if getattr(customer, name)}


def report(record: DeliveryRecord, kind: str, **marks: str) -> bytes:
    name, own = REPORTS[kind]
    return reply_sample(record, name, **{"return_path": "ada@acme.example", **own, **marks})


def rewritten(address: str) -> str:
    """Return the bounce address that a forger derives from a reply address."""
    return address.replace("reply+", "bounce+").replace("@reply.", "@bounce.")


# At a reply address


@pytest.mark.parametrize("envelope", ["known", "unknown"])
@pytest.mark.parametrize("kind", REPORTS)
def test_report_at_a_reply_address_changes_nothing_and_is_not_a_reply(record, at, caplog, kind, envelope):
    before = stored_facts()
    address = reply_addresses.reply_address(record)
    mail = with_headers(report(record, kind), To=address, Delivered_To=address, X_Original_To=None)

    outcome = router.receive(parse_email(mail, recipient=address if envelope == "known" else ""), at=at + DAY)

    assert (outcome, stored_facts()) == (Outcome.UNPROVEN, before)
    assert "so it is ignored" in caplog.text
    assert "ann@x.example" not in caplog.text


@pytest.mark.parametrize("kind", REPORTS)
def test_report_with_our_message_id_at_a_foreign_address_changes_nothing(record, at, kind):
    before = stored_facts()

    assert router.receive(parse_email(report(record, kind)), at=at + DAY) is Outcome.UNPROVEN

    assert stored_facts() == before


@pytest.mark.parametrize("quoted", ["Reply-To", "Return-Path"])
@pytest.mark.parametrize("kind", REPORTS)
def test_our_address_in_the_returned_email_proves_nothing(record, at, kind, quoted):
    before = stored_facts()
    address = {
        "Reply-To": reply_addresses.reply_address(record),
        "Return-Path": reply_addresses.return_path(ReferentKind.RECORD, record.pk),
    }[quoted]

    router.receive(parse_email(report(record, kind, message_id=f"<1@x.example>\n{quoted}: <{address}>")), at=at + DAY)

    assert stored_facts() == before


@pytest.mark.parametrize("kind", REPORTS)
def test_report_about_an_answer_at_the_reply_address_of_its_conversation_changes_nothing(at, django_user_model, kind):
    conversation = threads.open_by_customer(CustomerFactory(email="ann@x.example"), body="Help!", at=at)
    teammate = django_user_model.objects.create_user("ada")
    threads.reply_by_teammate(conversation, teammate=teammate, body="Here", at=at)
    AnswerMail.objects.update(status=Status.SENT, sent_at=at, taken_at=at)
    before = stored_facts()
    name, marks = REPORTS[kind]
    address = reply_addresses.reply_address(conversation)

    mail = sample_email(name, reply_to=address, **{"return_path": address, **marks})

    assert router.receive(parse_email(mail, recipient=address), at=at) is Outcome.UNPROVEN
    assert stored_facts() == before


def test_report_to_a_reply_address_whose_headers_name_the_feedback_address_changes_nothing(record, at):
    before = stored_facts()
    mail = with_headers(report(record, "complaint"), To=FEEDBACK)

    assert router.receive(parse_email(mail, recipient=reply_addresses.reply_address(record)), at=at) is Outcome.UNPROVEN

    assert stored_facts() == before


# Tokens


@pytest.mark.parametrize("kind", REPORTS)
def test_reply_address_rewritten_into_a_bounce_address_changes_nothing(record, at, upgraded, kind):
    upgraded(at - DAY)
    before = stored_facts()
    address = rewritten(reply_addresses.reply_address(record))

    assert router.receive(parse_email(report(record, kind), recipient=address), at=at + DAY) is not Outcome.NOTICE

    assert stored_facts() == before


@pytest.mark.parametrize("kind", ReferentKind)
def test_token_is_for_one_purpose(kind):
    for purpose, other in ((Purpose.REPLY, Purpose.BOUNCE), (Purpose.BOUNCE, Purpose.REPLY)):
        token = reply_addresses.token_of(kind, 7, purpose=purpose)

        assert reply_addresses.parse_token(token, purpose=purpose) == (kind, 7)
        assert reply_addresses.parse_token(token, purpose=other) is None


def test_bounce_token_at_a_reply_address_is_invalid(record, at):
    address = reply_addresses.return_path(ReferentKind.RECORD, record.pk).replace("bounce+", "reply+")

    mail = b"From: ann@x.example\r\nTo: %b\r\n\r\nThanks" % address.encode()

    assert router.receive(parse_email(mail), at=at) is Outcome.UNADDRESSED


def test_token_of_a_reply_address_is_unchanged(settings):
    settings.SECRET_KEY = "a key"

    assert reply_addresses.token_of(ReferentKind.RECORD, 12_345, purpose=Purpose.REPLY) == "stwmgcbk3myqpjjxhnnsk"


def test_reply_to_the_bounce_address_is_still_a_reply(record, at):
    for number, address in enumerate(
        (reply_addresses.return_path(ReferentKind.RECORD, record.pk), rewritten(reply_addresses.reply_address(record)))
    ):
        mail = b"From: ann@x.example\r\nMessage-ID: <%d@x>\r\nTo: %b\r\n\r\nThanks" % (number, address.encode())

        assert router.receive(parse_email(mail), at=at) is Outcome.REPLY


# At a bounce address


HAPPENS = {
    "bounce": {"has_hard_bounced"},
    "delivery": set(),
    "bounce with headers": {"has_hard_bounced"},
    "bounce in words": {"has_hard_bounced"},
    "complaint": {"marked_email_as_spam", "unsubscribed_from_emails"},
    "wish to get no more": {"unsubscribed_from_emails"},
}


@pytest.mark.parametrize("kind", REPORTS)
def test_report_at_the_bounce_address_counts(record, at, kind):
    mail = report(record, kind, message_id="<rewritten@relay.example>")

    assert router.receive(to_bounce_address(record, mail), at=at + DAY) is Outcome.NOTICE

    assert flags() == HAPPENS[kind]


# Sent before the upgrade


@pytest.mark.parametrize(("after", "counts"), [(0, True), (13, True), (14, False), (400, False)])
def test_old_bounce_address_of_an_email_sent_before_the_upgrade_counts_for_14_days(record, at, upgraded, after, counts):
    upgraded(at + timedelta(hours=1))
    address = rewritten(reply_addresses.reply_address(record))
    came_at = at + timedelta(hours=1) + after * DAY

    outcome = router.receive(parse_email(report(record, "bounce"), recipient=address), at=came_at)

    assert (outcome is Outcome.NOTICE, flags()) == (counts, {"has_hard_bounced"} if counts else set())


@pytest.mark.parametrize(
    ("status", "sent", "taken", "counts"),
    [
        (Status.SENT, -1, -1, True),
        (Status.SENT, 1, -1, False),
        (Status.UNCERTAIN, None, -1, True),
        (Status.UNCERTAIN, None, 1, False),
        (Status.UNCERTAIN, None, None, False),
    ],
)
def test_only_records_from_before_the_upgrade_accept_the_old_bounce_address(
    record, at, upgraded, status, sent, taken, counts
):
    upgraded(at + 2 * DAY)
    moments = {"sent_at": sent, "taken_at": taken}
    fresh = MessageFactory(one_off=True, live=True, at=at).records.get()
    rows = DeliveryRecord.objects.filter(pk=fresh.pk)
    rows.update(status=Status.SENDING, claim=CLAIM, leased_until=at)
    rows.update(
        status=status,
        claim=None,
        leased_until=None,
        **{name: days and at + (2 + days) * DAY for name, days in moments.items()},
    )

    found = reply_addresses.referent_of_bounce(rewritten(reply_addresses.reply_address(fresh)), at=at + 3 * DAY)

    assert (found == (ReferentKind.RECORD, fresh.pk)) is counts


def test_old_bounce_address_of_an_answer_counts_too(at, upgraded, django_user_model):
    upgraded(at + DAY)
    conversation = threads.open_by_customer(CustomerFactory(email="ann@x.example"), body="Help!", at=at)
    teammate = django_user_model.objects.create_user("ada")
    part = threads.reply_by_teammate(conversation, teammate=teammate, body="Here", at=at)
    old = reply_addresses.address_for(
        Purpose.REPLY, ReferentKind.ANSWER, part.pk, domain="bounce.acme.example"
    ).replace("reply+", "bounce+")
    assert reply_addresses.referent_of_bounce(old, at=at + DAY) is None

    AnswerMail.objects.update(status=Status.SENT, sent_at=at)

    assert reply_addresses.referent_of_bounce(old, at=at + DAY) == (ReferentKind.ANSWER, part.pk)
    assert reply_addresses.referent_of_bounce(old, at=at + 15 * DAY) is None


def test_without_a_recorded_upgrade_or_a_bounce_domain_no_old_token_counts(record, at, upgraded, settings):
    address = rewritten(reply_addresses.reply_address(record))
    upgraded(None)
    assert reply_addresses.referent_of_bounce(address, at=at) is None

    upgraded(at + DAY)
    settings.BOUNCE_DOMAIN = ""

    assert reply_addresses.referent_of_bounce(address, at=at) is None


def test_migration_records_the_moment_of_the_upgrade():
    migrations = MigrationLoader(connection).disk_migrations.values()
    steps = [step for migration in migrations for step in migration.operations if isinstance(step, RunSQL)]
    (records,) = [step.sql for step in steps if "delivery_upgrade" in step.sql]
    Upgrade.objects.all().delete()

    with connection.cursor() as cursor:
        cursor.execute(records)
        cursor.execute(records)

    assert timezone.now() - Upgrade.moment_of(Upgrade.BOUNCE_TOKENS) < timedelta(minutes=1)


# At the feedback address


@pytest.mark.parametrize("envelope", ["known", "unknown"])
@pytest.mark.parametrize("kind", COMPLAINTS)
def test_complaint_at_the_feedback_address_counts_by_our_message_id(record, at, kind, envelope):
    mail = with_headers(report(record, kind), To=f"Feedback <{FEEDBACK.upper()}>")

    outcome = router.receive(parse_email(mail, recipient=FEEDBACK if envelope == "known" else ""), at=at)

    assert (outcome, flags()) == (Outcome.NOTICE, HAPPENS[kind])


@pytest.mark.parametrize("message_id", ["none", "forged", "of another installation"])
@pytest.mark.parametrize("kind", COMPLAINTS)
def test_complaint_at_the_feedback_address_without_our_message_id_changes_nothing(
    record, at, settings, kind, message_id
):
    before, key = stored_facts(), settings.SECRET_KEY
    settings.SECRET_KEY = "theirs"
    theirs = rendering.message_id(record.pk)
    settings.SECRET_KEY = key
    quoted = {"none": "", "forged": f"<{record.pk}.{'a' * 16}@acme.example>", "of another installation": theirs}
    mail = report(record, kind, message_id=quoted[message_id])

    assert router.receive(parse_email(mail, recipient=FEEDBACK), at=at) is Outcome.FOREIGN

    assert stored_facts() == before


@pytest.mark.parametrize("kind", [kind for kind in REPORTS if kind not in COMPLAINTS])
def test_bounce_at_the_feedback_address_changes_nothing(record, at, kind):
    before = stored_facts()

    assert router.receive(parse_email(report(record, kind), recipient=FEEDBACK), at=at) is Outcome.UNPROVEN

    assert stored_facts() == before


def test_without_a_feedback_address_a_complaint_counts_at_bounce_addresses_only(record, at, settings):
    settings.FEEDBACK_ADDRESS = ""
    before = stored_facts()

    assert router.receive(parse_email(with_headers(report(record, "complaint"), To="")), at=at) is Outcome.UNPROVEN
    assert stored_facts() == before

    assert router.receive(to_bounce_address(record, report(record, "complaint")), at=at) is Outcome.NOTICE


def test_token_of_an_address_signs_no_message_id(record):
    token = reply_addresses.token_of(ReferentKind.RECORD, record.pk, purpose=Purpose.REPLY)

    assert reply_addresses.referent_of_message_id(f"<{record.pk}.{token[:16]}@acme.example>") is None
