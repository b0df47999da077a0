"""p95 from the commit of a change to its record, for a message that is checked as soon as something changes.

A default worker matches, alone, during an import, and during the launch of a one-off to everyone, which it carries out
meanwhile. BENCH_PROMPT_CUSTOMERS sets the population and the size of both.
"""

import io
import os
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from time import perf_counter

from django.db import connection, transaction
from django.utils import timezone

from audiences.intake import csv_import
from audiences.models import Audience, Customer, Import, ImportKind, ImportState
from audiences.models.imports import UNDER_WAY
from benchmarks import changes, importing
from benchmarks.matching import live_message
from benchmarks.measure import Row, wait_until
from benchmarks.sinks.faulty import FaultySink
from benchmarks.worker import default_worker
from delivery import tasks
from delivery.matching import launch_job, rounds
from messaging import authoring
from messaging.models import Checking, Message, SendType, State

CUSTOMERS = int(os.environ.get("BENCH_PROMPT_CUSTOMERS", "1000000"))
IDLE_CHANGES, FEWEST_CHANGES = 40, 5
# In seconds: between two changes, and the longest time until a record.
INTERVAL, LATEST = 0.5, 120
AIM = 2.0
NAME = "commit of a change to its record, as soon as something changes"


def measure() -> list[Row]:
    """Measure without load, during an import, and during a launch."""
    Import.objects.all().delete()  # Of a run that was stopped.
    changes.populate(CUSTOMERS)
    mark_all_as_sent()
    message = prompt_message()
    reachable = Customer.objects.filter(unsubscribed_from_emails=False, has_hard_bounced=False)
    keys = iter(list(reachable.order_by("pk").values_list("pk", flat=True)[:: max(1, CUSTOMERS // 5_000)]))
    sink = FaultySink(seed=1)
    try:
        with default_worker(EMAIL_URL=f"smtp://127.0.0.1:{sink.port}"):
            seconds_to_records(message, islice(keys, 3))  # The worker starts.
            rows = [p95_row(f"{NAME}, p95", seconds_to_records(message, islice(keys, IDLE_CHANGES)))]
            for load, begin in (("an import", begin_import), ("a launch", begin_launch)):
                is_under_way = begin()
                took = seconds_to_records(message, keys, go_on=is_under_way)
                assert len(took) >= FEWEST_CHANGES, f"{load} to {CUSTOMERS:,} ended too soon. Use more customers."
                rows.append(p95_row(f"{NAME}, during {load} of {CUSTOMERS:,}, p95", took))
    finally:
        sink.close()
        Import.objects.all().delete()
    return rows


def mark_all_as_sent() -> None:
    """Mark the records of the population as sent: the worker would send four million emails at the same time.

    Without triggers, so the counters of the messages stay as they were; nothing here reads them.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE delivery_deliveryrecord SET status = 'sent', reason = '', sent_at = matched_at")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE delivery_deliveryrecord")
        # Otherwise the disk is busy with all this for some time.
        cursor.execute("CHECKPOINT")


def prompt_message() -> Message:
    """Return a message that is checked as soon as something changes, and that no customer matches yet."""
    rules = {"match": "all", "rules": [{"attribute": "name", "operator": "starts_with", "value": "Now"}]}
    message = live_message(rules)
    Message.objects.filter(pk=message.pk).update(checking=Checking.AT_ONCE)
    rounds.run_round(at=timezone.now())
    return message


def begin_import() -> Callable[[], bool]:
    """Have the worker import as many new customers as there are. Return whether it still does."""
    lines = [importing.HEADER, *(",".join(person) for person in islice(importing.people(), CUSTOMERS))]
    file = io.BytesIO("\n".join(lines).encode())
    job = csv_import.store_upload(file, name="people.csv", kind=ImportKind.CUSTOMERS, by=None, at=timezone.now())
    Import.objects.filter(pk=job.pk).update(state=ImportState.CHECKED)
    job.refresh_from_db()
    csv_import.start_import(job, ImportState.WRITING, targets=job.targets, tag=None, at=timezone.now())
    tasks.enqueue_import(job.pk)
    written = Import.objects.filter(pk=job.pk, state__in=UNDER_WAY)
    wait_until(lambda: written.filter(records__gt=0).exists() or not written.exists())
    return written.exists


def begin_launch() -> Callable[[], bool]:
    """Have the worker launch a one-off to everyone. Return whether it still does."""
    sender = Message.objects.order_by("pk").first().sender
    one_off = Message.objects.create(
        title="One-off", sender=sender, audience=Audience.objects.create(), send_type=SendType.ONE_OFF
    )
    authoring.revise(one_off, subject="Hello", body="<p>Hello</p>", by=None, at=timezone.now())
    launch_job.request_launch(one_off, at=timezone.now())
    tasks.enqueue_launch(one_off)
    return Message.objects.filter(pk=one_off.pk, state=State.DRAFT, launching_at__isnull=False).exists


def seconds_to_records(
    message: Message, keys: Iterator[int], *, go_on: Callable[[], bool] = lambda: True
) -> list[float]:
    """Change customers, one each half second while `go_on`; return the seconds from each commit to the record."""
    took: list[float] = []
    waiting: dict[int, float] = {}
    next_at, has_more = 0.0, True
    while has_more or waiting:
        if has_more and perf_counter() >= next_at:
            key = next(keys, None) if go_on() else None
            has_more = key is not None
            if key is not None:
                Customer.objects.filter(pk=key).update(name=f"Now {key}")
                waiting[key] = perf_counter()
                next_at = waiting[key] + INTERVAL
        found = message.records.filter(customer__in=list(waiting)).values_list("customer_id", flat=True)
        took += [perf_counter() - waiting.pop(key) for key in found]
        assert all(perf_counter() - began < LATEST for began in waiting.values()), "A customer was not matched."
        time.sleep(0.01)
    return took


def p95_row(name: str, took: list[float]) -> Row:
    p95 = statistics.quantiles(took, n=20)[-1]
    note = f"seconds; median {statistics.median(took):.2f}, one of them the quiet second; {len(took)} changes"
    return Row(
        name=name,
        ratio=round(p95, 3),
        low=round(min(took), 3),
        high=round(max(took), 3),
        aim=f"<= {AIM:.0f} s",
        met=p95 <= AIM,
        note=f"{note}, {CUSTOMERS:,} customers",
    )
