"""Bounces, replies, charsets and webhooks that were once handled wrongly, with the status texts of real servers."""

import json
import warnings

import pytest
from anymail.webhooks.brevo import BrevoTrackingWebhookView
from anymail.webhooks.mailgun import MailgunTrackingWebhookView

from audiences.models import Customer
from delivery import rendering, reply_addresses
from delivery.inbound import router
from delivery.inbound.esp_webhooks import feedback_type_of
from delivery.inbound.message import InboundEmail
from delivery.inbound.reply_parser import parse_text_reply
from delivery.models import ConversationPart, DeliveryRecord, PartType, Status
from delivery.reply_addresses import Purpose, ReferentKind
from messaging.content.plain_text import html_to_text
from tests.factories import CustomerFactory, MessageFactory
from tests.support.records import mark_records_sent

HEAD = (
    "From: MAILER-DAEMON@mx.widgets.example\nTo: @TO@\nSubject: {}\nDate: Thu, 26 Nov 2026 20:00:00 +0000\n"
    "Message-ID: <n1@mx.widgets.example>\n"
)


@pytest.fixture
def record(at, settings, tmp_path) -> DeliveryRecord:
    """An email that Ann has in her inbox."""
    settings.INBOUND_DOMAIN, settings.BOUNCE_DOMAIN = "reply.acme.example", "bounce.acme.example"
    settings.MEDIA_ROOT = tmp_path
    CustomerFactory(user_id="ann", name="Ann", email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at).records.get()
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    rows.update(status=Status.SENDING, claim="00000000-0000-0000-0000-000000000001", leased_until=at, taken_at=at)
    mark_records_sent(rows, at=at)
    rows.update(address="ann@x.example")
    record.refresh_from_db()
    return record


def outcome_of_bounce(record: DeliveryRecord, raw: str, *, at) -> str:
    """Receive a notice at the bounce address, and return what it changed."""
    token = reply_addresses.token_of(ReferentKind.RECORD, record.pk, purpose=Purpose.BOUNCE)
    ours = f"bounce+{token}@bounce.acme.example"
    text = raw.replace("@TO@", ours).replace("@THEM@", record.customer.email)
    text = text.replace("@ID@", rendering.message_id(record.pk))
    router.receive(InboundEmail.parse(text.encode(), recipient=ours, envelope_sender=""), at=at)
    record.refresh_from_db()
    customer = Customer.objects.get(pk=record.customer_id)
    happened = {
        "hard": customer.has_hard_bounced,
        "bounced": record.bounced_at,
        "replied": record.replied_at,
        "spam": customer.marked_email_as_spam,
    }
    return "+".join(name for name, value in happened.items() if value) or "nothing"


def dsn(status: str, said: str, *, action: str = "failed", more: str = "", final: str = "@THEM@") -> str:
    """Return a delivery status notification; without an Action line if there is no action."""
    return (
        HEAD.format("Undelivered Mail Returned to Sender") + "Content-Type: multipart/report; boundary=b\n\n"
        "--b\nContent-Type: text/plain\n\nnot delivered\n--b\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.widgets.example\n\n{more}Final-Recipient: rfc822; {final}\n"
        f"{f'Action: {action}' + chr(10) if action else ''}Status: {status}\nDiagnostic-Code: {said}\n\n--b--\n"
    )


def exim(said: str) -> str:
    return (
        HEAD.format("Mail delivery failed: returning message to sender")
        + "X-Failed-Recipients: @THEM@\nAuto-Submitted: auto-replied\n\n"
        f"A message that you sent could not be delivered. This is a permanent error.\n\n  @THEM@\n    {said}\n"
    )


QMAIL = (
    HEAD.format("failure notice") + "\nHi. This is the qmail-send program at mx.widgets.example.\n"
    "This is a permanent error; I've given up.\n\n<@THEM@>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n"
    "--- Below this line is a copy of the message.\n\nMessage-ID: @ID@\n"
)
HMAILSERVER = (
    HEAD.format("Message undeliverable") + "\nYour message did not reach some or all of the intended recipients.\n\n"
    "@THEM@\n   Error Type: SMTP\n   Remote server replied: 550 5.1.1 User unknown\n\nhMailServer\n"
)
EXCHANGE_2003 = HEAD.format("Undeliverable: Welcome").replace("MAILER-DAEMON", "postmaster") + (
    "\nYour message did not reach the following recipient(s):\n\n@THEM@ on Thu, 26 Nov 2026 20:00:00 +0000\n"
    "    The recipient name is not recognized\n        MSEXCH:IMS:Widgets:MX:1 0 (000C05A6) Unknown Recipient\n"
)
HARD, SOFT = "hard+bounced", "bounced"
BOUNCES = {
    "qmail": (QMAIL, HARD),
    "hMailServer": (HMAILSERVER, HARD),
    "no Action line": (dsn("5.1.1", "smtp; 550 5.1.1 user unknown", action=""), HARD),
    "Exim: no route": (exim("Unrouteable address"), HARD),
    "Exchange 2003": (EXCHANGE_2003, HARD),
    "expired (SendGrid)": (dsn("5.4.7", "smtp; connection timed out", action="expired"), SOFT),
    "Exim: the reason is on a second line": (
        exim("host mx2.widgets.example [192.0.2.9]: 550 <@THEM@>:\n    User unknown"),
        HARD,
    ),
    "Gmail: rate": (
        dsn(
            "5.2.1",
            "smtp; 550-5.2.1 The user you are trying to contact is receiving mail at a rate that 550 5.2.1 prevents "
            "additional messages from being delivered.",
        ),
        SOFT,
    ),
    "SES: 5.1.0 around 5.2.2": (
        dsn(
            "5.0.0 (permanent failure)",
            "smtp; 5.1.0 - Unknown address error 550-'5.2.2 <@THEM@>... Mailbox Full' (delivery attempts: 0)",
        ),
        SOFT,
    ),
    "5.1.0: SPF": (
        dsn("5.1.0", "smtp; 550 5.1.0 192.0.2.2 is not allowed to send from <fernwood.example> per its SPF Record"),
        SOFT,
    ),
    "Exchange Online: 5.1.351": (
        dsn(
            "5.1.351",
            "smtp; 550 5.1.351 Remote server returned unknown recipient or mailbox unavailable -> 550 Unknown user",
        ),
        HARD,
    ),
    "Exchange Online: not in the directory": (
        dsn(
            "5.4.1",
            "smtp; 550 5.4.1 [@THEM@]: Recipient address rejected: Access denied [X.prod.protection.outlook.com]",
        ),
        HARD,
    ),
    "Postfix: host not found": (
        dsn(
            "5.4.4",
            "X-Postfix; Host or domain name not found. Name service error for name=nosuch.example type=AAAA: "
            "Host not found",
        ),
        HARD,
    ),
    "too many recipients": (
        dsn("5.1.1", "smtp; 550 5.1.1 <@THEM@> - 203.0.113.2 has sent to too many recipients this hour. IB607"),
        SOFT,
    ),
    "5.7.1 around no such user": (dsn("5.7.1", "smtp; 550 5.7.1 No such user!"), HARD),
    "Outlook.com: mailbox unavailable": (
        dsn("5.5.0", "smtp; 550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)."),
        HARD,
    ),
    "an address that the customer forwards to": (
        dsn(
            "5.1.1",
            "smtp; 550 5.1.1 user unknown",
            more="Original-Recipient: rfc822; @THEM@\n",
            final="old@gmail.example",
        ),
        SOFT,
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", BOUNCES)
def test_notice_at_the_bounce_address_has_its_meaning(record, at, name):
    raw, outcome = BOUNCES[name]

    assert outcome_of_bounce(record, raw, at=at) == outcome


@pytest.mark.django_db
def test_bounce_of_an_internationalised_address_is_matched_in_its_ascii_form(record, at):
    Customer.objects.update(email="pat@bücher.example")
    DeliveryRecord.objects.update(address=None)
    record.refresh_from_db()

    raw = dsn("5.1.1", "smtp; 550 5.1.1 user unknown", final="pat@xn--bcher-kva.example")

    assert outcome_of_bounce(record, raw, at=at) == HARD


# Replies

ON = "On Tue, 3 Mar 2026 at 10:00, Ann Lee <ann@example.com> wrote:\n"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Yes please.\nBook it for Tuesday.\n" + ON + "> When?\n", "Yes please.\nBook it for Tuesday."),
        ("Book it for Tuesday.\n" + ON + "> When?\n", "Book it for Tuesday."),
        (
            "> first?\nyes\n> second?\nno, write to\nbob@acme.example please:\n> third?\nok\n",
            "yes\nno, write to\nbob@acme.example please:\nok",
        ),
    ],
)
def test_line_above_a_quote_stays_in_the_reply(text, reply):
    assert [line for line in parse_text_reply(text).text.split("\n") if line] == reply.split("\n")


@pytest.mark.parametrize(
    ("content", "content_type", "words"),
    [
        ("朱镕基".encode("gbk"), "text/plain; charset=gb2312", "朱镕基"),
        ("It’s €5".encode("cp1252"), "text/plain; charset=iso-8859-1", "It’s €5"),
        ("Grüße".encode(), "text/plain; charset=us-ascii", "Grüße"),
    ],
)
def test_charset_is_the_one_that_programs_write(content, content_type, words):
    mail = b"From: a@b.example\nContent-Type: " + content_type.encode() + b"\n\n" + content

    assert InboundEmail.parse(mail).reply_content.text == words


@pytest.mark.parametrize(
    ("subject", "is_automatic"),
    [
        ("Undelivered parcel 4711", False),
        ("Automatic reply feature does not work", False),
        ("[External] Automatic reply: Hello", True),
        ("On holiday - please extend my trial", False),
        ("Automatická odpověď: Hello", True),
    ],
)
def test_subject_of_a_program_has_a_colon_or_ends(subject, is_automatic):
    mail = f"From: pat@example.com\nTo: x@y.example\nSubject: {subject}\nMessage-ID: <1@x.example>\n\nwords\n"

    assert bool(InboundEmail.parse(mail.encode()).auto_reply_reason) is is_automatic


def receive_reply(record: DeliveryRecord, raw: str, *, at) -> list[str]:
    """Receive a reply, and return the texts of the reply and of the notes."""
    to = reply_addresses.reply_address(record)
    content = raw.replace("@TO@", to).replace("@THEM@", record.customer.email).encode()
    router.receive(InboundEmail.parse(content, recipient=to, envelope_sender=record.customer.email), at=at)
    return [html_to_text(part.body) for part in ConversationPart.objects.order_by("pk")]


@pytest.mark.django_db
def test_subject_is_shown_if_the_body_is_empty(record, at):
    raw = "From: @THEM@\nTo: @TO@\nSubject: Yes, please call me on Tuesday\nMessage-ID: <so@x.example>\n\n\n"

    assert receive_reply(record, raw, at=at) == ["(This email has no text. Subject: Yes, please call me on Tuesday)"]


@pytest.mark.django_db
def test_sender_with_an_internationalised_address_is_the_customer(record, at):
    Customer.objects.update(email="pat@bücher.example")
    record.refresh_from_db()
    raw = "From: pat@xn--bcher-kva.example\nTo: @TO@\nSubject: Re: Hi\nMessage-ID: <i@x.example>\n\nYes\n"

    assert receive_reply(record, raw, at=at) == ["Yes"]


@pytest.mark.django_db
def test_doubtful_automatic_reply_is_kept_and_marked(record, at):
    raw = "From: @THEM@\nTo: @TO@\nSubject: OOO - back on Monday\nMessage-ID: <o@x.example>\n\nAsk Bob.\n"

    assert receive_reply(record, raw, at=at) == [
        "Ask Bob.",
        "This may be an automatic reply: its subject begins with “OOO”.",
    ]
    assert ConversationPart.objects.filter(part_type=PartType.NOTE).count() == 1


# Webhooks


def mailgun_failure(message: str, *, code: int) -> dict:
    return {
        "event": "failed",
        "id": "x",
        "timestamp": 1700000000.1,
        "recipient": "a@b.example",
        "severity": "permanent",
        "reason": "bounce",
        "message": {"headers": {"message-id": "m@x"}},
        "user-variables": {},
        "delivery-status": {"code": code, "message": message, "description": ""},
    }


@pytest.mark.parametrize(
    ("code", "message", "meaning"),
    [
        (554, "Message rejected due to spam content", "bounced"),
        (550, "Blocked by reputation policy", "bounced"),
        (550, "No such user here", "no_mailbox"),
        (605, "Not delivering to previously bounced address", "no_mailbox"),
    ],
)
def test_permanent_failure_of_mailgun_is_hard_only_if_the_server_does_not_say_otherwise(code, message, meaning):
    payload = {"event-data": mailgun_failure(message, code=code), "signature": {"token": "t"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        event = MailgunTrackingWebhookView(webhook_signing_key="x").esp_to_anymail_event(
            json.loads(json.dumps(payload))
        )

    assert str(feedback_type_of(event, esp_name="Mailgun")) == meaning


def test_invalid_address_of_brevo_is_hard():
    event = BrevoTrackingWebhookView().esp_to_anymail_event(
        {"event": "invalid_email", "email": "a@b.example", "message-id": "<m>", "ts_epoch": 1700000000000, "reason": ""}
    )

    assert str(feedback_type_of(event, esp_name="Brevo")) == "no_mailbox"
