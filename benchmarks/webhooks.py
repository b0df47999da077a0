"""p95 from a change to its webhook at a fast subscriber, beside 50 subscribers that take 5 seconds, over that alone.

A default worker sends, woken by the embedded broker; the subscribers are real servers on this machine.
"""

import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from django.utils import timezone

from audiences import intake
from audiences.models import Notification, Subscription, Topic
from benchmarks import population
from benchmarks.measure import Row, ratio_row, wait_until
from benchmarks.worker import default_worker

SLOW, SECONDS_PER_ANSWER = int(os.environ.get("BENCH_SLOW_SUBSCRIBERS", "50")), 5.0
# In seconds.
INTERVAL = 0.25


class Subscriber(ThreadingHTTPServer):
    """A server that notes when each customer's notification came, and answers after some seconds."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seconds = seconds
        self.came: dict[str, float] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Subscriber

    def do_POST(self) -> None:
        item = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["data"]["item"]
        self.server.came[str(item["user_id"])] = time.monotonic()
        time.sleep(self.server.seconds)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


@contextmanager
def serve(seconds: float) -> Iterator[Subscriber]:
    server = Subscriber(seconds)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def measure(*, times: int = 5, events: int = int(os.environ.get("BENCH_EVENTS", "100"))) -> list[Row]:
    """Measure alone and beside the slow ones, alternately."""
    pairs = []
    population.create_population(customers=1_000, companies=10)
    with serve(0) as fast, serve(SECONDS_PER_ANSWER) as slow, default_worker(WEBHOOKS_TO_PRIVATE_ADDRESSES="true"):
        p95(fast, events=5)  # The worker starts.
        for _ in range(times):
            alone = p95(fast, events=events)
            beside = p95(fast, events=events, slow=slow)
            pairs.append((beside, alone))
    beside, alone = (statistics.median(side) for side in zip(*pairs, strict=True))
    note = f"p95 {beside * 1000:,.0f} ms over {alone * 1000:,.0f} ms"
    name = f"webhook at a fast subscriber beside {SLOW} that take {SECONDS_PER_ANSWER:.0f} s / alone, p95"
    return [ratio_row(name, [a / b for a, b in pairs], at_most=1.5, note=note)]


def p95(fast: Subscriber, *, events: int, slow: Subscriber | None = None) -> float:
    """Return the 95th percentile, in seconds, of so many changes."""
    Notification.objects.all().delete()
    Subscription.objects.all().delete()
    now = timezone.now()
    urls = [fast.url, *([slow.url] * SLOW if slow else [])]
    for url in urls:
        Subscription.objects.create(url=url, topics=[Topic.USER_CREATED], created_at=now, updated_at=now)
    seconds = []
    for number in range(events):
        name = f"hook-{time.monotonic_ns()}-{number}"
        began = time.monotonic()
        intake.identify({"user_id": name}, at=timezone.now())
        wait_until(lambda name=name: name in fast.came)
        seconds.append(fast.came[name] - began)
        time.sleep(max(0.0, INTERVAL - (time.monotonic() - began)))
    Subscription.objects.update(active=False)
    return statistics.quantiles(seconds, n=20)[-1]
