"""The messenger's ping with 50 live in-app messages, over a bare DRF view with one SELECT and one UPDATE.

Both under the same gunicorn, asked over HTTP by the same client, a different customer each time.
"""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from django.conf import settings
from django.db import connection
from django.utils import timezone

from audiences import identity
from audiences.models import Workspace
from benchmarks import world
from benchmarks.matching import live_message
from benchmarks.measure import Row, in_turn, row
from delivery.models import DeliveryRecord

CUSTOMERS, COMPANIES = 1_000_000, 50_000
REQUESTS, CLIENTS = 2_000, 4


def rules(number: int) -> dict[str, object]:
    """The rules of one of 50 messages, all different; half of them ask about an event or a company."""
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
    """Serve the product and the bare view with one gunicorn; yields the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "benchmarks.served", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "1", "--threads", "4", "--keep-alive", "30", "--log-level", "error"]
    environment = {**os.environ, "LOG_LEVEL": "ERROR", "MESSENGER_RATE_LIMIT": "0"}
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


def requests_a_second(port: int, path: str, body: Callable[[int], dict[str, object]], *, seed: int) -> float:
    """Ask REQUESTS times from CLIENTS connections at once; returns how many were answered each second."""
    numbers = random.Random(seed)
    share = [[numbers.randrange(1, CUSTOMERS) for _ in range(REQUESTS // CLIENTS)] for _ in range(CLIENTS)]
    bodies = [[json.dumps(body(number)).encode() for number in numbers] for numbers in share]
    failed: list[int] = []

    def ask(bodies: list[bytes]) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for sent in bodies:
            client.request("POST", path, sent, {"Content-Type": "application/json"})
            answered = client.getresponse()
            answered.read()
            if answered.status != 200:
                failed.append(answered.status)

    threads = [threading.Thread(target=ask, args=(part,)) for part in bodies]
    start = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = perf_counter() - start
    assert not failed, failed[:5]
    return REQUESTS / took


def already_shown() -> None:
    """Give every customer a record of every message they could match, opened: nothing is new to anybody."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SET session_replication_role = replica;"
            "INSERT INTO delivery_deliveryrecord (message_id, customer_id, status, reason, matched_at, sent_at,"
            " opened_at, detail, attempts, provider_id, filled)"
            " SELECT m.id, c.id, 'sent', '', now(), now(), now(), '', 0, '', '{}'"
            " FROM audiences_customer c CROSS JOIN messaging_message m WHERE c.id % 500 = 0;"
            "SET session_replication_role = DEFAULT; ANALYZE delivery_deliveryrecord;"
        )


def measure(*, times: int = 5) -> list[Row]:
    """Measure pings of customers to whom none of 50 live messages is new, over the bare view."""
    world.fill(customers=CUSTOMERS, companies=COMPANIES)
    for number in range(50):
        live_message(rules(number), channel="in_app", format="chat")
    already_shown()
    secret = Workspace.current().identity_secret

    def customer(number: int) -> str:
        return f"u{number - number % 500 or 500}"

    def ping(number: int) -> dict[str, object]:
        who = customer(number)
        return {"app_id": "bench", "user": {"user_id": who, "user_hash": identity.user_hash(secret, who)}}

    with served() as port:
        for path, body in (("/messenger/ping", ping), ("/bare", ping)):
            requests_a_second(port, path, body, seed=0)  # Warm both up.
        seeds = iter(range(1, 1000))
        pairs = in_turn(
            lambda: requests_a_second(port, "/messenger/ping", ping, seed=next(seeds)),
            lambda: requests_a_second(port, "/bare", ping, seed=next(seeds)),
            times=times,
        )
    assert not DeliveryRecord.objects.filter(matched_at__gt=timezone.now() - timezone.timedelta(0)).exists()
    ours, bare = (sorted(side)[len(pairs) // 2] for side in zip(*pairs, strict=True))
    note = f"{ours:.0f} pings a second over {bare:.0f}; one process, {settings.DATABASES['default']['CONN_MAX_AGE']} s"
    return [row("ping with 50 live messages / bare DRF view", [a / b for a, b in pairs], at_least=0.4, note=note)]
