"""Router of inbound emails: each email is at most one reply, in the words of its writer, from any mail program."""

from datetime import timedelta
from email.header import Header
from time import perf_counter

import pytest
from django.core.files.storage import default_storage

from audiences import intake
from audiences.models import Customer, Suppression
from delivery import rendering, reply_addresses
from delivery.api.messenger import payloads as messenger_payloads
from delivery.conversations import payloads, threads
from delivery.customers import erase
from delivery.inbound import router
from delivery.inbound.router import Outcome
from delivery.models import Conversation, ConversationPart, DeliveryRecord, PartType, Reason, Status
from messaging.content.plain_text import html_to_text
from tests.factories import CustomerFactory, MessageFactory
from tests.support.inbound_emails import parse_email, reply_sample, with_headers
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db

THANKS = b"From: ann@x.example\r\nMessage-ID: <1@x.example>\r\nSubject: Re: Hi\r\nTo: %b\r\n\r\nThanks!\r\n"


@pytest.fixture(autouse=True)
def inbound(settings, tmp_path) -> None:
    settings.INBOUND_DOMAIN = "reply.acme.example"
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def record(at) -> DeliveryRecord:
    """An email that Ann has in her inbox."""
    CustomerFactory(user_id="ann", name="Ann", email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at).records.get()
    one = DeliveryRecord.objects.filter(pk=record.pk)
    one.update(status=Status.SENDING, claim="00000000-0000-0000-0000-000000000001", leased_until=at, address=None)
    mark_records_sent(one, at=at)
    record.refresh_from_db()
    return record


@pytest.fixture
def receive(at):
    def receive(content: bytes, *, after: timedelta = timedelta(hours=1), **envelope) -> Outcome:
        return router.receive(parse_email(content, **envelope), at=at + after)

    return receive


def thanks(record) -> bytes:
    return THANKS % reply_addresses.reply_address(record).encode()


def reply_texts() -> list[str]:
    return [html_to_text(part.shown_body) for part in ConversationPart.objects.filter(part_type=PartType.COMMENT)]


def note_texts() -> list[str]:
    return [html_to_text(part.body) for part in ConversationPart.objects.filter(part_type=PartType.NOTE)]


# Mail programs

WRITTEN_WITH = {
    "gmail": (
        "Hi Ada,\n\nthanks! I got it to work, but the «export» button stays grey."
        " Is that because I am on the free plan?\n\n- first thing\n- second thing\n\nAnn"
    ),
    "outlook": (
        "Hi Ada,\n\nThanks – it works now. Here is what I see:\n\nThe contract is attached.\n\nKind regards\nAnn Lee"
    ),
    "outlook_for_windows": "Guten Tag,\n\ndas klappt schön.\n\nViele Grüße\nAnn Lee",
    "apple_mail": "Hello Ada,\n\ncan I invite my colleagues… and how many? 🙂\n\nAnn",
}


@pytest.mark.parametrize("program", WRITTEN_WITH)
def test_reply_contains_no_quote(record, receive, at, program):
    assert receive(reply_sample(record, program)) is Outcome.REPLY

    assert reply_texts() == [WRITTEN_WITH[program]]
    record.refresh_from_db()
    assert record.replied_at == at + timedelta(hours=1)
    conversation = Conversation.objects.get()
    assert (conversation.record, conversation.customer, conversation.state) == (record, record.customer, "open")
    assert conversation in Conversation.objects.in_inbox()


@pytest.mark.parametrize("program", WRITTEN_WITH)
def test_plain_text_alternative_gives_the_same_reply(record, receive, program):
    without_html = reply_sample(record, program).replace(b"text/html", b"application/x-nothing")

    assert receive(without_html) is Outcome.REPLY

    words = " ".join(reply_texts()[0].split())
    for kept in WRITTEN_WITH[program].split("\n\n"):
        assert " ".join(kept.split()) in words
    assert "this is how you begin" not in words
    assert "wrote" not in words


def test_image_in_the_reply_is_stored_and_one_in_the_quote_is_not(record, receive):
    receive(reply_sample(record, "outlook"))

    part = ConversationPart.objects.get(part_type=PartType.COMMENT)
    assert [(file["name"], file["content_type"], file["filesize"]) for file in part.attachments] == [
        ("image001.png", "image/png", 70),
        ("Vertrags-entwurf – Acme.pdf", "application/pdf", 15),
    ]
    kept = part.attachments[0]["url"].rpartition("/")[2]
    assert default_storage.open(f"conversations/{kept}").read().startswith(b"\x89PNG")


# Repetitions


def test_repeated_email_is_one_reply(record, receive, at):
    mail = reply_sample(record, "gmail")

    assert [receive(mail), receive(mail, after=timedelta(hours=2))] == [Outcome.REPLY, Outcome.DUPLICATE]

    assert len(reply_texts()) == 1
    record.refresh_from_db()
    assert record.replied_at == at + timedelta(hours=1)


def test_email_without_a_message_id_is_identified_by_its_content(record, receive):
    mail = with_headers(thanks(record), Message_ID=None)

    assert [receive(mail), receive(mail), receive(mail.replace(b"Thanks", b"Again"))] == [
        Outcome.REPLY,
        Outcome.DUPLICATE,
        Outcome.REPLY,
    ]


def test_second_reply_keeps_the_time_of_the_first(record, receive, at):
    receive(thanks(record))
    receive(with_headers(thanks(record), Message_ID="<2@x.example>"), after=timedelta(hours=5))

    record.refresh_from_db()
    assert (record.replied_at, len(reply_texts()), Conversation.objects.count()) == (at + timedelta(hours=1), 2, 1)


def test_closed_conversation_opens_again(record, receive, at):
    receive(thanks(record))
    conversation = Conversation.objects.get()
    threads.close(conversation, teammate=None, at=at + timedelta(hours=2))

    receive(with_headers(thanks(record), Message_ID="<2@x.example>"), after=timedelta(hours=3))

    conversation.refresh_from_db()
    assert conversation.state == "open"


# Reply addresses


def test_reply_to_an_answer_email_continues_its_conversation(record, receive, at):
    conversation = threads.open_by_customer(record.customer, body="Help!", at=at)
    mail = with_headers(thanks(record), To=reply_addresses.reply_address(conversation))

    assert receive(mail) is Outcome.REPLY

    assert [part.conversation for part in ConversationPart.objects.all()] == [conversation]
    record.refresh_from_db()
    assert record.replied_at is None


def test_mail_program_may_write_the_address_in_capitals(record, receive):
    assert receive(with_headers(thanks(record), To=reply_addresses.reply_address(record).upper())) is Outcome.REPLY


def test_envelope_recipient_is_used_without_recipient_headers(record, receive):
    mail = with_headers(thanks(record), To="Ada <ada@acme.example>")

    assert receive(mail) is Outcome.UNADDRESSED
    assert receive(mail, recipient=reply_addresses.reply_address(record)) is Outcome.REPLY


@pytest.mark.parametrize("header", ["Cc", "Delivered-To", "X-Original-To", "Envelope-To"])
def test_reply_address_is_found_in_any_recipient_header(record, receive, header):
    mail = with_headers(thanks(record), To="ada@acme.example", **{header: reply_addresses.reply_address(record)})

    assert receive(mail) is Outcome.REPLY


def test_email_to_the_senders_address_is_identified_by_in_reply_to(record, receive):
    mail = reply_sample(record, "gmail", reply_to="ada@acme.example")

    assert receive(mail) is Outcome.REPLY


def test_token_survives_a_new_secret_key(record, receive, settings):
    mail = thanks(record)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]

    assert receive(mail) is Outcome.REPLY


def test_token_of_a_removed_key_is_invalid(record, receive, settings):
    mail = thanks(record)
    settings.SECRET_KEY = "new"

    assert receive(mail) is Outcome.UNADDRESSED


def test_forged_token_is_invalid_and_logged(record, receive, caplog):
    address = reply_addresses.reply_address(record)
    forged = f"{address[:8]}{'a' if address[8] != 'a' else 'b'}{address[9:]}"

    assert receive(with_headers(thanks(record), To=forged)) is Outcome.UNADDRESSED

    assert reply_texts() == []
    assert "was sent to a forged or damaged reply address" in caplog.text
    assert "ann@x.example" not in caplog.text


def test_token_of_a_missing_record_is_invalid(record, receive):
    nowhere = reply_addresses.reply_address_of(reply_addresses.ReferentKind.CONVERSATION, 4_000_000)

    assert receive(with_headers(thanks(record), To=nowhere)) is Outcome.UNADDRESSED


def test_email_without_our_address_is_unaddressed(record, receive):
    assert receive(with_headers(thanks(record), To="sales@reply.acme.example")) is Outcome.UNADDRESSED


@pytest.mark.parametrize("pk", [0, 1, 12_345, 2**63 - 1])
@pytest.mark.parametrize("kind", reply_addresses.ReferentKind)
def test_reply_address_fits_the_local_part_and_decodes(kind, pk):
    local, _, domain = reply_addresses.reply_address_of(kind, pk).partition("@")

    assert (len(local) <= 64, domain, local == local.lower()) == (True, "reply.acme.example", True)
    assert reply_addresses.referent_of_reply(f"{local.upper()}@{domain}") == (kind, pk)


def test_reply_address_reveals_nothing():
    tokens = {
        reply_addresses.token_of(kind, pk, purpose=purpose)
        for purpose in reply_addresses.Purpose
        for kind in reply_addresses.ReferentKind
        for pk in range(50)
    }

    assert len({token[:6] for token in tokens} | {token[-6:] for token in tokens}) == 2 * len(tokens)


def unsubscribe_email(address: str, **headers: str) -> bytes:
    lines = {
        "From": "ann@x.example",
        "Message-ID": "<u1@x.example>",
        "To": address,
        "Subject": "unsubscribe",
        **headers,
    }
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode() + b"\r\n"


@pytest.mark.parametrize("headers", [{}, {"Auto-Submitted": "auto-generated"}, {"From": "someone@mailbox.example"}])
def test_email_to_the_unsubscribe_address_works_like_the_link(record, receive, headers):
    address = reply_addresses.unsubscribe_address(record.pk)

    for _ in range(2):
        assert receive(unsubscribe_email(address.upper(), **headers)) is Outcome.UNSUBSCRIBED

    record.refresh_from_db()
    assert record.customer.unsubscribed_from_emails
    assert record.unsubscribed_at == record.customer.unsubscribed_by_customer_at
    assert Suppression.objects.get().address == "ann@x.example"
    assert not Conversation.objects.exists()


def test_token_of_a_reply_address_unsubscribes_nobody(record, receive):
    forged = reply_addresses.reply_address(record).replace("reply+", "unsubscribe+", 1)

    assert receive(unsubscribe_email(forged)) is Outcome.UNADDRESSED

    assert not Customer.objects.filter(unsubscribed_from_emails=True).exists()


def test_audience_email_says_how_to_unsubscribe_by_email_and_that_no_person_sent_it(record):
    record.message.refresh_from_db()
    copy = rendering.copy_of(record.message.version, channel="email")
    headers = rendering.envelope(
        record.message, record.message.sender, copy.render({}, record_id=record.pk), record_id=record.pk, to=("a@x",)
    ).headers

    address = reply_addresses.unsubscribe_address(record.pk)
    assert len(address.partition("@")[0]) <= 64
    assert headers["List-Unsubscribe"] == (
        f"<{rendering.unsubscribe_url(record.pk)}>, <mailto:{address}?subject=unsubscribe>"
    )
    assert (headers["Auto-Submitted"], headers["X-Auto-Response-Suppress"]) == ("auto-generated", "OOF, AutoReply")


def test_without_an_inbound_domain_reply_addresses_do_not_exist(record, settings):
    settings.INBOUND_DOMAIN = ""

    assert reply_addresses.reply_address(record) == ""


# Senders


def test_reply_from_another_address_is_accepted_with_a_note(record, receive):
    assert receive(with_headers(thanks(record), From="Bob <bob@else.example>")) is Outcome.REPLY

    assert reply_texts() == ["Thanks!"]
    assert note_texts() == [
        "This reply came from bob@else.example, not from ann@x.example. What you answer goes to ann@x.example."
    ]
    record.refresh_from_db()
    assert record.replied_at is not None


def test_reply_from_the_address_the_message_went_to_needs_no_note(record, receive):
    DeliveryRecord.objects.filter(pk=record.pk).update(address="ann@x.example")
    record.customer.email = "ann@new.example"
    record.customer.save()

    receive(thanks(record))

    assert note_texts() == []


def test_reply_of_an_erased_customer_is_unaddressed(record, receive, at):
    erase.erase(record.customer, at=at)

    assert receive(thanks(record)) is Outcome.UNADDRESSED

    assert reply_texts() == []


def test_archived_customer_may_still_reply(record, receive, at):
    intake.archive_customer(record.customer, at=at)

    assert receive(thanks(record)) is Outcome.REPLY


def test_reply_proves_that_an_uncertain_copy_arrived(record, receive, at):
    other = CustomerFactory(email="bea@x.example")
    uncertain = DeliveryRecord.objects.create(
        message=record.message,
        version=record.version,
        customer=other,
        status=Status.UNCERTAIN,
        reason=Reason.LOST_TOUCH,
        matched_at=at,
        taken_at=at,
    )

    receive(with_headers(thanks(uncertain), From="bea@x.example"))

    uncertain.refresh_from_db()
    assert (uncertain.status, uncertain.sent_at) == (Status.SENT, at)
    assert uncertain.replied_at is not None


# Automatic replies

NOBODY = {
    "gmail's vacation": {"name": "vacation_gmail"},
    "exchange's out of office": {"name": "out_of_office_exchange"},
}
HEADERS = {
    "auto-submitted": {"Auto-Submitted": "auto-replied"},
    "auto-generated": {"Auto-Submitted": "auto-generated"},
    "x-autoreply": {"X-Autoreply": "yes"},
    "x-autorespond": {"X-Autorespond": ""},
    "precedence bulk": {"Precedence": "bulk"},
    "precedence auto_reply": {"Precedence": "auto_reply"},
    "empty return path": {"Return-Path": "<>"},
    "out of office": {"Subject": "Out of Office: Re: Hi"},
    "abwesenheit": {"Subject": "=?utf-8?q?Abwesenheitsnotiz=3A_Hi?="},
    "réponse automatique": {"Subject": "=?utf-8?q?R=C3=A9ponse_automatique_=3A_Hi?="},
    "автоматический ответ": {"Subject": "=?utf-8?b?0JDQstGC0L7QvNCw0YLQuNGH0LXRgdC60LjQuSDQvtGC0LLQtdGC?="},
    "ooo": {"Subject": "OOO"},
    "ooo with a colon": {"Subject": "OOO: Re: Hi"},
    "on holiday in brackets": {"Subject": "On holiday (Re: Hi)"},
    "i am on annual leave": {"Subject": "I am on annual leave."},
    "自動返信メール": {"Subject": str(Header("自動返信メール", "utf-8"))},
    "自動返信 with a wide colon": {"Subject": str(Header("自動返信\uff1aお問い合わせ", "utf-8"))},
    "自動応答メッセージ": {"Subject": str(Header("自動応答メッセージ", "utf-8"))},
    "自动回复邮件": {"Subject": str(Header("自动回复邮件: Hi", "utf-8"))},
    "автоответчик": {"Subject": str(Header("Автоответчик: Hi", "utf-8"))},
    "with the mark of a company": {"Subject": "[External] Automatic reply: Re: Hi"},
    "hungarian": {"Subject": str(Header("Automatikus válasz: Hi", "utf-8"))},
    "a read receipt": {"Content-Type": "multipart/report; report-type=disposition-notification; boundary=b"},
    "a mailer daemon": {"From": "MAILER-DAEMON@x.example"},
}


@pytest.mark.parametrize("which", NOBODY)
def test_automatic_reply_is_not_a_reply(record, receive, which):
    assert receive(reply_sample(record, NOBODY[which]["name"])) is Outcome.AUTO_REPLY

    record.refresh_from_db()
    assert (reply_texts(), record.replied_at) == ([], None)


@pytest.mark.parametrize("which", HEADERS)
def test_each_auto_reply_header_is_enough(record, receive, which):
    assert receive(with_headers(thanks(record), **HEADERS[which])) is Outcome.AUTO_REPLY

    assert reply_texts() == []


def test_auto_reply_subject_in_raw_utf_8_is_recognised(record, receive):
    mail = thanks(record).replace(b"Re: Hi", "Réponse automatique : Hi".encode())

    assert receive(mail) is Outcome.AUTO_REPLY


@pytest.mark.parametrize("sender", ["", "<>", "MAILER-DAEMON"])
def test_empty_envelope_sender_marks_an_automatic_reply(record, receive, sender):
    assert receive(thanks(record), envelope_sender=sender) is Outcome.AUTO_REPLY


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "no"},
        {"Precedence": "normal"},
        {"Return-Path": "<ann@x.example>"},
        {"Subject": "Re: Out of office tips"},
        {"Subject": "OOO - back on Monday"},
        {"Subject": "On vacation until Monday"},
        {"From": "bounce-house@x.example"},
        {"From": "postmaster@x.example"},
        {"From": "Acme <no-reply@x.example>"},
        {"Subject": "Your vacation photos"},
        {"Subject": "Ooo nice photos"},
        {"Subject": "Ooo-la-la"},
        {"Subject": "On holiday? 20% off"},
        {"Subject": str(Header("自動返信メールが届きません", "utf-8"))},
        {"Subject": str(Header("Автоответчик не работает", "utf-8"))},
        {"X-Auto-Response-Suppress": "DR, OOF, AutoReply"},
    ],
)
def test_personal_reply_is_not_mistaken_for_an_automatic_one(record, receive, headers):
    assert receive(with_headers(thanks(record), **headers), envelope_sender="ann@x.example") is Outcome.REPLY


def test_person_with_the_name_of_a_server_is_kept_with_a_note(record, receive):
    senders = ("Parcel Delivery Service <ann@x.example>", "System Administrator <ann@x.example>", "mta@x.example")
    topics = {"Re: Hi": "What is my quota?", "Re: Delivery failed": "My order never came.", "Re: Hello": "Thanks!"}
    mails = [(sender, subject, words) for sender in senders for subject, words in topics.items()]

    outcomes = [
        receive(
            with_headers(thanks(record).replace(b"Thanks!", words.encode()), From=sender, Subject=subject).replace(
                b"<1@x.example>", f"<{number}@x.example>".encode()
            ),
            envelope_sender="ann@x.example",
        )
        for number, (sender, subject, words) in enumerate(mails)
    ]

    assert outcomes == [Outcome.REPLY] * len(mails)
    doubts = [note for note in note_texts() if note.startswith("This may be an automatic reply")]
    assert doubts == ["This may be an automatic reply: it reads like a notice of a mail server."] * 6


# Content


def test_html_and_variables_in_plain_text_are_text(record, receive):
    mail = thanks(record).replace(b"Thanks!", b"<script>alert(1)</script> {{ first_name }} {% raw %} <b>bold</b>")

    receive(mail)

    body = ConversationPart.objects.get().body
    assert "<script" not in body
    assert "<b>" not in body
    assert reply_texts() == ["<script>alert(1)</script> {{ first_name }} {% raw %} <b>bold</b>"]


def test_hidden_elements_and_scripts_are_removed(record, receive):
    html = (
        b"<html><head><title>x</title><style>p{}</style></head><body onload=evil()><script>evil()</script>"
        b'<p>Thanks <a href="javascript:evil()">here</a></p><!-- hidden --></body></html>'
    )
    mail = with_headers(thanks(record).replace(b"Thanks!\r\n", html), Content_Type="text/html")

    receive(mail)

    body = ConversationPart.objects.get().body
    assert "evil()</script>" not in body
    assert "<a" not in body
    assert "hidden" not in body


def test_hostile_file_name_is_text(record, receive):
    part = (
        b'--b\r\nContent-Type: application/pdf; name="x"\r\nContent-Disposition: attachment;'
        b' filename="<img src=x onerror=evil()>{{ x"\r\n\r\n\r\n--b--\r\n'
    )
    body = b"--b\r\nContent-Type: text/plain\r\n\r\nThanks!\r\n" + part
    mail = with_headers(thanks(record), Content_Type='multipart/mixed; boundary="b"').replace(b"Thanks!\r\n", body)

    assert receive(mail) is Outcome.REPLY

    assert "<img" not in ConversationPart.objects.get(part_type=PartType.NOTE).body


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (None, "(This email has no text.)"),
        ("Re: Hi, yes please", "(This email has no text. Subject: Re: Hi, yes please)"),
    ],
)
def test_email_without_text_is_a_reply_with_its_subject(record, receive, subject, text):
    receive(with_headers(thanks(record).replace(b"Thanks!", b""), Subject=subject))

    assert reply_texts() == [text]


def test_text_that_may_be_quoted_is_stored_apart_and_never_lost(record, receive):
    receive(thanks(record).replace(b"Thanks!", b"Yes please.\n\nAda wrote:\n\nShall I <book> it?"))

    part = ConversationPart.objects.get(part_type=PartType.COMMENT)
    assert part.shown_body == "<p>Yes please.</p>"
    assert part.folded_body == "<p>Ada wrote:</p><p>Shall I &lt;book&gt; it?</p>"
    payload = payloads.part(part, of=part.conversation, plain=True)
    assert payload["body"] == "Yes please.\n\nAda wrote:\n\nShall I <book> it?"
    assert payload["body_that_may_be_quoted"] == "Ada wrote:\n\nShall I <book> it?"
    shown = messenger_payloads.part_payload(part)
    assert (shown["body"], shown["folded"]) == (part.shown_body, part.folded_body)


def test_answer_below_the_quote_of_a_mail_program_is_stored_folded(record, receive):
    mail = reply_sample(record, "outlook_for_windows")
    end = b"</body>" if b"</body>" in mail else b"</html>"
    receive(mail.replace(end, b"<p>An answer below.</p>" + end))

    assert reply_texts() == [WRITTEN_WITH["outlook_for_windows"]]
    part = ConversationPart.objects.get(part_type=PartType.COMMENT)
    assert html_to_text(part.folded_body).endswith("An answer below.")


def test_long_end_that_may_be_quoted_is_truncated_with_a_note(record, receive):
    header = b"-----Original Message-----"
    receive(thanks(record).replace(b"Thanks!", b"Thanks!\n\n" + header + b"\n" + b"word " * 30_000))

    part = ConversationPart.objects.get(part_type=PartType.COMMENT)
    assert part.shown_body == "<p>Thanks!</p>"
    assert 99_000 < len(html_to_text(part.folded_body)) <= 100_000
    assert note_texts() == ["This email was longer than 100,000 characters; the rest was cut off."]


def test_reply_written_within_the_quote_is_kept(record, receive):
    receive(thanks(record).replace(b"Thanks!", b"> Is it blue?\r\n> Yes!"))

    assert reply_texts() == ["> Is it blue?\n> Yes!"]


def test_very_long_email_is_truncated_with_a_note(record, receive):
    receive(thanks(record).replace(b"Thanks!", b"word " * 30_000))

    assert len(reply_texts()[0]) <= 100_000
    assert note_texts() == ["This email was longer than 100,000 characters; the rest was cut off."]


@pytest.mark.parametrize(
    "broken",
    [
        b"Content-Type: text/plain; charset=klingon\r\n",
        b'Content-Type: multipart/mixed; boundary="never"\r\n',
        b"Content-Type: text/plain; charset=utf-16\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Type: ;;;\r\nDate: yesterday\r\nIn-Reply-To: <<<>>>\r\n",
        b"Subject: =?utf-8?b?####?=\r\nReferences: " + b"<a@b> " * 1000 + b"\r\n",
        b"X: \xff\xfe\x00\r\n",
        b"Content-Type: text/plain; charset=idna\r\n",
        b"Content-Type: text/plain; charset=undefined\r\n",
        b'Content-Type: text/plain; charset="a\x00b"\r\n',
    ],
)
def test_malformed_email_is_parsed(record, receive, broken):
    assert receive(broken + thanks(record)) is Outcome.REPLY


HEADS_OF_STRANGERS = {
    "ids": "In-Reply-To: <" + "a@" * 20_000,
    "one id": "References: " + "<a@" * 20_000,
    "addresses": "\n".join(f"To: {'a' * 9_000}" for _ in range(100)),
    "addresses in brackets": "\n".join(f"Cc: <{'a@' * 4_500}" for _ in range(100)),
    "a bounce": (
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n"
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nAction: failed\n"
        f"Diagnostic-Code: smtp; {'550 no ' * 20_000}\n\n--b\n"
        f"Content-Type: text/rfc822-headers\n\nMessage-ID: <{'a@' * 20_000}\n--b--"
    ),
}


@pytest.mark.parametrize("which", HEADS_OF_STRANGERS)
def test_long_quote_headers_are_parsed_in_linear_time(receive, db, which):
    started = perf_counter()

    outcome = receive(f"From: ann@x.example\n{HEADS_OF_STRANGERS[which]}\n\nHi".encode())

    assert outcome in (Outcome.UNADDRESSED, Outcome.FOREIGN)
    # Takes minutes if every position is tried as a start.
    assert perf_counter() - started < 5


def test_conditional_comments_are_removed(record, receive):
    html = b"<p>Hi <![if !supportLists]><span>1.</span><![endif]> <![foo[ x ]]>there<!-- no --></p>"

    receive(b"Content-Type: text/html\r\n" + thanks(record).replace(b"Thanks!", html))

    assert reply_texts() == ["Hi 1. there"]


def test_text_beside_large_inline_images_is_kept(record, receive):
    picture = b'<img src="data:image/png;base64,' + b"iVBORw0KGgo" * 250_000 + b'">'
    html = b"<p>Above.</p>" + picture + b"<p>Below.</p>"

    receive(b"Content-Type: text/html\r\n" + thanks(record).replace(b"Thanks!", html))

    assert reply_texts() == ["Above.\n\nBelow."]


def test_very_large_html_is_truncated(record, receive):
    html = b"<p>Above.</p><blockquote type=cite>" + b"<p>Before</p>" * 200_000 + b"</blockquote>"

    receive(b"Content-Type: text/html\r\n" + thanks(record).replace(b"Thanks!", html))

    assert reply_texts() == ["Above."]
