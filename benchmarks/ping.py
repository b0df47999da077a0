"""A ping with 50 live in-app messages, and `GET /conversations` of one user with as many live emails.

Each over a bare DRF view with one SELECT and one UPDATE; all under the same gunicorn, asked over HTTP by the same
client, and never twice for a customer: each ping begins a session, each GET has matching run.
"""

import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import perf_counter

from django.db import connection

from audiences import identity_verification
from audiences.models import Customer, Integration, Workspace
from benchmarks import population
from benchmarks.matching import live_message
from benchmarks.measure import Row, measure_alternately, ratio_row
from delivery.eligibility import conditions
from delivery.models import DeliveryRecord
from messaging.models import Message

CUSTOMERS, COMPANIES = 1_000_000, 50_000
REQUESTS, CLIENTS = 2_000, 4
# One customer in this many has received all matching messages; only these are requested.
EVERY = 50
AIM = 0.5


def rules(number: int) -> dict[str, object]:
    """Return the rules of one of 50 different messages; half of them use an event or a company."""
    asked: list[dict[str, object]] = [
        {"attribute": "session_count", "operator": "greater_than", "value": number % 7},
        {"attribute": "name", "operator": "contains", "value": f"user {number % 10}"},
    ]
    if number % 4 == 0:
        asked.append({"attribute": f"event_count.event-{1 + number % 3}", "operator": "greater_than", "value": 1})
    if number % 4 == 2:
        asked.append({"attribute": "company.size", "operator": "greater_than", "value": number * 5})
    return {"match": "all", "rules": asked}


@contextmanager
def served() -> Iterator[int]:
    """Serve Outbound and the bare view with one gunicorn; yield the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "benchmarks.served", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "1", "--threads", "4", "--keep-alive", "30", "--log-level", "error"]
    environment = {**os.environ, "LOG_LEVEL": "ERROR", "MESSENGER_RATE_LIMIT": "0", "API_RATE_LIMIT": "0"}
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).resolve().parent.parent)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


@dataclass(frozen=True, slots=True)
class Asked:
    """Return the body of one request."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def status_of_answer(client: http.client.HTTPConnection, asked: Asked) -> int:
    """Send one request, read its whole answer and return the status."""
    client.request(asked.method, asked.path, asked.body or None, asked.headers)
    answered = client.getresponse()
    answered.read()
    return answered.status


def requests_a_second(port: int, requests: list[Asked], *, took: list[float]) -> float:
    """Send requests from CLIENTS connections at once; record each duration and return the answers per second."""
    failed: list[int] = []

    def ask(part: list[Asked]) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for one in part:
            began = perf_counter()
            status = status_of_answer(client, one)
            took.append(perf_counter() - began)
            if status != 200:
                failed.append(status)

    threads = [threading.Thread(target=ask, args=(requests[first::CLIENTS],)) for first in range(CLIENTS)]
    start = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = perf_counter() - start
    assert not failed, failed[:5]
    return len(requests) / seconds


def fresh(*, seed: int) -> Iterator[str]:
    """Yield customers in random order, each once."""
    numbers = list(range(EVERY, CUSTOMERS + 1, EVERY))
    random.Random(seed).shuffle(numbers)
    return (f"u{number}" for number in numbers)


def already_shown() -> None:
    """Create an opened record of each matching message for every customer, so that nothing is new.

    Not with the session that their ping begins, either.
    """
    sessions = f"UPDATE audiences_customer SET session_count = session_count + %s WHERE mod(id, {EVERY}) = 0"
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(sessions, [1])
        for message in Message.objects.all():
            condition = conditions.condition_of(message)
            matching = condition.pairs(per_company=False, where=f"mod(c.id, {EVERY}) = 0")
            cursor.execute(
                "INSERT INTO delivery_deliveryrecord (message_id, customer_id, status, reason, matched_at, sent_at,"
                " opened_at, detail, attempts, provider_id, variables)"
                f" SELECT {message.pk}, matching.customer_id, 'sent', '', now(), now(), now(), '', 0, '', '{{}}'"
                f" FROM ({matching}) AS matching",
                condition.params,
            )
        cursor.execute(sessions, [-1])
        cursor.execute("SET session_replication_role = DEFAULT; ANALYZE delivery_deliveryrecord")


def as_emails() -> None:
    """Turn the messages into emails, which a GET matches; all requested customers have received them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SET session_replication_role = replica;"
            "UPDATE messaging_message SET channel = 'email', format = '';"
            "UPDATE audiences_workspace SET generation = generation + 1;"
            "SET session_replication_role = DEFAULT;"
        )


def compare(port: int, name: str, ours: Callable[[], Asked], bare: Callable[[], Asked], *, times: int) -> Row:
    """Measure both sides alternately, after a warm-up."""
    waited: list[float] = []

    def side(asked: Callable[[], Asked], took: list[float]) -> Callable[[], float]:
        return lambda: requests_a_second(port, [asked() for _ in range(REQUESTS)], took=took)

    for asked in (ours, bare):
        side(asked, [])()
    pairs = measure_alternately(side(ours, waited), side(bare, []), times=times)
    fast, slow = (sorted(values)[len(pairs) // 2] for values in zip(*pairs, strict=True))
    p50, p99 = (statistics.quantiles(waited, n=100)[place - 1] * 1000 for place in (50, 99))
    note = f"{fast:.0f} a second over {slow:.0f}; {CLIENTS} at once: p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    return ratio_row(name, [a / b for a, b in pairs], at_least=AIM, note=note)


def measure(*, times: int = 5) -> list[Row]:
    """Measure pings, and GETs that match, of customers for whom none of 50 live messages is new."""
    population.create_population(customers=CUSTOMERS, companies=COMPANIES)
    for number in range(50):
        live_message(rules(number), channel="in_app", format="chat")
    already_shown()
    secret = Workspace.current().identity_secret
    _, token = Integration.issue(name="bench")
    json_sent = {"Content-Type": "application/json"}
    with_token = {"Authorization": f"Bearer {token}"}
    pinged, listed, seen = fresh(seed=1), fresh(seed=2), cycle(fresh(seed=3))

    def ping() -> Asked:
        who = next(pinged)
        user = {"user_id": who, "user_hash": identity_verification.user_hash(secret, who)}
        return Asked("POST", "/messenger/ping", json.dumps({"app_id": "bench", "user": user}).encode(), json_sent)

    def conversations() -> Asked:
        return Asked("GET", f"/api/conversations?type=user&user_id={next(listed)}", headers=with_token)

    def bare() -> Asked:
        return Asked("POST", "/bare", json.dumps({"user": {"user_id": next(seen)}}).encode(), json_sent)

    before = DeliveryRecord.objects.count()
    with served() as port:
        rows = [compare(port, "ping with 50 live messages / bare DRF view", ping, bare, times=times)]
        as_emails()
        name = "GET /conversations with 50 live messages / bare DRF view"
        rows.append(compare(port, name, conversations, bare, times=times))
    assert DeliveryRecord.objects.count() == before
    assert Customer.objects.exclude(checked_at=None).count() == (times + 1) * REQUESTS
    return rows
