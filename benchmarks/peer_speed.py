"""Outbound over django-post_office and django-drip-campaigns: the same customers, emails, database and mail server.

The peers run in their own environment (`make bench` installs it in `.venv/peers`) with a database of their own on the
same PostgreSQL server. Their email is our rendered one with the customers' values left open, so its size is the same;
they have no tracking, so its links are those of one customer. Only sending is timed, not the filling of a queue, and
the mail server counts what arrived. django-post_office runs with the best settings of its documentation: rendering on
delivery, BATCH_SIZE 1000, two processes, no log rows; of several THREADS_PER_PROCESS the fastest is used at each
delay, and our workers may keep as many connections.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from unittest.mock import patch

from django.utils import timezone

from audiences.models import Audience, Customer
from benchmarks import email_speed, peers, population
from benchmarks.email_speed import Worker, next_line, processes
from benchmarks.measure import Point, Row, measure_alternately, ratio_row
from config.postgres.embedded import SERVERS
from delivery import rendering
from delivery.matching import ongoing
from delivery.sending import claim
from messaging import authoring, lifecycle
from messaging.models import Message, Sender

CUSTOMERS = int(os.environ.get("BENCH_PEER_CUSTOMERS", "3000"))
# In milliseconds, with the aim at each.
AIMS = {0: 2.5, 20: 0, 50: 2.5, 100: 0}
# THREADS_PER_PROCESS that are tried. With a delay, few threads are slow beyond doubt, and exceed a batch's time limit.
THREADS, THREADS_WITH_DELAY = (1, 5, 20, 50), (20, 50, 100)
SEEN_LATELY = {"attribute": "last_seen_at", "operator": "less_than_days_ago", "value": 60}


def measure(*, times: int = 5) -> list[Row]:
    """Measure two workers over django-post_office at each delay, and one drip over one message."""
    SERVERS["bench"].create("peers")
    population.create_population(customers=CUSTOMERS, companies=max(CUSTOMERS // 20, 20))
    message = live_message([])
    rows = []
    with TemporaryDirectory() as folder:
        source = Path(folder) / "source.json"
        source.write_text(json.dumps(source_for_post_office(message)))
        for delay, aim in AIMS.items():
            rows.append(post_office_row(message, source, delay=delay, aim=aim, times=times))
        lifecycle.stop(message)
        message = live_message([SEEN_LATELY])
        source.write_text(json.dumps(source_for_drip(message)))
        rows.append(drip_row(message, source, times=times))
    return rows


def live_message(rules: list[dict[str, object]]) -> Message:
    """Return an ongoing email, with the text of the other benchmarks, to the customers who match all rules."""
    now = timezone.now()
    sender, _ = Sender.objects.get_or_create(name="Ann from Acme", email="ann@acme.example")
    audience = Audience.objects.create(rules={"match": "all", "rules": rules})
    message = Message.objects.create(title="Welcome", sender=sender, audience=audience)
    authoring.revise(message, subject=email_speed.SUBJECT, body=email_speed.BODY, by=None, at=now)
    lifecycle.set_live(message, at=now)
    return message


# django-post_office


def post_office_row(message: Message, source: Path, *, delay: int, aim: float, times: int) -> Row:
    """Return the row of one delay."""
    with ExitStack() as ends:
        port = ends.enter_context(sink(delay))
        threads = fastest_threads(source, THREADS_WITH_DELAY if delay else THREADS, port=port)
        # Ours may keep as many connections as theirs do.
        ends.enter_context(patch.dict(os.environ, EMAIL_CONNECTIONS=str(2 * threads)))
        theirs = ends.enter_context(peer("post_office_queue", source, port=port, threads=threads))
        ours = ends.enter_context(processes("ours", 2, port=port))
        pairs = measure_alternately(
            lambda: our_speed(ours, message, port=port), lambda: peer_speed(theirs, port=port), times=times
        )
    fast, slow = email_speed.middle(pairs)
    return ratio_row(
        f"two workers / django-post_office at its best, {delay} ms",
        [a / b for a, b in pairs],
        at_least=aim,
        note=f"{fast:,.0f} over {slow:,.0f} a second, {CUSTOMERS:,} customers, {2 * threads} connections (its best)",
        points=(
            Point("latency", "Outbound, two workers", delay, fast),
            Point("latency", "django-post_office, two processes", delay, slow),
        ),
    )


def fastest_threads(source: Path, tried: tuple[int, ...], *, port: int) -> int:
    """Return the THREADS_PER_PROCESS with which django-post_office sends fastest here."""
    speeds = {}
    for threads in tried:
        with peer("post_office_queue", source, port=port, threads=threads) as theirs:
            speeds[threads] = peer_speed(theirs, port=port)
    return max(speeds, key=lambda threads: speeds[threads])


def source_for_post_office(message: Message) -> dict[str, object]:
    """Return the email and the customers who can be reached."""
    reached = Customer.objects.filter(unsubscribed_from_emails=False, has_hard_bounced=False)
    return email_source(message, reached, opened="")


# django-drip-campaigns


def drip_row(message: Message, source: Path, *, times: int) -> Row:
    """Return the row of one drip, matched and sent by one process of each side."""
    with ExitStack() as ends:
        port = ends.enter_context(sink(0))
        theirs = ends.enter_context(peer("drip_campaign", source, port=port))
        ours = ends.enter_context(processes("ours", 1, port=port))
        pairs = measure_alternately(
            lambda: our_speed(ours, message, port=port, with_match=True),
            lambda: peer_speed(theirs, port=port),
            times=times,
        )
    fast, slow = email_speed.middle(pairs)
    return ratio_row(
        "one message matched and sent, one worker / django-drip-campaigns",
        [a / b for a, b in pairs],
        note=f"{fast:,.0f} over {slow:,.0f} a second; {CUSTOMERS:,} customers, 0 ms",
    )


def source_for_drip(message: Message) -> dict[str, object]:
    """Return the email, with the variables of a drip, and all customers."""
    assert message.sender
    source = email_source(message, Customer.objects.all(), opened="user.")
    for field in ("subject", "html"):
        source[field] = str(source[field]).replace("user.custom_attributes.plan", "user.last_name")
    return source | {"sender_name": message.sender.name, "sender_address": message.sender.email}


# Both


def email_source(message: Message, customers, *, opened: str) -> dict[str, object]:
    """Return our email as a Django template, and the customers with the values of its variables."""
    assert message.version
    assert message.sender
    copy = rendering.copy_of(message.version, channel=message.channel, tracked=True)
    template = copy.render({name: f"{{{{ {opened}{name} }}}}" for name in copy.names}, record_id=1)
    envelope = rendering.envelope(message, message.sender, template, record_id=1, to=("",))
    rows = customers.order_by("id").values("id", "unsubscribed_from_emails", "has_hard_bounced", *claim.PEOPLE)
    listed = []
    for row in rows:
        values = rendering.variable_values(copy.names, customer=row, company=None)
        check_template(template.html, values, copy.render(values, record_id=1).html, opened=opened)
        listed.append(
            {
                "user_id": row["user_id"],
                "email": row["email"],
                "is_reachable": not (row["unsubscribed_from_emails"] or row["has_hard_bounced"]),
                "last_seen_at": row["last_seen_at"].isoformat(),
                "values": nested(values),
            }
        )
    return {
        "sender": envelope.sender,
        "subject": template.subject,
        "text": template.text,
        "html": template.html,
        "headers": {"Reply-To": envelope.reply_to, **envelope.headers},
        "customers": listed,
    }


def check_template(template: str, values: dict[str, object], ours: str, *, opened: str) -> None:
    """Fail unless the template with a customer's values is our email to them."""
    for name, value in values.items():
        template = template.replace(f"{{{{ {opened}{name} }}}}", str(value))
    assert template == ours


def nested(values: dict[str, object]) -> dict[str, object]:
    """Return values by dotted names as dictionaries, as Django's templates read them."""
    found: dict[str, object] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if rest:
            found[first] = {**found.get(first, {}), rest: value}  # type: ignore[dict-item]
        else:
            found[first] = value
    return found


@contextmanager
def sink(delay: int) -> Iterator[int]:
    """Run a mail server that holds back each answer for so many milliseconds; yield its port."""
    command = [sys.executable, "-m", "benchmarks.sinks.smtp", "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(next_line(process))
        finally:
            process.terminate()
            process.communicate()


def emails_taken(port: int) -> int:
    """Return the number of emails that the mail server has accepted."""
    return mail_server_counts(port)[0]


def mail_server_counts(port: int) -> tuple[int, int]:
    """Return the numbers of emails that the mail server has accepted, and has begun and not answered."""
    with socket.create_connection(("127.0.0.1", port)) as talk, talk.makefile("rwb") as lines:
        lines.readline()
        lines.write(b"STAT\r\n")
        lines.flush()
        _, taken, unanswered = lines.readline().split()
        return int(taken), int(unanswered)


@contextmanager
def peer(module: str, source: Path, *, port: int, threads: int = 1) -> Iterator[Worker]:
    """Start a peer in its environment, which waits for "fill" and "go"."""
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "benchmarks.peers.settings",
        "DATABASE_URL": SERVERS["bench"].url("peers"),
        "EMAIL_URL": f"smtp://127.0.0.1:{port}",
        "THREADS_PER_PROCESS": str(threads),
    }
    command = [str(peers.PYTHON), "-m", f"benchmarks.peers.{module}", str(source)]
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert next_line(process) == "ready"
            yield process
        finally:
            process.communicate()


def our_speed(workers: list[Worker], message: Message, *, port: int, with_match: bool = False) -> float:
    """Return the emails per second of these workers; the round counts only `with_match`."""
    population.delete_records()
    before = emails_taken(port)
    start = perf_counter()
    matched = ongoing.match(message, at=timezone.now())
    start = start if with_match else perf_counter()
    for worker in workers:
        print("go", file=worker.stdin, flush=True)
    sent = sum(int(next_line(worker)) for worker in workers)
    took = perf_counter() - start
    assert matched == sent == emails_taken(port) - before, (matched, sent, before)
    return sent / took


def peer_speed(process: Worker, *, port: int) -> float:
    """Fill the peer's queue, then return the emails per second from the start signal until it is done."""
    order(process, "fill")
    before = emails_taken(port)
    start = perf_counter()
    sent = order(process, "go")
    took = perf_counter() - start
    assert sent == emails_taken(port) - before, (sent, before)
    return sent / took


def order(process: Worker, line: str) -> int:
    """Return the number with which a peer answers a line."""
    print(line, file=process.stdin, flush=True)
    return int(next_line(process))
