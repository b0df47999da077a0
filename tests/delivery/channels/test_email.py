"""Emails over real sockets, whatever the server does."""

import shutil
import socket
import subprocess
from dataclasses import replace
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.channels.base import (
    ChannelDown,
    ConnectionRefused,
    Envelope,
    NoSuchMailbox,
    Rejected,
    SenderRefused,
    Unavailable,
)
from delivery.channels.email import Email, mail_of
from tests.support.smtp_server import PLAIN, STARTTLS, USUAL, Act

WELCOME = Envelope(
    to=("ada@example.com",),
    subject="Welcome",
    html="<p>Hello Ada</p>",
    text="Hello Ada",
    sender="Support <support@acme.example>",
    reply_to="reply@acme.example",
    message_id="<1.abc@acme.example>",
    headers={"List-Unsubscribe": "<https://acme.example/u/1>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
)
USUAL_FROM_NOW_ON = {step: [USUAL[step]] for step in ("MAIL", "RCPT", "DATA", "TEXT")}
WITH_AND_WITHOUT_PIPELINING = {"pipelining": {}, "one by one": {"EHLO": PLAIN}}


class NobodyKnows:
    """Any exception that is not one of the channel's."""


def outcome(channel: Email, envelope: Envelope = WELCOME) -> tuple[type, str]:
    try:
        return str, channel.send(envelope)
    except (Rejected, Unavailable) as decision:
        return type(decision), str(decision)
    except Exception as lost:  # noqa: BLE001 - that is the question
        return NobodyKnows, f"{type(lost).__name__}: {lost}"


def test_email_arrives_as_written(server, channel):
    taken = server().taken

    assert channel.send(WELCOME) == "<1.abc@acme.example>"

    mail = message_from_bytes(taken[0].content, policy=policy.default)
    assert (taken[0].sender, taken[0].recipients) == ("support@acme.example", ["ada@example.com"])
    assert mail["Subject"] == "Welcome"
    assert mail["From"] == "Support <support@acme.example>"
    assert mail["To"] == "ada@example.com"
    assert mail["Reply-To"] == "reply@acme.example"
    assert mail["Message-ID"] == "<1.abc@acme.example>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Date"].datetime is not None
    assert mail.get_body(("plain",)).get_content().strip() == "Hello Ada"
    assert mail.get_body(("html",)).get_content().strip() == "<p>Hello Ada</p>"


def test_return_path_is_the_envelope_sender(server, channel):
    taken = server().taken

    channel.send(replace(WELCOME, return_path="bounce+token@in.acme.example"))

    mail = message_from_bytes(taken[0].content, policy=policy.default)
    assert (taken[0].sender, mail["From"]) == ("bounce+token@in.acme.example", "Support <support@acme.example>")


def test_email_without_html_is_plain_text(server, channel):
    taken = server().taken

    channel.send(replace(WELCOME, html=""))

    mail = message_from_bytes(taken[0].content, policy=policy.default)
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().strip() == "Hello Ada"


@pytest.mark.parametrize("ehlo", WITH_AND_WITHOUT_PIPELINING.values(), ids=list(WITH_AND_WITHOUT_PIPELINING))
@pytest.mark.parametrize(
    ("answers", "meaning", "words"),
    [
        ({}, str, "<1.abc@acme.example>"),
        ({"RCPT": "251 will forward"}, str, "<1.abc@acme.example>"),
        # Permanent refusals.
        ({"MAIL": "552 too large"}, Rejected, "552 too large"),
        ({"MAIL": "550 5.3.4 too large"}, Rejected, "5.3.4 too large"),
        ({"RCPT": "553 5.7.1 <ann@b.example>: Sender address rejected: by their server"}, Rejected, "by their server"),
        ({"RCPT": "550 5.1.1 no such user"}, NoSuchMailbox, "550 5.1.1 no such user"),
        ({"RCPT": "550 inconnu: é"}, Rejected, "550 inconnu: é"),
        ({"RCPT": "550-no such\r\n550 user"}, NoSuchMailbox, "550 no such user"),
        ({"RCPT": "550 a\x00b"}, Rejected, "550 a b"),
        ({"RCPT": "550 no", "DATA": "554 no valid recipients"}, Rejected, "550 no"),
        ({"DATA": "554 not from you"}, Rejected, "554 not from you"),
        ({"TEXT": "550 spam"}, Rejected, "550 spam"),
        ({"TEXT": "550 5.1.1 no such user"}, NoSuchMailbox, "550 5.1.1 no such user"),
        ({"TEXT": "552 too large"}, Rejected, "552 too large"),
        # Temporary refusals.
        ({"MAIL": "451 try later"}, Unavailable, "451 try later"),
        ({"RCPT": "450 greylisted"}, Unavailable, "450 greylisted"),
        ({"RCPT": "451 later", "DATA": "503 no recipients"}, Unavailable, "451 later"),
        ({"DATA": "451 later"}, Unavailable, "451 later"),
        ({"TEXT": "451 disk is slow"}, Unavailable, "451 disk is slow"),
        ({"TEXT": "452 disk is full"}, Unavailable, "452 disk is full"),
        # Lost before the text left.
        ({"MAIL": Act.DROP}, Unavailable, "lost"),
        ({"MAIL": Act.HANG}, Unavailable, "timed out"),
        ({"RCPT": Act.DROP}, Unavailable, "lost"),
        ({"RCPT": Act.HANG}, Unavailable, "timed out"),
        ({"DATA": Act.DROP}, Unavailable, "lost"),
        ({"DATA": Act.HANG}, Unavailable, "timed out"),
        ({"MAIL": "what?"}, Unavailable, "Invalid reply of the server"),
        ({"MAIL": "354 go on"}, Unavailable, "Invalid reply of the server"),
        ({"DATA": "250 fine"}, Unavailable, "Invalid reply of the server"),
        ({"MAIL": "2" * 10_000}, Unavailable, "Line too long"),
        # Nothing can go at all.
        ({"greeting": "421 too busy"}, ConnectionRefused, "too busy"),
        ({"greeting": "554 go away"}, ConnectionRefused, "go away"),
        ({"greeting": Act.DROP}, ConnectionRefused, "cannot be reached"),
        ({"greeting": Act.HANG}, ConnectionRefused, "timed out"),
        ({"EHLO": Act.DROP}, ConnectionRefused, "cannot be reached"),
        ({"EHLO": Act.HANG}, ConnectionRefused, "timed out"),
        ({"EHLO": "550 who?", "HELO": "550 who?"}, ConnectionRefused, "who?"),
        ({"MAIL": "421 shutting down"}, ConnectionRefused, "shutting down"),
        ({"RCPT": "421 shutting down"}, ConnectionRefused, "shutting down"),
        ({"DATA": "421 shutting down"}, ConnectionRefused, "shutting down"),
        ({"TEXT": "421 shutting down"}, ConnectionRefused, "shutting down"),
        ({"MAIL": "530 log in first"}, ChannelDown, "530 log in first"),
        ({"MAIL": "503 out of step"}, ChannelDown, "503 out of step"),
        ({"MAIL": "454 no TLS just now"}, ChannelDown, "454 no TLS just now"),
        ({"MAIL": "451 4.7.0 Too many concurrent SMTP connections"}, ConnectionRefused, "Too many"),
        # Nothing of this sender can go.
        ({"MAIL": "550 sender unknown"}, SenderRefused, "550 sender unknown"),
        ({"MAIL": "550 5.1.1 no such user"}, SenderRefused, "550 5.1.1 no such user"),
        ({"MAIL": "554 go away"}, SenderRefused, "refuses the sender support@acme.example: 554 go away"),
        ({"RCPT": "553 5.7.1 <support@ACME.example>: Sender address rejected: not owned"}, SenderRefused, "not owned"),
        ({"TEXT": "550 5.7.1 <support@acme.example>: Sender address rejected: no"}, SenderRefused, "rejected: no"),
        # Uncertain.
        ({"TEXT": Act.DROP}, NobodyKnows, "unexpectedly closed"),
        ({"TEXT": Act.HANG}, NobodyKnows, "timed out"),
        ({"TEXT": "what?"}, NobodyKnows, "Garbled"),
        ({"TEXT": "354 go on"}, NobodyKnows, "Garbled"),
        ({"TEXT": "2" * 10_000}, NobodyKnows, "Line too long"),
    ],
)
def test_answer_of_the_server_decides(server, channel, ehlo, answers, meaning, words):
    server(**{**ehlo, **answers})

    found, said = outcome(channel)

    assert found is meaning
    assert words in said


@pytest.mark.parametrize("ehlo", WITH_AND_WITHOUT_PIPELINING.values(), ids=list(WITH_AND_WITHOUT_PIPELINING))
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "TEXT"])
@pytest.mark.parametrize("refusal", ["550 no", "450 later", "421 closing", "530 log in", Act.DROP, Act.HANG], ids=str)
def test_next_email_is_sent_whatever_happened_to_the_last(server, channel, ehlo, step, refusal):
    taken = server(**ehlo, **{step: [refusal, *USUAL_FROM_NOW_ON[step]]}).taken
    outcome(channel)

    channel.send(replace(WELCOME, to=("next@example.com",), text="Next"))

    assert [mail.recipients for mail in taken] == [["next@example.com"]]
    assert b"Next" in taken[0].content


def test_several_copies_go_over_one_connection(server, channel):
    told = server(RCPT=["250 ok", "550 no such user", "250 ok"])

    for _ in range(5):
        outcome(channel)

    assert len(told.taken) == 4
    assert told.connections == 1


def test_commands_are_pipelined_if_the_server_supports_it(server, channel):
    told = server()

    channel.send(WELCOME)

    size = len(mail_of(WELCOME).content)
    assert (
        f"MAIL FROM:<support@acme.example> SIZE={size}\r\nRCPT TO:<ada@example.com>\r\nDATA\r\n".encode() in told.writes
    )


def test_commands_are_sent_one_by_one_without_pipelining(server, channel):
    told = server(EHLO=PLAIN)

    channel.send(WELCOME)

    assert {b"MAIL FROM:<support@acme.example>\r\n", b"RCPT TO:<ada@example.com>\r\n", b"DATA\r\n"} < set(told.writes)


def test_text_is_not_sent_if_every_recipient_is_refused(server, channel):
    told = server(RCPT="550 no such user")

    outcome(channel)

    assert b".\r\n" in told.writes
    assert not any(b"Hello Ada" in write for write in told.writes)
    assert told.taken == []


@pytest.mark.parametrize(
    "farewell",
    [{"TEXT": ["250 taken", "250 taken"]}, {"MAIL": ["250 ok", "421 idle", "250 ok"]}],
    ids=["silent", "421"],
)
def test_hang_up_between_two_copies_is_recovered(server, channel, farewell):
    told = server(**farewell)
    channel.send(WELCOME)
    if "TEXT" in farewell:
        told.hang_up()

    channel.send(WELCOME)

    assert len(told.taken) == 2
    assert told.connections == 2


def test_second_hang_up_on_a_fresh_connection_is_unavailable(server, channel):
    told = server(MAIL=["250 ok", Act.DROP])
    channel.send(WELCOME)

    assert outcome(channel)[0] is Unavailable
    assert told.connections == 3 - 1


def test_silent_server_is_left_alone_for_a_while(server, channel):
    server(TEXT=Act.DROP)

    assert [outcome(channel)[0] for _ in range(5)] == [NobodyKnows, NobodyKnows, ChannelDown, NobodyKnows, NobodyKnows]


def test_server_that_is_not_there(settings, server, channel):
    server().close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.EMAIL_PORT = listener.getsockname()[1]

    assert outcome(channel)[0] is ConnectionRefused


@pytest.mark.parametrize(
    "wanted",
    [
        {"EMAIL_USE_TLS": True},
        {"EMAIL_USE_SSL": True},
        {"EMAIL_HOST_USER": "us", "EMAIL_HOST_PASSWORD": "secret"},
        {"EMAIL_HOST": "nowhere.invalid"},
    ],
    ids=str,
)
def test_server_without_the_configured_features_gets_nothing(settings, server, channel, wanted):
    told = server()
    for name, value in wanted.items():
        setattr(settings, name, value)

    found, said = outcome(channel)

    assert found is ConnectionRefused
    assert "cannot be reached" in said
    assert told.taken == []


def test_wrong_password_is_the_channels_fault(settings, server, channel):
    server(EHLO="250-scripted\r\n250 AUTH PLAIN", AUTH="535 wrong password")
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "us", "secret"

    found, said = outcome(channel)

    assert found is ConnectionRefused
    assert "wrong password" in said


@pytest.mark.parametrize(
    "subject",
    ["Grüße, Zoë", "x" * 300, "many words " * 40, "long and Zoë " * 40, "", " spaces around ", "=?utf-8?q?no?="],
)
def test_subject_arrives_as_it_was_written(server, channel, subject):
    taken = server().taken

    channel.send(replace(WELCOME, subject=subject))

    parsed = message_from_bytes(taken[0].content, policy=policy.default)
    assert str(parsed["Subject"]).split() == subject.split() or subject.startswith("=?")
    assert parsed.get_body(("plain",)).get_content().strip() == "Hello Ada"


def test_text_arrives_as_it_was_written(server, channel):
    text = ".\n..\n.hidden\nZoë 🙂\n" + "é" * 2000 + "\n.\r\nMAIL FROM:<x@y.example>\rend"
    taken = server().taken

    channel.send(replace(WELCOME, text=text))

    parsed = message_from_bytes(taken[0].content, policy=policy.default)
    assert parsed.get_body(("plain",)).get_content().splitlines() == text.splitlines()
    assert len(taken) == 1


def test_names_and_domains_of_other_scripts_arrive(server, channel):
    taken = server().taken

    channel.send(replace(WELCOME, sender="Zoë “Z” <zoe@bücher.example>", to=("ada@bücher.example",)))

    assert (taken[0].sender, taken[0].recipients) == ("zoe@xn--bcher-kva.example", ["ada@xn--bcher-kva.example"])
    parsed = message_from_bytes(taken[0].content, policy=policy.default)
    assert parsed["From"].addresses[0].display_name == "Zoë “Z”"


OF_MIME = {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
BREAKS = [
    "\r\nBcc: x@y.example",
    "\nBcc: x@y.example",
    "\r",
    "\x0bBcc: x",
    "\x0c",
    "\x1c",
    "\x85",
    "\u2028x",
    "\x00",
    "\ud800",
]


@pytest.mark.parametrize("wrong", BREAKS, ids=ascii)
@pytest.mark.parametrize("place", ["subject", "sender", "reply_to", "message_id", "to", "header"])
def test_header_that_would_break_out_is_refused_and_nothing_sent(server, channel, place, wrong):
    told = server()
    value = getattr(WELCOME, place, "")
    bad = {
        "to": {"to": (f"ada@example.com{wrong}",)},
        "header": {"headers": {"X-Note": f"fine{wrong}"}},
    }.get(place, {place: f"{value}{wrong}"})

    found, said = outcome(channel, replace(WELCOME, **bad))

    assert found is Rejected
    assert "control character" in said
    assert told.heard == []


@pytest.mark.parametrize("name", ["X Note", "X:Note", "X-Note\r\nBcc", "", "Zoë"])
def test_invalid_header_name_is_refused(channel, name):
    assert outcome(channel, replace(WELCOME, headers={name: "x"}))[0] is Rejected


@pytest.mark.parametrize(
    "address",
    [
        *("", "ada", "ada@", "@example.com", "ada@exa mple.com", "ada@example..com", f"ada@{'x' * 70}.com"),
        *("ada@example.com, eve@example.com", "<ada@example.com", "ada@@b", "a>b@example.com", "zoë@example.com"),
        "ada lovelace@example.com",
    ],
)
@pytest.mark.parametrize("place", ["to", "sender", "reply_to"])
def test_invalid_address_is_refused(server, channel, place, address):
    if not address and place != "to":
        pytest.skip("Without a sender Django's default stands; a reply address need not be.")
    told = server()

    found, said = outcome(channel, replace(WELCOME, **{place: (address,) if place == "to" else address}))

    assert found is Rejected
    assert address in said
    assert told.heard == []


def test_email_without_recipients_is_refused(channel):
    assert outcome(channel, replace(WELCOME, to=()))[0] is Rejected


@given(
    st.builds(
        replace, st.just(WELCOME), **{name: st.text() for name in ("subject", "html", "text", "sender", "reply_to")}
    )
)
def test_any_text_becomes_an_email_or_is_refused(envelope):
    try:
        content = mail_of(envelope).content
    except Rejected:
        return
    head = content.partition(b"\r\n\r\n")[0]
    names = {line.partition(b":")[0].decode() for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))}
    assert names <= {"Subject", "From", "To", "Reply-To", "Date", *WELCOME.headers, "Message-ID", *OF_MIME}
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_any_back_end_of_djangos_will_do(settings, mailoutbox, channel):
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    assert channel.send(WELCOME) == "<1.abc@acme.example>"

    assert mailoutbox[0].alternatives[0].content == "<p>Hello Ada</p>"


def test_djangos_own_smtp_back_end_will_do(settings, server, channel):
    told = server(RCPT=["250 ok", "550 no such user", "450 later"], TEXT=["250 taken", Act.DROP])
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"

    assert [outcome(channel)[0] for _ in range(3)] == [str, NoSuchMailbox, Unavailable]
    assert len(told.taken) == 1


def test_closing_sends_quit(server, channel):
    told = server()
    channel.send(WELCOME)

    channel.close()
    channel.close()

    assert told.heard[-1].lower() == "quit"


def test_email_to_several_goes_to_accepted_recipients(server, channel):
    told = server(RCPT=["550 no such user", "250 ok"])

    channel.send(replace(WELCOME, to=("nobody@example.com", "ada@example.com")))

    assert [mail.recipients for mail in told.taken] == [["ada@example.com"]]


@pytest.fixture
def certificate(tmp_path) -> tuple[str, str]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("There is no openssl to make a certificate with.")
    key, made = str(tmp_path / "key.pem"), str(tmp_path / "made.pem")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    subprocess.run([openssl, "req", *kind, *names, "-keyout", key, "-out", made], check=True, capture_output=True)  # noqa: S603
    return made, key


@pytest.mark.parametrize(("encrypted", "offers"), [("EMAIL_USE_SSL", {}), ("EMAIL_USE_TLS", {"EHLO": STARTTLS})])
@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "not trusted"])
def test_email_is_sent_encrypted_or_not_at_all(settings, server, certificate, monkeypatch, encrypted, offers, trusted):
    told = server(certificate=certificate, **offers)
    settings.EMAIL_HOST = "localhost"
    setattr(settings, encrypted, True)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    email = Email()

    outcomes = [outcome(email)[0] for _ in range(2)]
    email.close()

    assert outcomes == [str if trusted else ConnectionRefused] * 2
    assert len(told.taken) == (2 if trusted else 0)
    assert any(write.startswith(b"MAIL") and write.endswith(b"DATA\r\n") for write in told.writes) == trusted


def test_back_end_that_is_not_there_takes_nothing_and_makes_nothing_uncertain(settings):
    settings.EMAIL_BACKEND = "no.such.backend.EmailBackend"

    with pytest.raises(ChannelDown, match=r"no\.such|No module"):
        Email().send(WELCOME)
