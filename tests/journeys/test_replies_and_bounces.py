"""Inbound email: a reply reaches the inbox, a bounced address gets no more email, complaints pause the message."""

import io
import os
import re
import sys
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from django.core.management import call_command

from audiences.models import Customer
from delivery import reply_addresses
from delivery.models import Alarm, AlarmKind, Conversation, Pace
from delivery.monitoring import alarms
from messaging.models import Message
from tests.factories import CustomerFactory
from tests.support.inbound_emails import sample_email
from tests.support.pages import field_of

REJECTED = "Above 0.3 %, mailbox providers reject the emails of a sender."
PROGRAMS = {
    "gmail": ("the «export» button stays grey", "CAF1g2h3J4k5L6m7N8o9P0q1R2s3T4u5V6w7X8y9Z0a1B2c3D4e"),
    "outlook": ("it works now. Here is what I see", "AM9PR04MB8954B0A1C2D3E4F5061728394A5B6"),
    "apple_mail": ("can I invite my colleagues… and how many? 🙂", "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0"),
}


@pytest.fixture(autouse=True)
def inbound(settings, tmp_path) -> None:
    settings.INBOUND_DOMAIN = "reply.acme.example"
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def arrives(monkeypatch, at_once):
    """Receive an email through a mail server's pipe; return the exit code."""

    def arrives(content: bytes, **envelope: str) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with at_once(), pytest.raises(SystemExit) as ended:
            call_command("receive", **envelope)
        return int(str(ended.value.code))

    return arrives


def answer(mail: EmailMessage, *, program: str) -> bytes:
    """Return the reply that a mail program writes."""
    return sample_email(program, reply_to=parseaddr(mail["Reply-To"])[1], message_id=mail["Message-ID"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_reply_to_an_email_reaches_the_inbox(staff, server, post, arrives, clock, program):
    """A reply written with one of three mail programs reaches the inbox, and so does the reply to the answer."""
    server.user("ann", email="ann@x.example", name="Ann Lee")
    message = staff.sets_live(send_type="one_off", subject="Welcome to Acme")
    (mail,) = post.to("ann")
    assert "Ann Lee" not in staff.reads("delivery_conversation_changelist")
    words, _ = PROGRAMS[program]

    assert [arrives(answer(mail, program=program)) for _ in range(2)] == [os.EX_OK, os.EX_OK]

    inbox = staff.reads("delivery_conversation_changelist")
    assert "Ann Lee" in inbox
    conversation = Conversation.objects.get()
    thread = staff.reads("delivery_conversation_change", conversation.pk)
    assert thread.count(words) == 1 + inbox.count(words)
    assert not any("this is how you begin" in part.shown_body for part in conversation.parts.all())
    assert re.search(r"Replied 1 100 %", staff.reads("messaging_message_change", message))

    # The customer is not in the app, so the answer is emailed, and their reply to it comes back too.
    ticket = field_of(staff.opens("delivery_conversation_change", conversation.pk), "ticket")
    staff.presses("conversation_act", conversation.pk, "reply", body="As many as you like", ticket=ticket)
    clock.passes(minutes=30)
    (_, answered) = post.to("ann")
    assert "As many as you like" in answered.get_body(("plain",)).get_content()
    second = answer(answered, program=program).replace(PROGRAMS[program][1].encode(), b"another")

    assert arrives(second) == os.EX_OK

    assert Conversation.objects.count() == 1
    assert staff.reads("delivery_conversation_change", conversation.pk).count(words) >= 2


def test_automatic_reply_does_not_count_as_a_reply(staff, server, post, arrives):
    """Automatic replies do not count."""
    server.user("ann", email="ann@x.example", name="Ann Lee")
    message = staff.sets_live(send_type="one_off", subject="Welcome to Acme")

    for program in ("vacation_gmail", "out_of_office_exchange"):
        assert arrives(answer(post.to("ann")[0], program=program)) == os.EX_OK

    assert "Ann Lee" not in staff.reads("delivery_conversation_changelist")
    assert "Replied 0 0 %" in staff.reads("messaging_message_change", message)


def test_without_an_inbound_domain_replies_go_to_the_sender(staff, server, post, settings):
    """Without an inbound domain Reply-To is the sender's own address, and the report shows no share of replies."""
    settings.INBOUND_DOMAIN = ""
    server.user("ann", email="ann@x.example")
    message = staff.sets_live(send_type="one_off")

    assert post.to("ann")[0]["Reply-To"] == "ada@acme.example"
    assert "Not measured" in staff.reads("messaging_message_change", message)


def test_invalid_mailbox_receives_no_more_email(staff, server, post, arrives, settings):
    """A hard bounce sets the customer's flag: the next message skips them and shows the reason."""
    settings.BOUNCE_DOMAIN = "bounce.acme.example"
    server.user("ann", email="ann@x.example")
    server.user("bea", email="bea@x.example")
    staff.sets_live(send_type="one_off", subject="First")
    bounce = sample_email(
        "bounce_postfix",
        reply_to="",
        return_path=reply_addresses.return_path(
            *reply_addresses.referent_of_message_id(post.to("ann")[0]["Message-ID"])
        ),
        message_id=post.to("ann")[0]["Message-ID"],
        action="failed",
        status="5.1.1",
        said="550 5.1.1 no such user",
    )

    assert arrives(bounce) == os.EX_OK
    second = staff.sets_live(send_type="one_off", subject="Second")

    assert Customer.objects.get(user_id="ann").has_hard_bounced
    assert (post.subjects_to("ann"), post.subjects_to("bea")) == (["First"], ["First", "Second"])
    assert "Their email bounced" in staff.reads("messaging_message_change", second)


def test_refusal_of_an_unknown_mailbox_by_smtp_is_a_hard_bounce(staff, server, post):
    """By SMTP, a refusal of an unknown mailbox is a hard bounce too."""
    server.user("ann", email="ann@x.example")
    post.answer = "550 5.1.1 no such user"
    message = staff.sets_live(send_type="one_off", subject="First")

    assert Customer.objects.get(user_id="ann").has_hard_bounced
    page = staff.reads("messaging_message_change", message)
    assert "Their email bounced" in page


def test_campaign_about_which_people_complain_pauses_within_a_minute(staff, server, post, arrives, settings, clock):
    """behaviour 4.25: 1,000 people get it today and 40 tomorrow; 10 mark it as spam, so the 40 do not get it."""
    settings.FEEDBACK_ADDRESS = "fbl@acme.example"
    Pace.objects.create(channel="email", warm_up=[1_000, 2_000], warm_up_from=clock.now.date())
    for number in range(1_040):
        CustomerFactory(user_id=f"ann{number}", email=f"ann{number}@x.example")
    message = staff.sets_live(send_type="one_off", title="Sale", confirm="1040", reviewed="1040", receiving="1040")
    assert len(post.mails) == 1_000

    def complain(mail: EmailMessage) -> None:
        report = sample_email("complaint_arf", reply_to="", message_id=mail["Message-ID"], feedback="abuse")
        assert arrives(report, recipient="fbl@acme.example") == os.EX_OK

    for _, mail in post.mails[:9]:
        complain(mail)
    clock.passes(minutes=1)
    assert Message.objects.get(pk=message).state == "live"
    complain(post.mails[9][1])
    clock.passes(minutes=1)

    said = "10 of 1,000 recipients marked it as spam (1.00 %). " + REJECTED
    page = staff.reads("messaging_message_change", message)
    assert f"This message has paused itself. {said} Nothing is sent until a teammate resumes it" in page
    shown = server.get(f"/api/outbound/{message}").json()
    assert (shown["state"], shown["paused_because"], shown["counts"]["complained"]) == ("paused", said, 10)
    alarms.check_alarms(at=clock.now)
    assert f"“Sale”: {said}" in Alarm.objects.get(kind=AlarmKind.PAUSED).description
    assert post.mails.pop()[1]["Subject"].startswith("Alarm: a message has paused itself")
    clock.passes(days=1)
    assert len(post.mails) == 1_000

    assert "“Sale” is live again" in staff.does("resume", message)
    clock.passes(minutes=1)
    assert len(post.mails) == 1_040
    assert Message.objects.get(pk=message).state == "sent"
    assert said in staff.reads("messaging_message_change", message)
    assert server.get(f"/api/outbound/{message}").json()["paused_because"] is None
