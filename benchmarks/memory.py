"""Peak memory of a worker process at 100,000 emails over that at 5,000: it must not grow with the audience.

And with 75 connections in use over one: each thread costs little.
"""

import os
import resource
import subprocess
import sys

if __name__ == "__main__":
    import django

    django.setup()

from django.utils import timezone

from benchmarks import population
from benchmarks.email_speed import live_message, sink
from benchmarks.measure import Row, measure_alternately, ratio_row
from benchmarks.peer_speed import sink as slow_sink
from delivery import tasks
from delivery.matching import ongoing
from delivery.models import DeliveryRecord
from messaging.models import Message

FEW, MANY = 5_000, 100_000
# With a delay in milliseconds, so that connections are used.
DELAYED, DELAY = 1_000, 20


def measure(*, times: int = 5) -> list[Row]:
    """Measure a new worker process each time, from a full to an empty outbox."""
    seen: list[float] = []

    def peak(customers: int, port: int, *, connections: int = 20) -> float:
        population.create_population(customers=customers * 100 // 95 + 100, companies=customers // 20)
        message: Message = live_message()
        made = ongoing.match(message, at=timezone.now())
        assert made >= customers, made
        answered = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory"],
            env={
                **os.environ,
                "EMAIL_URL": f"smtp://127.0.0.1:{port}",
                "EMAIL_CONNECTIONS": str(connections),
                "LOG_LEVEL": "ERROR",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert message.records.counts()["sent"] == made
        seen.append(float(answered.stdout))
        return seen[-1]

    with sink() as port:
        pairs = measure_alternately(lambda: peak(MANY, port), lambda: peak(FEW, port), times=times)
    note = f"{seen[-2] / 1024:.0f} MB over {seen[-1] / 1024:.0f} MB"
    rows = [ratio_row("peak memory, 100,000 / 5,000 emails", [a / b for a, b in pairs], at_most=1.2, note=note)]
    with slow_sink(DELAY) as port:
        pairs = measure_alternately(
            lambda: peak(DELAYED, port, connections=75), lambda: peak(DELAYED, port, connections=1), times=times
        )
    note = f"{seen[-2] / 1024:.0f} MB over {seen[-1] / 1024:.0f} MB, {DELAY} ms per answer"
    return [*rows, ratio_row("peak memory, 75 connections / 1", [a / b for a, b in pairs], at_most=1.3, note=note)]


def work() -> None:
    """Send all due records as the Celery task does, and print the peak in kB."""
    while DeliveryRecord.objects.due(timezone.now()).exists():
        tasks.hand_over_due()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    work()
