"""The mail server of the benchmarks: it counts emails, and holds back its answers."""

import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def sink(*options: str) -> Iterator[smtplib.SMTP]:
    """Run the server; yield a conversation with it."""
    command = [sys.executable, "-m", "benchmarks.sinks.smtp", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout
            with smtplib.SMTP("127.0.0.1", int(process.stdout.readline()), timeout=30) as talk:
                yield talk
        finally:
            process.terminate()
            process.communicate()


def send(talk: smtplib.SMTP) -> None:
    talk.sendmail("a@acme.example", "b@example.com", "Subject: Hello\r\n\r\nHello")


def test_it_counts_the_emails_that_it_accepted():
    with sink() as talk:
        assert talk.docmd("STAT") == (250, b"0 0")
        send(talk)
        send(talk)
        assert talk.docmd("STAT") == (250, b"2 0")


def test_it_counts_the_emails_that_it_has_begun_and_not_answered():
    with sink() as talk:
        send(talk)
        other = smtplib.SMTP("127.0.0.1", talk.sock.getpeername()[1], timeout=30)
        other.mail("a@acme.example")
        assert talk.docmd("STAT") == (250, b"1 1")
        other.rcpt("b@example.com")
        other.data("Subject: Hello\r\n\r\nHello")
        assert talk.docmd("STAT") == (250, b"2 0")
        # Nobody can tell whether a client that is gone has read the answer.
        other.close()
        deadline = time.monotonic() + 10
        while talk.docmd("STAT") != (250, b"2 1") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert talk.docmd("STAT") == (250, b"2 1")


def test_it_holds_back_each_answer():
    with sink("--delay", "50") as talk:
        talk.ehlo()
        start = time.monotonic()
        send(talk)
        took = time.monotonic() - start

    assert took >= 4 * 0.05, "The sender, the recipient, DATA and the text have an answer each."


def test_it_writes_the_message_ids_to_a_file(tmp_path):
    with sink(str(tmp_path / "ids")) as talk:
        talk.sendmail("a@acme.example", "b@example.com", "Message-ID: <1@acme.example>\r\n\r\nHello")
        assert talk.docmd("STAT") == (250, b"1 0")

    assert (tmp_path / "ids").read_text() == "<1@acme.example>\n"
