"""`manage.py receive`: its exit code tells the mail server what to do, so that no email is lost."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections

from delivery import reply_addresses
from delivery.inbound import router
from delivery.inbound.router import Outcome
from delivery.models import Conversation, ConversationPart, DeliveryRecord
from tests.factories import CustomerFactory, MessageFactory
from tests.support.inbound_emails import parse_email, reply_sample, sample_email

BASE = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def inbound(settings) -> None:
    settings.INBOUND_DOMAIN = "reply.acme.example"


@pytest.fixture
def record(db, at) -> DeliveryRecord:
    CustomerFactory(user_id="ann", email="ann@x.example")
    return MessageFactory(one_off=True, live=True, at=at).records.get()


@pytest.fixture
def pipe(monkeypatch, capsys):
    """Pipe an email into the command; return its exit code and output."""

    def pipe(content: bytes, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with pytest.raises(SystemExit) as ended:
            call_command("receive", *arguments)
        said = capsys.readouterr()
        return int(str(ended.value.code)), said.out + said.err

    return pipe


def test_reply_is_accepted(pipe, record):
    assert pipe(reply_sample(record, "apple_mail")) == (os.EX_OK, "Reply added to its conversation.\n")

    assert ConversationPart.objects.count() == 1


def test_repeated_email_is_accepted(pipe, record):
    pipe(reply_sample(record, "apple_mail"))

    assert pipe(reply_sample(record, "apple_mail"))[0] == os.EX_OK
    assert ConversationPart.objects.count() == 1


def test_from_line_of_a_mailbox_file_is_accepted(pipe, record):
    mail = b"From ann@x.example Mon May  4 11:31:44 2026\r\n" + reply_sample(record, "apple_mail")

    assert pipe(mail)[0] == os.EX_OK


def test_envelope_recipient_is_used(pipe, record):
    mail = reply_sample(record, "apple_mail", reply_to="ada@acme.example", message_id="<else@x.example>")

    assert (
        pipe(mail, "--recipient", reply_addresses.reply_address(record).upper(), "--sender", "ann@x.example")[0]
        == os.EX_OK
    )
    assert ConversationPart.objects.count() == 1


def test_email_with_an_empty_sender_is_not_a_reply(pipe, record):
    assert pipe(reply_sample(record, "apple_mail"), "--sender", "") == (os.EX_OK, "Automatic reply: nothing to do.\n")

    assert ConversationPart.objects.count() == 0


def test_email_to_a_foreign_address_bounces(pipe, db):
    assert pipe(sample_email("apple_mail", reply_to="reply+aaaaaaaaaaaaaaaaaaaa@reply.acme.example"))[0] == os.EX_NOUSER


@pytest.mark.parametrize("nothing", [b"", b"\r\n\r\n", b"hello", b"\x00\x01\x02", b"{}"])
def test_input_that_is_not_an_email_is_refused(pipe, nothing):
    code, said = pipe(nothing)

    assert (code, "Not an email" in said) == (os.EX_DATAERR, True)


def test_email_nested_too_deeply_is_refused(pipe):
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2_000))

    code, said = pipe(b"From: ann@x.example\n" + deep)

    assert (code, "nested" in said) == (os.EX_DATAERR, True)


def test_database_outage_makes_the_server_try_again(pipe, monkeypatch):
    def lost(*_args, **_facts):
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(router, "receive", lost)

    assert pipe(b"From: a@x.example\r\n\r\nHi")[0] == os.EX_TEMPFAIL


def test_any_other_error_makes_the_server_try_again(pipe, monkeypatch, caplog):
    def broken(*_args, **_facts):
        raise ZeroDivisionError

    monkeypatch.setattr(router, "receive", broken)

    assert pipe(b"From: a@x.example\r\n\r\nHi")[0] == os.EX_TEMPFAIL
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.processes
@pytest.mark.parametrize(
    ("mail", "code"), [(b"From: ann@x.example\r\nTo: %b\r\n\r\nHi", os.EX_TEMPFAIL), (b"", os.EX_DATAERR)]
)
def test_command_runs_as_a_process_without_a_database(settings, mail, code):
    settings.SECRET_KEY = "theirs"
    address = reply_addresses.reply_address_of(reply_addresses.ReferentKind.RECORD, 1).encode()
    nowhere = {**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing", "SECRET_KEY": "theirs"}

    ended = subprocess.run(
        [sys.executable, "manage.py", "receive"],
        cwd=BASE,
        env=nowhere,
        input=mail % address if mail else mail,
        capture_output=True,
        check=False,
        timeout=120,
    )

    assert ended.returncode == code, ended.stderr


@pytest.mark.django_db(transaction=True)
def test_concurrent_copies_of_an_email_are_one_reply(at):
    CustomerFactory(user_id="ann", email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at).records.get()
    mails = [reply_sample(record, name) for name in ("gmail", "apple_mail")]
    outcomes: list[Outcome] = []
    ready = threading.Barrier(6)

    def receive(mail: bytes) -> None:
        ready.wait(10)
        try:
            outcomes.append(router.receive(parse_email(mail), at=at))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=receive, args=(mail,)) for mail in mails * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(outcomes) == [*[Outcome.DUPLICATE] * 4, *[Outcome.REPLY] * 2]
    assert (Conversation.objects.count(), ConversationPart.objects.count()) == (1, 2)
