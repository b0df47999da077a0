"""Launch of a one-off to 1,000,000 customers, over a bare INSERT ... SELECT; and the visits of customers meanwhile.

The bare table has the indexes of the delivery records, and either their foreign keys too or none. It has no triggers.
"""

import http.client
import json
import os
import statistics
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle
from time import perf_counter, sleep

from django.db import connection
from django.utils import timezone

from audiences.identity_verification import user_hash
from audiences.models import Audience, Workspace
from benchmarks import population
from benchmarks.measure import Row, measure_alternately, ratio_row
from benchmarks.ping import CLIENTS, Asked, served, status_of_answer
from delivery.matching import launch_job
from delivery.models import DeliveryRecord
from messaging import authoring
from messaging.models import Message, Sender, SendType, State

CUSTOMERS, COMPANIES = int(os.environ.get("BENCH_CUSTOMERS", "1000000")), 50_000
# Seconds of visits without a launch.
IDLE_SECONDS = 30.0
# Many more would keep two cores busy without a launch, so that the ratio would only show how a launch shares them.
VISITS_A_SECOND = 20
COLUMNS = (
    "message_id, customer_id, company_id, status, reason, due_at, matched_at, judged_last_seen_at,"
    " judged_company_last_seen_at, detail, attempts, provider_id, variables"
)
BARE = f"""
INSERT INTO bare (id, {COLUMNS})
SELECT c.id, %(message)s, c.id, NULL, 'waiting', 'queued', %(now)s, %(now)s, c.last_seen_at, NULL, '', 0, '', '{{}}'
FROM audiences_customer c ORDER BY c.id
"""


def measure(*, times: int = 3) -> list[Row]:
    """Measure launches over bare inserts, and the visits during launches over those without one."""
    population.create_population(customers=CUSTOMERS, companies=COMPANIES)
    sender = Sender.objects.create(name="Bench", email="bench@example.com")

    def ours() -> float:
        return CUSTOMERS / seconds_of_launch(sender)

    def bare(*, foreign_keys: bool) -> float:
        return CUSTOMERS / seconds_of_bare_insert(sender, foreign_keys=foreign_keys)

    rows = []
    for foreign_keys, aim, keys in ((True, 0.6, "same keys"), (False, 0, "no foreign keys")):
        pairs = measure_alternately(ours, lambda keys=foreign_keys: bare(foreign_keys=keys), times=times)
        note = f"{CUSTOMERS / pairs[-1][0]:.1f} s over {CUSTOMERS / pairs[-1][1]:.1f} s"
        name = f"launch to {CUSTOMERS:,} / bare INSERT ... SELECT, {keys}"
        rows.append(ratio_row(name, [a / b for a, b in pairs], at_least=aim, note=note))
    return [*rows, visits_row(sender, times=times)]


def visits_row(sender: Sender, *, times: int) -> Row:
    """Measure visits during launches over those without one; the customers exist."""
    with served() as port:
        p95s = [p95s_of_visits(port, sender) for _ in range(times)]
    note = f"p95 {p95s[-1][0] * 1000:.0f} ms over {p95s[-1][1] * 1000:.0f} ms, {VISITS_A_SECOND} visits a second"
    name = f"p95 of a visit during a launch to {CUSTOMERS:,} / idle"
    return ratio_row(name, [busy / idle for busy, idle in p95s], at_most=1.5, note=note)


def seconds_of_launch(sender: Sender) -> float:
    """Launch a one-off to everyone, as a worker does; return how long that took."""
    population.delete_records()
    now = timezone.now()
    message = Message.objects.create(
        title="Bench", sender=sender, audience=Audience.objects.create(), send_type=SendType.ONE_OFF
    )
    authoring.revise(message, subject="Hello", body="<p>Hello</p>", by=None, at=now)
    launch_job.request_launch(message, at=now)
    start = perf_counter()
    assert launch_job.launch(message.pk, at=now)
    took = perf_counter() - start
    message.refresh_from_db()
    assert message.state == State.LIVE, message.problem
    assert DeliveryRecord.objects.count() == CUSTOMERS
    return took


def seconds_of_bare_insert(sender: Sender, *, foreign_keys: bool) -> float:
    """Insert the same rows into a table with the same indexes and, if asked, foreign keys, but no triggers."""
    message = Message.objects.create(
        title="Bare", sender=sender, audience=Audience.objects.create(), send_type=SendType.ONE_OFF
    )
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bare")
        cursor.execute(
            "CREATE TABLE bare"
            " (LIKE delivery_deliveryrecord INCLUDING INDEXES INCLUDING CONSTRAINTS INCLUDING DEFAULTS)"
        )
        if foreign_keys:
            cursor.execute(
                "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE conrelid = 'delivery_deliveryrecord'::regclass AND contype = 'f'"
            )
            for name, definition in cursor.fetchall():
                cursor.execute(f'ALTER TABLE bare ADD CONSTRAINT "{name}" {definition}')
        cursor.execute("CHECKPOINT")
        start = perf_counter()
        cursor.execute(BARE, {"now": timezone.now(), "message": message.pk})
        took = perf_counter() - start
        cursor.execute("DROP TABLE bare")
    return took


def p95s_of_visits(port: int, sender: Sender) -> tuple[float, float]:
    """Return the p95 of pings, in seconds, while a launch runs and without one."""
    visits = pings()
    p95(port, visits, until=lambda began: perf_counter() - began >= 1)
    idle = p95(port, visits, until=lambda began: perf_counter() - began >= IDLE_SECONDS)
    launch = threading.Thread(target=launch_in_thread, args=(sender,))
    launch.start()
    while launch.is_alive() and not launch_has_begun():
        sleep(0.05)
    busy = p95(port, visits, until=lambda _began: not launch.is_alive())
    launch.join()
    return busy, idle


def launch_in_thread(sender: Sender) -> None:
    try:
        seconds_of_launch(sender)
    finally:
        connection.close()


def launch_has_begun() -> bool:
    return Message.objects.filter(launching_at__isnull=False).exists()


def p95(port: int, visits: Iterator[Asked], *, until: Callable[[float], bool]) -> float:
    """Return the p95 of visits that arrive at a steady rate, in seconds, each from the moment at which it was due."""
    took: list[float] = []
    began = perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for number in count():
            if until(began):
                break
            due = began + number / VISITS_A_SECOND
            sleep(max(0.0, due - perf_counter()))
            pool.submit(visit, port, next(visits), due=due, took=took)
    assert len(took) == number, f"{number - len(took)} of {number} visits failed"
    return statistics.quantiles(took, n=20)[-1]


def visit(port: int, asked: Asked, *, due: float, took: list[float]) -> None:
    """Send one request, and add the seconds since it was due."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    status = status_of_answer(client, asked)
    client.close()
    if status == 200:
        took.append(perf_counter() - due)


def pings() -> Iterator[Asked]:
    """Yield pings of customers, each of another one."""
    secret = Workspace.current().identity_secret
    for number in cycle(range(1, CUSTOMERS + 1, 7)):
        who = f"u{number}"
        user = {"user_id": who, "user_hash": user_hash(secret, who)}
        body = json.dumps({"app_id": "bench", "user": user}).encode()
        yield Asked("POST", "/messenger/ping", body, {"Content-Type": "application/json"})
