"""Emails per second of our worker if each answer of the mail server takes a while, over the speed without delay.

An email takes two answers. The rate is the one at which the mail server accepts emails, from RAMP seconds after the
start: a worker begins with one connection and adds more as the answers come. The last row kills a worker in the middle
of its copies, again and again, and compares its uncertain records with the emails that the server had begun and not
answered.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from tempfile import TemporaryDirectory
from unittest.mock import patch

if __name__ == "__main__":
    import django

    django.setup()

from django.utils import timezone

from benchmarks import population
from benchmarks.email_speed import Worker, live_message, middle, next_line
from benchmarks.measure import Point, Row, measure_alternately, ratio_row
from benchmarks.peer_speed import mail_server_counts, sink
from delivery.matching import ongoing
from delivery.sending import connections, dispatcher, settle
from messaging.models import Channel, Message

CUSTOMERS, COMPANIES = 15_000, 150
# In seconds.
RAMP, SECONDS = 3.0, 5.0
# Connections that suit a delay of the answers in milliseconds: an email takes two answers, and a process half a
# millisecond or more.
SUITABLE = {20: 60, 50: 150, 100: 300}
KILLS, KILL_CONNECTIONS = 100, 20


def measure(*, times: int = 5) -> list[Row]:
    """Measure the delays, the default settings, four processes, and kills."""
    population.create_population(customers=CUSTOMERS, companies=COMPANIES)
    message = live_message()

    def at(delay: int, *, count: int, processes: int = 1) -> float:
        return speed(message, delay=delay, count=count, processes=processes)

    rows = []
    for delay, aim in ((20, 0.0), (50, 0.8), (100, 0.6)):
        count = SUITABLE[delay]
        pairs = measure_alternately(
            lambda d=delay, n=count: at(d, count=n), lambda n=count: at(0, count=n), times=times
        )
        fast, slow = middle(pairs)
        rows.append(
            ratio_row(
                f"one worker at {delay} ms per answer / at 0 ms",
                [a / b for a, b in pairs],
                at_least=aim,
                note=f"{fast:,.0f} over {slow:,.0f} a second, {count} connections",
                points=(
                    Point("latency", "Outbound, one worker", delay, fast),
                    Point("latency", "Outbound, one worker", 0, slow),
                ),
            )
        )
    default = connections.connection_limit(Channel.EMAIL)
    pairs = measure_alternately(lambda: at(50, count=default), lambda: at(50, count=1), times=times)
    fast, slow = middle(pairs)
    rows.append(
        ratio_row(
            "default settings at 50 ms / one connection at 50 ms",
            [a / b for a, b in pairs],
            at_least=15,
            note=f"{fast:,.0f} over {slow:,.1f} a second, {default} connections",
        )
    )
    pairs = measure_alternately(lambda: at(50, count=16, processes=4), lambda: at(50, count=4), times=times)
    fast, slow = middle(pairs)
    rows.append(
        ratio_row(
            "four processes / one at 50 ms, 4 connections each",
            [a / b for a, b in pairs],
            at_least=3.6,
            note=f"{fast:,.1f} over {slow:,.1f} a second",
        )
    )
    return [*rows, kill_row(message, kills=KILLS)]


def speed(message: Message, *, delay: int, count: int, processes: int = 1) -> float:
    """Return the emails per second that workers with so many connections in all send through a delayed server."""
    population.delete_records()
    ongoing.match(message, at=timezone.now())
    with sink(delay) as port, workers(processes, port=port, count=count) as started:
        for each in started:
            print(RAMP + SECONDS + 1, file=each.stdin, flush=True)
        time.sleep(RAMP)
        before, began = mail_server_counts(port)[0], time.perf_counter()
        time.sleep(SECONDS)
        taken, took = mail_server_counts(port)[0] - before, time.perf_counter() - began
        for each in started:
            next_line(each)
    return taken / took


@contextmanager
def workers(processes: int, *, port: int, count: int, **environment: str) -> Iterator[list[Worker]]:
    """Start worker processes, which send for so many seconds as they are told."""
    there = {"EMAIL_URL": f"smtp://127.0.0.1:{port}", "EMAIL_CONNECTIONS": str(count), **environment}
    with ExitStack() as ends:
        started: list[Worker] = []
        for _ in range(processes):
            command = [sys.executable, "-m", "benchmarks.latency"]
            talk = subprocess.Popen(
                command, env={**os.environ, **there}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            started.append(ends.enter_context(talk))
            ends.callback(talk.kill)
        for each in started:
            assert next_line(each) == "ready"
        yield started


def kill_row(message: Message, *, kills: int) -> Row:
    """Return the uncertain records after kills over the emails that the server had begun and not answered."""
    population.delete_records()
    ongoing.match(message, at=timezone.now())
    ratios, uncertain, unanswered = [], 0, 0
    with TemporaryDirectory() as journals, sink(50) as port, patch.dict(os.environ, FLIGHTS_DIR=journals):
        for number in range(kills):
            before = mail_server_counts(port)
            with workers(1, port=port, count=KILL_CONNECTIONS, FLIGHTS_DIR=journals) as (worker,):
                print(60, file=worker.stdin, flush=True)
                # At a moment that differs each time, once several connections are open.
                while mail_server_counts(port)[0] - before[0] < 40:
                    time.sleep(0.01)
                time.sleep(0.1 * (number * 0.618034 % 1))
                worker.send_signal(signal.SIGKILL)
                worker.wait()
            time.sleep(0.2)
            found = settle_journals(journals)
            open_now = mail_server_counts(port)[1] - before[1]
            uncertain, unanswered = uncertain + found, unanswered + open_now
            if open_now:
                ratios.append(found / open_now)
            if not message.records.filter(status="waiting").exists():
                population.delete_records()
                ongoing.match(message, at=timezone.now())
    return ratio_row(
        f"uncertain after {kills} kills at 50 ms / begun and unanswered",
        [uncertain / unanswered],
        at_most=1,
        note=f"{uncertain} over {unanswered}, {KILL_CONNECTIONS} connections; by kill at most {max(ratios):.2f}",
    )


def settle_journals(folder: str) -> int:
    """Settle the batches of a killed worker; return how many records are uncertain."""
    from django.test.utils import override_settings

    with override_settings(FLIGHTS_DIR=folder):
        return settle.recover_from_journals(at=timezone.now())


if __name__ == "__main__":
    Message.objects.exists()  # Connect before the clock starts, as a worker does.
    print("ready", flush=True)
    for seconds in sys.stdin:
        until = timezone.now() + timedelta(seconds=float(seconds))
        print(dispatcher.dispatch(clock=timezone.now, until=until), flush=True)
