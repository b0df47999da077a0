"""p95 from an event to its email while a default worker processes bulk items, over that while it is idle.

Event, GET /conversations (as its view does it), email at a mail server: the worker is woken by the embedded broker.
"""

import os
import statistics
import time

from django.utils import timezone

from audiences import intake
from audiences.models import Audience, Customer, Job, JobItem, JobTask
from benchmarks import population
from benchmarks.email_speed import BODY, SUBJECT
from benchmarks.measure import Row, ratio_row, wait_until
from benchmarks.sinks.faulty import FaultySink
from benchmarks.worker import default_worker
from delivery import tasks
from delivery.visits import visit
from messaging import authoring, lifecycle
from messaging.models import Message, Sender

ITEMS = int(os.environ.get("BENCH_BULK_ITEMS", "100000"))
ITEMS_PER_TASK = 1_000
# In seconds.
INTERVAL = 0.25
EVENT = "signed-up-for-trial"


def measure(*, times: int = 5, events: int = int(os.environ.get("BENCH_EVENTS", "100"))) -> list[Row]:
    """Measure idle and busy, alternately."""
    Job.objects.all().delete()  # Of a run that was stopped.
    population.create_population(customers=20_000, companies=100)
    live_message()
    people = iter(Customer.objects.filter(unsubscribed_from_emails=False, has_hard_bounced=False).order_by("pk"))
    sink = FaultySink(seed=1)
    pairs, left = [], 0
    try:
        with default_worker(EMAIL_URL=f"smtp://127.0.0.1:{sink.port}"):
            p95(sink, [next(people) for _ in range(5)])  # The worker starts.
            for _ in range(times):
                idle = p95(sink, [next(people) for _ in range(events)])
                add_bulk_items(ITEMS)
                busy = p95(sink, [next(people) for _ in range(events)])
                left = JobItem.objects.count()
                assert left, "The bulk items were processed too soon. Use more."
                pairs.append((busy, idle))
                remove_bulk_items()
    finally:
        sink.close()
    busy, idle = (statistics.median(side) for side in zip(*pairs, strict=True))
    note = f"p95 {busy * 1000:,.0f} ms over {idle * 1000:,.0f} ms; {ITEMS - left:,} items processed meanwhile"
    name = f"event to email, p95, during {ITEMS:,} bulk items / idle"
    return [ratio_row(name, [a / b for a, b in pairs], at_most=1.5, note=note)]


def live_message() -> None:
    """Set an ongoing email live for customers who have had the event."""
    now = timezone.now()
    rule = {"attribute": f"event.{EVENT}", "operator": "has_happened", "value": None}
    message = Message.objects.create(
        title="Welcome",
        sender=Sender.objects.create(name="Ann from Acme", email="ann@acme.example"),
        audience=Audience.objects.create(rules={"match": "all", "rules": [rule]}),
    )
    authoring.revise(message, subject=SUBJECT, body=BODY, by=None, at=now)
    lifecycle.set_live(message, at=now)


def p95(sink: FaultySink, people: list[Customer]) -> float:
    """Return the 95th percentile, in seconds, from the event of each of these people to their email."""
    seconds = []
    for person in people:
        taken, began = sink.taken, time.monotonic()
        intake.record_event(person, EVENT, None, None, at=timezone.now())
        visit.check(person, at=timezone.now(), then=tasks.enqueue_dispatch)
        wait_until(lambda taken=taken: sink.taken > taken, within=120)
        seconds.append(time.monotonic() - began)
        time.sleep(max(0.0, INTERVAL - seconds[-1]))
    return statistics.quantiles(seconds, n=20)[-1]


def add_bulk_items(number: int) -> None:
    """Submit jobs with so many items, and wait until the worker processes them."""
    for first in range(0, number, ITEMS_PER_TASK):
        sent = [
            {"method": "post", "data_type": "user", "data": {"user_id": f"bulk-{n}", "name": f"Name {time.time_ns()}"}}
            for n in range(first, min(first + ITEMS_PER_TASK, number))
        ]
        intake.submit_job(sent, data_type="user", to=None, at=timezone.now())
    tasks.enqueue_bulk_jobs()
    wait_until(lambda: JobItem.objects.count() < number)


def remove_bulk_items() -> None:
    """Delete the rest, and wait until the worker has noticed."""
    JobItem.objects.all().delete()
    wait_until(lambda: not JobTask.objects.filter(completed_at=None).exists())
