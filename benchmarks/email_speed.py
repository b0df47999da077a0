"""Emails per second of our worker, which writes a record of each, over a plain Django loop without records.

Both send the same mails, byte for byte, to the same sink, from one process and from two. Ours is the real path: records
are claimed from PostgreSQL, committed, filled in, handed over and settled. The loop reads the same customers in one
query, fills in the same compiled texts, and gives Django's own SMTP back-end lists of 100.
"""

import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from time import perf_counter

if __name__ == "__main__":
    import django

    django.setup()

from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone

from audiences.models import Audience, Customer
from benchmarks import population
from benchmarks.measure import Row, measure_alternately, ratio_row
from delivery import rendering
from delivery.channels.base import Envelope
from delivery.channels.email import mail_of
from delivery.matching import ongoing
from delivery.sending import claim, dispatcher
from messaging import authoring, lifecycle
from messaging.models import Message, Sender

CUSTOMERS, COMPANIES = 3_000, 150
SUBJECT = "Welcome to Acme, {{ first_name | default: 'you there' }}"
BODY = """
<h1>Hello {{ first_name | default: "there" }}</h1>
<p>You are on the {{ custom_attributes.plan }} plan, and we are glad that you are here. Three things help most people in
their first week, and none of them takes longer than a cup of tea:</p>
<ul><li><a href="https://acme.example/docs/import">Bring your data along</a>: it stays yours, and leaves with you.</li>
<li><a href="https://acme.example/docs/team">Ask your team in</a>: nobody likes to do this alone.</li>
<li><a href="https://acme.example/docs/first-report">Make a first report</a>, and send it to who asked.</li></ul>
<p>Whatever is unclear, answer this mail: a person reads it, usually within the hour. We write rarely, and only when
there is something to say.</p>
<p>Ann, for all of us at Acme<br>P.S. We wrote to {{ email }}, the address you gave.</p>
<p><a href="{{ unsubscribe_url }}">No more of these</a></p>
"""
# The commands of each side before the text of an email; each waits for its answer.
ANNOUNCED = (b"mail FROM:<a@acme.example>\r\n", b"rcpt TO:<b@example.com>\r\n", b"data\r\n")
WRITES = {"ours": (b"".join(ANNOUNCED),), "theirs": ANNOUNCED}
CONVERSATIONS = 8

Worker = subprocess.Popen[str]


def measure(*, times: int = 9) -> list[Row]:
    """Measure one worker process over one loop, and two over two."""
    population.create_population(customers=CUSTOMERS, companies=COMPANIES)
    message = live_message()
    check_same_bytes()
    rows = []
    with sink() as port:
        for count, name in ((1, "one worker / one loop"), (2, "two workers / two loops")):
            with processes("ours", count, port=port) as ours, processes("theirs", count, port=port) as theirs:
                limits = [limit_of_the_sink(side, port=port) for side in SIDES]
                pairs = measure_alternately(
                    lambda w=ours: speed(w, message), lambda w=theirs: speed(w, message), times=times
                )
            speeds = middle(pairs)
            made = ratio_row(
                f"emails a second, {name}",
                [a / b for a, b in pairs],
                at_least=1.0,
                note="{:,.0f} over {:,.0f} a second; the sink alone takes {:,.0f} and {:,.0f}".format(*speeds, *limits),
            )
            counts = all(limit >= 2 * reached for limit, reached in zip(limits, speeds, strict=True))
            rows.append(made if counts else replace(made, met=None, note=f"{made.note}: too few to tell"))
    return rows


def middle(pairs: list[tuple[float, float]]) -> list[float]:
    """Return the median of each side."""
    return [statistics.median(side) for side in zip(*pairs, strict=True)]


def live_message() -> Message:
    """Return an ongoing email to all customers."""
    now = timezone.now()
    sender = Sender.objects.create(name="Ann from Acme", email="ann@acme.example")
    everybody = Audience.objects.create(rules={"match": "all", "rules": []})
    message = Message.objects.create(title="Welcome", sender=sender, audience=everybody)
    authoring.revise(message, subject=SUBJECT, body=BODY, by=None, at=now)
    lifecycle.set_live(message, at=now)
    return message


@contextmanager
def sink() -> Iterator[int]:
    """Run the sink; yield its port."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sinks.smtp"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield int(next_line(process))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def limit_of_the_sink(side: str, *, port: int, turns: int = 1500) -> float:
    """Return the emails per second that the sink accepts from sockets that write as this side does."""
    talks = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONVERSATIONS)]
    text = next(plain_mails(0, 1)).message().as_bytes(linesep="\r\n") + b".\r\n"
    for talk in talks:
        talk.recv(100)
    start = perf_counter()
    for _ in range(turns):
        for written in (*WRITES[side], text):
            for talk in talks:
                talk.sendall(written)
            for talk in talks:
                talk.recv(100)
    took = perf_counter() - start
    for talk in talks:
        talk.close()
    return turns * CONVERSATIONS / took


@contextmanager
def processes(side: str, count: int, *, port: int) -> Iterator[list[Worker]]:
    """Start this many processes of one side, which wait for a start signal."""
    with ExitStack() as stack:
        there = {**os.environ, "EMAIL_URL": f"smtp://127.0.0.1:{port}"}
        started: list[Worker] = []
        for part in range(count):
            command = [sys.executable, "-m", "benchmarks.email_speed", side, str(part), str(count)]
            talk = subprocess.Popen(command, env=there, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            started.append(stack.enter_context(talk))
            stack.callback(talk.communicate)
        for each in started:
            assert next_line(each) == "ready"
        yield started


def speed(workers: list[Worker], message: Message) -> float:
    """Return the emails per second of these processes, from the start signal until the last one is done."""
    population.delete_records()
    expected = ongoing.match(message, at=timezone.now())
    start = perf_counter()
    for worker in workers:
        print("go", file=worker.stdin, flush=True)
    sent = sum(int(next_line(worker)) for worker in workers)
    took = perf_counter() - start
    assert sent == expected, f"{sent} of {expected} were sent"
    return sent / took


def next_line(process: Worker) -> str:
    """Return the next line of a process's output."""
    assert process.stdout
    return process.stdout.readline().strip()


# The work of a process of each side.


def ours(_part: int, _parts: int) -> int:
    """Send the due records, as a worker's task does."""
    return dispatcher.dispatch(clock=timezone.now, until=timezone.now() + timedelta(minutes=5))


def theirs(part: int, parts: int) -> int:
    """Send a part of the same emails in a plain loop."""
    sent = 0
    with mail.get_connection("django.core.mail.backends.smtp.EmailBackend") as connection:
        mails = plain_mails(part, parts)
        while some := list(islice(mails, 100)):
            sent += connection.send_messages(some)
    return sent


SIDES = {"ours": ours, "theirs": theirs}


def plain_mails(part: int, parts: int) -> Iterator[EmailMultiAlternatives]:
    """Yield a part of the emails as plain Django composes them."""
    return map(plain_mail, envelopes(part, parts))


def plain_mail(envelope: Envelope) -> EmailMultiAlternatives:
    """Return an email as plain Django composes it."""
    return EmailMultiAlternatives(
        envelope.subject,
        envelope.text,
        envelope.sender,
        envelope.to,
        reply_to=[envelope.reply_to],
        headers={"Message-ID": envelope.message_id, **envelope.headers},
        alternatives=[(envelope.html, "text/html")],
    )


def envelopes(part: int, parts: int) -> Iterator[Envelope]:
    """Render a part of the emails from one query; the customer's id stands for that of the record."""
    message = Message.objects.select_related("sender", "version").get()
    assert message.version
    assert message.sender
    copy = rendering.copy_of(message.version, channel=message.channel, tracked=True)
    reached = Customer.objects.filter(unsubscribed_from_emails=False, has_hard_bounced=False)
    mine = reached.extra(where=["id %% %s = %s"], params=[parts, part])
    for person in mine.values("id", *claim.PEOPLE).iterator(100):
        filled = rendering.variable_values(copy.names, customer=person, company=None)
        rendered = copy.render(filled, record_id=person["id"])
        yield rendering.envelope(message, message.sender, rendered, record_id=person["id"], to=(person["email"],))


def check_same_bytes() -> None:
    """Fail if both sides do not send the same bytes, except for the date."""
    for envelope in islice(envelopes(0, 1), 20):
        random.seed(1)
        our_bytes = mail_of(envelope).content
        random.seed(1)
        their_bytes = plain_mail(envelope).message().as_bytes(linesep="\r\n")
        assert without_date(our_bytes) == without_date(their_bytes)


def without_date(content: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"", content, count=1)


if __name__ == "__main__":
    Message.objects.exists()  # Connect before the clock starts, as a worker does.
    print("ready", flush=True)
    for _go in sys.stdin:
        print(SIDES[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3])), flush=True)
