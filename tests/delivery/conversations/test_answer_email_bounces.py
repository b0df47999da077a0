"""Bounces of answer emails and replies to them."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from audiences.models import Customer
from delivery import reply_addresses
from delivery.conversations import answer_emails, threads
from delivery.inbound import router
from delivery.inbound.router import Outcome
from delivery.models import AnswerMail, ConversationPart, Status
from delivery.reply_addresses import ReferentKind
from tests.delivery.channels.conftest import server  # noqa: F401 - a fixture
from tests.factories import CustomerFactory, SenderFactory
from tests.support.inbound_emails import parse_email, sample_email

pytestmark = pytest.mark.django_db


@pytest.fixture
def part(at) -> ConversationPart:
    """An answer whose email is due."""
    SenderFactory(name="Grace", email="grace@acme.example")
    customer = CustomerFactory(email="ann@x.example")
    thread = threads.open_by_customer(customer, body="Help!", at=at)
    return threads.reply_by_teammate(thread, teammate=User.objects.create_user("grace"), body="Here", at=at)


def forward(at) -> int:
    later = at + timedelta(minutes=30)
    return answer_emails.send_due_answer_emails(clock=lambda: later, until=later + timedelta(seconds=1))


def test_hard_bounce_of_an_answer_flags_the_customer(server, part, at):  # noqa: F811
    server(RCPT="550 5.1.1 no such user")

    forward(at)

    assert (AnswerMail.objects.get().status, Customer.objects.get().has_hard_bounced) == (Status.FAILED, True)


def test_answer_email_has_a_bounce_address_and_a_reply_address(server, part, at, settings):  # noqa: F811
    settings.BOUNCE_DOMAIN, settings.INBOUND_DOMAIN = "bounce.acme.example", "reply.acme.example"
    taken = server().taken

    forward(at)

    assert reply_addresses.referent_of_bounce(taken[0].sender, at=at) == (ReferentKind.ANSWER, part.pk)
    assert reply_addresses.reply_address(part.conversation).encode() in taken[0].content


def test_message_ids_identify_the_answer_and_its_conversation(part):
    assert reply_addresses.referent_of_message_id(answer_emails.answer_message_id(part)) == (
        ReferentKind.ANSWER,
        part.pk,
    )
    assert reply_addresses.referent_of_message_id(answer_emails.thread_message_id(part.conversation)) == (
        ReferentKind.CONVERSATION,
        part.conversation_id,
    )


@pytest.mark.parametrize("names", ["answer_message_id", "thread_message_id"])
def test_reply_to_an_answer_email_is_added_to_its_conversation(part, at, names):
    about = {"answer_message_id": part, "thread_message_id": part.conversation}[names]
    mail = sample_email("gmail", reply_to="grace@acme.example", message_id=getattr(answer_emails, names)(about))

    assert router.receive(parse_email(mail), at=at) is Outcome.REPLY

    assert part.conversation.parts.filter(by_customer=True).count() == 1


def test_bounce_report_of_an_answer_email_is_recorded(part, at, settings):
    settings.BOUNCE_DOMAIN = "bounce.acme.example"
    AnswerMail.objects.update(status=Status.SENT, sent_at=at)
    mail = sample_email(
        "bounce_postfix",
        reply_to="",
        return_path=reply_addresses.return_path(ReferentKind.ANSWER, part.pk),
        message_id=answer_emails.answer_message_id(part),
        action="failed",
        status="5.1.1",
        said="550 5.1.1 no such user",
    )

    assert router.receive(parse_email(mail), at=at) is Outcome.NOTICE

    found = AnswerMail.objects.get()
    assert (found.status, found.detail) == (Status.FAILED, "550 5.1.1 no such user")
    assert Customer.objects.get().has_hard_bounced
