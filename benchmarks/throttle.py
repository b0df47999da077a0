"""How exactly four workers keep one throttle together, and how many copies are sent after a pause has returned.

The workers are processes of their own, as Celery's are, over a real socket. The rate is that of a minute, from the
first mail the sink took on. Hand-overs after a pause are counted by the sink too, over what may be in flight.
"""

import time
from contextlib import ExitStack
from dataclasses import replace
from threading import Event, Thread

from django.conf import settings
from django.db import connection
from django.utils import timezone

from benchmarks import population
from benchmarks.email_speed import live_message, processes
from benchmarks.measure import Row, ratio_row
from benchmarks.sinks.faulty import FaultySink
from delivery.matching import lifecycle, ongoing
from delivery.models import Pace
from messaging import lifecycle as message_lifecycle
from messaging.models import Message

PER_SECOND, WORKERS, SECONDS = 100, 4, 60
CUSTOMERS = PER_SECOND * (SECONDS + 15) * 100 // 96 + 100
PAUSES = 10


def measure() -> list[Row]:
    """Measure a minute with the throttle, and pauses at full speed."""
    return [kept_pace(), after_pauses()]


def kept_pace() -> Row:
    """Return the emails of a minute over the limit of the throttle."""
    population.create_population(customers=CUSTOMERS, companies=150)
    message = live_message()
    ongoing.match(message, at=timezone.now())
    Pace.objects.update_or_create(channel="email", defaults={"per_second": PER_SECOND, "next_at": None})
    with ExitStack() as ends:
        sink = FaultySink(seed=1)
        ends.callback(sink.close)
        workers = ends.enter_context(processes("ours", WORKERS, port=sink.port))
        for worker in workers:
            print("go", file=worker.stdin, flush=True)
        while sink.taken < 1:
            time.sleep(0.001)
        before, began = sink.taken, time.monotonic()
        time.sleep(SECONDS)
        rate = (sink.taken - before) / (time.monotonic() - began)
        Pace.objects.all().delete()
        lifecycle.stop(message)
    ratio = rate / PER_SECOND
    made = ratio_row(
        "a minute at a pace, four workers / the pace",
        [ratio],
        at_most=1.02,
        note=f"{rate:,.1f} a second at {PER_SECOND} a second; the aim is within 2 % on either side",
    )
    return replace(made, aim="1 +- .02", met=abs(ratio - 1) <= 0.02)


def after_pauses() -> Row:
    """Return, for each pause, the emails accepted after it has returned, over the possible number in flight."""
    population.create_population(customers=CUSTOMERS, companies=150)
    Pace.objects.all().delete()
    message = live_message()
    ongoing.match(message, at=timezone.now())
    late: list[float] = []
    with ExitStack() as ends:
        sink = FaultySink(seed=1)
        ends.callback(sink.close)
        workers = ends.enter_context(processes("ours", WORKERS, port=sink.port))
        over = Event()
        ends.callback(over.set)
        for worker in workers:
            Thread(target=keep_going, args=(worker, over), daemon=True).start()
        for _ in range(PAUSES):
            goes_from = sink.taken
            while sink.taken < goes_from + 100:
                time.sleep(0.001)
            lifecycle.pause(message)
            returned = sink.taken
            time.sleep(0.5)
            late.append((sink.taken - returned) / settings.EMAIL_CONNECTIONS)
            message_lifecycle.resume(Message.objects.get(pk=message.pk), at=timezone.now())
            message.refresh_from_db()
        over.set()
        lifecycle.stop(message)
    connection.close()
    return ratio_row(
        "handed over after a pause returned / may be in flight",
        late,
        at_most=1.0,
        note=f"at most {max(late) * settings.EMAIL_CONNECTIONS:.0f} emails, {PAUSES} pauses, {WORKERS} workers",
    )


def keep_going(worker, over: Event) -> None:
    """Start a worker again whenever it is done, as nudges and sweeps do."""
    while not over.is_set():
        print("go", file=worker.stdin, flush=True)
        if not worker.stdout.readline():
            return
        time.sleep(0.05)
