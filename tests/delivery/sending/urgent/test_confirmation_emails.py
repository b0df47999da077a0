"""Confirmation emails: over a real SMTP socket, at most one a day, and only as long as they are needed."""

import re
from datetime import timedelta
from email import message_from_bytes, policy

import pytest
from django.contrib.auth.models import User

from audiences import intake
from audiences.models import ConfirmationMail, Customer, Suppression, SuppressionReason, SuppressionSource, Workspace
from delivery import reply_addresses, tasks
from delivery.channels import NoSuchMailbox
from delivery.conversations import threads
from delivery.customers import erase
from delivery.inbound import router
from delivery.inbound.feedback import Feedback, FeedbackType, record_feedback
from delivery.inbound.router import Outcome
from delivery.models import AnswerMail, Conversation, ConversationPart, Status
from delivery.reply_addresses import Referent, ReferentKind
from delivery.sending import outcome
from delivery.sending.urgent import dispatcher
from delivery.sending.urgent.confirmation_emails import CONFIRMATION_EMAILS
from tests.delivery.channels.conftest import server  # noqa: F401 - a fixture
from tests.factories import CustomerFactory, SenderFactory
from tests.support.inbound_emails import parse_email, sample_email
from tests.support.smtp_server import Act

pytestmark = pytest.mark.django_db
DAY = timedelta(hours=24)


@pytest.fixture(autouse=True)
def is_on() -> None:
    Workspace.current()
    Workspace.objects.update(double_opt_in=True, name="Acme & Sons", postal_address="1 Quay\nDublin")


@pytest.fixture
def bea(at) -> Customer:
    return intake.save_lead({"email": "bea@x.example", "name": "<b>Mal</b>"}, at=at)


def send(at) -> int:
    return dispatcher.send_due([CONFIRMATION_EMAILS], clock=lambda: at, until=at + timedelta(minutes=1))


def test_email_is_short_has_the_link_and_nothing_of_the_visitor_and_no_tracking(server, bea, at):  # noqa: F811
    SenderFactory(name="Ada", email="ada@acme.example", teammate=User.objects.create_user("ada"))
    SenderFactory(name="Grace", email="grace@acme.example", teammate=None)
    post = server()

    assert send(at) == 1
    assert send(at) == send(at + 9 * DAY) == 0

    (taken,) = post.taken
    assert taken.recipients == ["bea@x.example"]
    mail = message_from_bytes(taken.content, policy=policy.default)
    assert mail["From"] == "Grace <grace@acme.example>"
    assert mail["Subject"] == "Confirm your email address for Acme & Sons"
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for body in (text, html):
        assert len(re.findall(r"https?://", body)) == 1
        assert re.search(r"/m/confirm/[\w-]{40,}", body)
        assert "bea@" not in body
        assert "Mal" not in body
        assert "Dublin" in body
    assert "<img" not in html
    assert "Acme & Sons" in text
    assert "Acme &amp; Sons" in html
    row = ConfirmationMail.objects.get()
    assert (row.status, row.sent_at, row.attempts) == (Status.SENT, at, 1)


def test_without_a_sender_it_comes_from_the_address_of_the_workspace(server, bea, at, settings):  # noqa: F811
    settings.DEFAULT_FROM_EMAIL = "Acme team <hello@acme.example>"
    post = server()

    send(at)

    mail = message_from_bytes(post.taken[0].content, policy=policy.default)
    assert mail["From"] == "Acme & Sons <hello@acme.example>"
    assert mail["Reply-To"] == "hello@acme.example"


def test_each_request_has_its_own_message_id_that_names_the_email(server, bea, at):  # noqa: F811
    post = server()
    send(at)
    intake.ask_again(bea, at=at + DAY)
    send(at + DAY)

    ids = [message_from_bytes(taken.content, policy=policy.default)["Message-ID"] for taken in post.taken]
    assert len(set(ids)) == 2
    named = {reply_addresses.referent_of_message_id(each) for each in ids}
    assert named == {(ReferentKind.CONFIRMATION, ConfirmationMail.objects.get().pk)}


def switched_off(bea: Customer, at) -> None:
    Workspace.objects.update(double_opt_in=False)


def confirmed(bea: Customer, at) -> None:
    Customer.objects.update(opted_in_at=at)


def changed(bea: Customer, at) -> None:
    Customer.objects.update(email="new@x.example")


def became_a_user(bea: Customer, at) -> None:
    intake.identify({"id": str(bea.pk), "user_id": "bea"}, at=at)


def unsubscribed(bea: Customer, at) -> None:
    Suppression.objects.suppress(
        "BEA@x.example".lower(), SuppressionReason.OPT_OUT, source=SuppressionSource.CUSTOMER, at=at
    )


def opted_out_by_rest(bea: Customer, at) -> None:
    Customer.objects.update(unsubscribed_from_emails=True)


def archived(bea: Customer, at) -> None:
    intake.archive_customer(bea, at=at)


@pytest.mark.parametrize(
    "change", [switched_off, confirmed, changed, became_a_user, unsubscribed, opted_out_by_rest, archived]
)
def test_it_is_not_sent_once_it_is_not_needed(change, server, bea, at):  # noqa: F811
    post = server()
    change(bea, at)

    assert send(at) == 0

    assert post.taken == []
    row = ConfirmationMail.objects.get()
    assert row.status == Status.SKIPPED
    assert row.detail


def test_erasure_keeps_it_from_being_sent_and_keeps_the_limit(server, bea, at):  # noqa: F811
    intake.save_lead({"email": "eve@x.example"}, at=at + DAY)
    post = server()
    assert send(at) == 1
    eve = Customer.objects.get(email="eve@x.example")
    for customer in (bea, eve):
        erase.erase(customer, at=at + DAY / 2)

    assert send(at + DAY) == 0
    again = intake.save_lead({"email": "bea@x.example"}, at=at + DAY / 2)
    assert send(at + DAY / 2) == 0

    assert [taken.recipients for taken in post.taken] == [["bea@x.example"]]
    assert not ConfirmationMail.objects.exclude(address=None).exists()
    assert intake.ask_again(again, at=at + DAY)[0]
    assert send(at + DAY) == 1


def test_temporary_refusal_is_retried_and_a_lost_connection_is_uncertain(server, bea, at):  # noqa: F811
    server(RCPT=["451 later", "250 ok"])
    send(at)
    row = ConfirmationMail.objects.get()
    assert (row.status, row.attempts) == (Status.WAITING, 1)

    assert send(at + outcome.BACK_OFF[0]) == 1
    assert ConfirmationMail.objects.get().status == Status.SENT

    intake.save_lead({"email": "cid@x.example"}, at=at)
    server(TEXT=Act.DROP)
    send(at + DAY)
    assert ConfirmationMail.objects.of_address("cid@x.example").get().status == Status.UNCERTAIN


def test_claimed_email_of_a_dead_worker_is_uncertain_and_not_repeated(server, bea, at):  # noqa: F811
    post = server()
    assert CONFIRMATION_EMAILS.claim(at=at) is not None
    assert CONFIRMATION_EMAILS.claim(at=at) is None

    assert send(at + dispatcher.LEASE + timedelta(seconds=1)) == 0

    assert ConfirmationMail.objects.get().status == Status.UNCERTAIN
    assert post.taken == []


def test_mailbox_that_does_not_exist_is_suppressed(server, bea, at):  # noqa: F811
    server(RCPT="550 5.1.1 no such user")

    send(at)

    assert ConfirmationMail.objects.get().status == Status.FAILED
    assert Customer.objects.get().has_hard_bounced


def test_nothing_is_kept_of_an_address_that_is_erased_while_a_worker_sends_to_it(bea, at):
    mail = CONFIRMATION_EMAILS.claim(at=at)
    envelope = CONFIRMATION_EMAILS.build_envelope(mail)
    erase.erase(bea, at=at)
    one = dispatcher.OutgoingEmail(mail, CONFIRMATION_EMAILS, lane=None, envelope=envelope)

    dispatcher.settle_email(one, NoSuchMailbox("550 no bea@x.example"), at=at)

    row = ConfirmationMail.objects.get()
    assert (row.status, row.address, row.detail) == (Status.FAILED, None, "")
    assert not Suppression.objects.exists()


def test_bounce_report_at_its_bounce_address_is_recorded(server, at, settings):  # noqa: F811
    settings.BOUNCE_DOMAIN = "bounce.acme.example"
    post = server()
    intake.save_lead({"email": "ann@x.example"}, at=at)
    send(at)
    pk = ConfirmationMail.objects.get().pk
    assert reply_addresses.referent_of_bounce(post.taken[0].sender, at=at) == (ReferentKind.CONFIRMATION, pk)

    mail = sample_email(
        "bounce_postfix",
        reply_to="",
        return_path=post.taken[0].sender,
        message_id=message_from_bytes(post.taken[0].content)["Message-ID"],
        action="failed",
        status="5.1.1",
        said="550 5.1.1 no such user",
    )
    assert router.receive(parse_email(mail), at=at) is Outcome.NOTICE

    assert ConfirmationMail.objects.get().status == Status.FAILED
    assert Customer.objects.get().has_hard_bounced


@pytest.mark.parametrize(
    ("what", "address", "status", "flags"),
    [
        (FeedbackType.ACCEPTED, "", "sent", set()),
        (FeedbackType.BOUNCED, "", "failed", set()),
        (FeedbackType.NO_MAILBOX, "", "failed", {"has_hard_bounced"}),
        (FeedbackType.NO_MAILBOX, "forwarded@y.example", "failed", set()),
        (FeedbackType.COMPLAINED, "", "sent", {"marked_email_as_spam"}),
    ],
)
def test_feedback_of_a_provider_settles_it(what, address, status, flags, bea, at):
    ConfirmationMail.objects.update(status=Status.UNCERTAIN)
    referent = Referent(ReferentKind.CONFIRMATION, ConfirmationMail.objects.get().pk)

    assert record_feedback(referent, Feedback(type=what, at=at, address=address))

    customer = Customer.objects.get()
    assert ConfirmationMail.objects.get().status == status
    assert {flag for flag in ("has_hard_bounced", "marked_email_as_spam") if getattr(customer, flag)} == flags
    erase.erase(customer, at=at)
    assert not record_feedback(referent, Feedback(type=what, at=at))


def test_reply_to_it_is_not_an_answer_to_a_conversation(bea, at):
    mail = ConfirmationMail.objects.get()
    # A conversation with the key of the email.
    Conversation.objects.create(pk=mail.pk, customer=bea, body="Hello", created_at=at, updated_at=at)
    reply = sample_email(
        "gmail", reply_to="grace@acme.example", message_id=reply_addresses.confirmation_message_id(mail)
    )

    assert router.receive(parse_email(reply), at=at) is Outcome.UNADDRESSED
    assert not ConversationPart.objects.exists()


def test_task_sends_answers_and_confirmations(server, bea, at, monkeypatch):  # noqa: F811
    post = server()
    ConfirmationMail.objects.update(due_at=at)
    ann = CustomerFactory(email="ann@x.example")
    begun = threads.open_by_customer(ann, body="Hello", at=at, attachments=[])
    threads.reply_by_teammate(begun, teammate=User.objects.create_user("ada"), body="Hi", at=at)
    AnswerMail.objects.update(due_at=at)
    monkeypatch.setattr(tasks, "DatabaseClock", lambda: lambda: at)

    tasks.forward_answers()

    assert sorted(taken.recipients for taken in post.taken) == [["ann@x.example"], ["bea@x.example"]]
