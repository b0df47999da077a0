"""Rounds by changes over full rounds: idle, at a larger population, after changes; and writes with and without the log.

OUTBOUND_BENCH_CUSTOMERS sets the population (1,000,000), OUTBOUND_BENCH_GROWTH that of the growth row (3,000,000).
"""

import json
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import count
from time import perf_counter

from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from audiences import identity_verification
from audiences.models import Integration, Workspace
from benchmarks import population
from benchmarks.matching import live_message
from benchmarks.measure import Row, measure_alternately, ratio_row
from delivery.matching import date_indexes, ongoing, rounds
from delivery.models import MatchState
from messaging.models import Message

CUSTOMERS = int(os.environ.get("OUTBOUND_BENCH_CUSTOMERS", "1000000"))
GROWTH = int(os.environ.get("OUTBOUND_BENCH_GROWTH", "3000000"))
SMALL = int(os.environ.get("OUTBOUND_BENCH_SMALL", "100000"))
CUSTOMERS_OF_A_COMPANY = 20
MESSAGES = 50
MANY_MESSAGES, CUSTOMERS_OF_MANY_MESSAGES, CHANGED = 1_000, 25_000, 1_000
PAIRS, WRITES = 20, 200
# Path, body and headers of a request.
Asked = tuple[str, bytes, dict[str, str]]


def rules(number: int) -> dict[str, object]:
    """Return the rules of one of 50 messages: 20 with dates, 10 of them custom, the others without."""
    asked: list[dict[str, object]] = [
        {"attribute": "session_count", "operator": "greater_than", "value": 20 + number % 30},
        {"attribute": "country", "operator": "is", "value": ("Ireland", "France", "Japan")[number % 3]},
    ]
    if number < 10:
        asked.append({"attribute": "custom_attributes.trial_ends_at", "operator": "in_more_than_days", "value": number})
    elif number < 16:
        asked.append({"attribute": "last_seen_at", "operator": "more_than_days_ago", "value": number})
    elif number < 20:
        asked.append({"attribute": "event_last.event-1", "operator": "more_than_days_ago", "value": number})
    elif number % 4 == 0:
        asked.append({"attribute": "company.size", "operator": "greater_than", "value": number * 5})
    elif number % 4 == 1:
        asked.append({"attribute": "custom_attributes.plan", "operator": "is", "value": "pro"})
    return {"match": "all", "rules": asked}


def populate(customers: int) -> None:
    """Create the population and 50 live messages that everyone was matched for."""
    population.create_population(customers=customers, companies=customers // CUSTOMERS_OF_A_COMPANY)
    for number in range(MESSAGES):
        live_message(rules(number))
    date_indexes.update_indexes()
    at = timezone.now()
    rounds.run_round(at=at)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE delivery_deliveryrecord")
        cursor.execute("ANALYZE audiences_customer, audiences_eventsummary")
    forget_old_entries(at)


def forget_old_entries(at: datetime) -> None:
    """Bring all states to the same moment, with an empty log."""
    rounds.run_round(at=at)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE audiences_change")


def idle_round(at: datetime) -> float:
    """Run a round at the time of the last one: nothing changed and no boundary was crossed."""
    began = perf_counter()
    done = rounds.run_round(at=at)
    took = perf_counter() - began
    assert (len(done.by_changes), done.made) == (MESSAGES, 0), done
    return took


def full_round(at: datetime) -> float:
    """Run a round that judges everyone."""
    MatchState.objects.all().delete()
    began = perf_counter()
    done = rounds.run_round(at=at)
    took = perf_counter() - began
    assert (len(done.in_full), done.made) == (MESSAGES, 0), done
    return took


def round_after_changes(at: datetime, *, share: int, messages: int = MESSAGES) -> float:
    """Change one in `share` customers and run a round."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_customer SET session_count = session_count - 1 WHERE id %% %s = 3", [share])
    began = perf_counter()
    done = rounds.run_round(at=at)
    took = perf_counter() - began
    assert len(done.by_changes) == messages, done
    assert done.candidates > 0
    return took


def many_messages_row(*, times: int) -> Row:
    """Measure rounds of 1,000 messages and of 50 after the same number of changes."""
    populate(CUSTOMERS_OF_MANY_MESSAGES)
    forget_old_entries(timezone.now())
    share = CUSTOMERS_OF_MANY_MESSAGES // CHANGED
    few = [round_after_changes(timezone.now(), share=share) for _ in range(times)]
    for number in range(MESSAGES, MANY_MESSAGES):
        live_message(rules(number))
    rounds.run_round(at=timezone.now())
    many = [round_after_changes(timezone.now(), share=share, messages=MANY_MESSAGES) for _ in range(times)]
    note = f"{min(many):.2f} over {min(few):.2f} s, {CUSTOMERS_OF_MANY_MESSAGES:,} customers"
    ratios = [a / b for a, b in zip(many, few, strict=True)]
    name = f"round of {MANY_MESSAGES:,} messages / of {MESSAGES}, {CHANGED:,} customers changed"
    return ratio_row(name, ratios, at_most=4, note=note)


def full_match_row(at: datetime, *, times: int) -> Row:
    """Measure the share of one core that the full match of one message in each hour needs."""
    took = []
    for message in Message.objects.live().order_by("pk")[:times]:
        MatchState.objects.filter(message=message).delete()
        began = perf_counter()
        ongoing.match(message, at=at)
        took.append(perf_counter() - began)
    note = f"{CUSTOMERS:,} customers; {statistics.median(took):.2f} s in each hour"
    return ratio_row(
        "full match of one message in each hour, share of one core", [t / 3600 for t in took], at_most=0.01, note=note
    )


@contextmanager
def without_log() -> Iterator[None]:
    """Disable the triggers of the log."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgname LIKE %s", ["%is\\_logged%"])
        triggers = cursor.fetchall()
        for table, name in triggers:
            cursor.execute(f'ALTER TABLE {table} DISABLE TRIGGER "{name}"')
        try:
            yield
        finally:
            for table, name in triggers:
                cursor.execute(f'ALTER TABLE {table} ENABLE TRIGGER "{name}"')


def write_rows() -> list[Row]:
    """Measure REST writes and pings with the log and without, in turn."""
    secret = Workspace.current().identity_secret
    _, token = Integration.issue(name="bench")
    with_token = {"Authorization": f"Bearer {token}"}
    numbers, client = count(), Client()
    settings.API_RATE_LIMIT = settings.MESSENGER_RATE_LIMIT = 0

    def write() -> Asked:
        number = next(numbers)
        facts = {"user_id": f"u{1 + number * 7919 % SMALL}", "name": f"User {number}"}
        return "/api/users", json.dumps({**facts, "custom_attributes": {"plan": "pro"}}).encode(), with_token

    def visit() -> Asked:
        who = f"u{1 + next(numbers) * 7919 % SMALL}"
        user = {"user_id": who, "user_hash": identity_verification.user_hash(secret, who)}
        return "/messenger/ping", json.dumps({"app_id": "bench", "user": user}).encode(), {}

    def seconds(asked: Callable[[], Asked]) -> float:
        requests = [asked() for _ in range(WRITES)]
        began = perf_counter()
        for path, body, headers in requests:
            answer = client.post(path, body, "application/json", headers=headers)
            assert answer.status_code == 200, answer.content
        return perf_counter() - began

    def seconds_without_log(asked: Callable[[], Asked]) -> float:
        with without_log():
            return seconds(asked)

    rows = []
    for name, asked in (("REST write", write), ("ping", visit)):
        seconds(asked)
        pairs = measure_alternately(partial(seconds, asked), partial(seconds_without_log, asked), times=PAIRS)
        took = sorted(a for a, _ in pairs)[PAIRS // 2] / WRITES * 1000
        note = f"{took:.1f} ms each, in the process, without HTTP"
        ratios = [a / b for a, b in pairs]
        rows.append(ratio_row(f"{name} with the change log / without", ratios, at_most=1.05, note=note))
    return rows


def measure(*, times: int = 5) -> list[Row]:
    """Measure rounds at two populations, and writes."""
    populate(SMALL)
    at = timezone.now()
    forget_old_entries(at)
    small = [idle_round(at) for _ in range(times)]
    rows = [*write_rows(), many_messages_row(times=times)]
    populate(CUSTOMERS)
    at = timezone.now()
    forget_old_entries(at)
    idle = measure_alternately(lambda: idle_round(at), lambda: full_round(at), times=times)
    note = f"{CUSTOMERS:,} customers; idle {min(a for a, _ in idle) * 1000:.0f} ms"
    rows.append(ratio_row("idle round of 50 messages / full round", [a / b for a, b in idle], at_most=0.005, note=note))
    forget_old_entries(at)
    changed = measure_alternately(lambda: round_after_changes(at, share=100), lambda: full_round(at), times=times)
    ratios = [a / b for a, b in changed]
    rows.append(ratio_row("round after 1 % of the customers changed / full round", ratios, at_most=0.05))
    rows.append(full_match_row(at, times=times))
    if GROWTH > CUSTOMERS:
        populate(GROWTH)
        at = timezone.now()
        forget_old_entries(at)
        large = [idle_round(at) for _ in range(times)]
    else:
        large = [a for a, _ in idle]
    note = f"{max(GROWTH, CUSTOMERS):,} over {SMALL:,} customers; {min(small) * 1000:.0f} ms at {SMALL:,}"
    ratios = [a / b for a, b in zip(large, small, strict=True)]
    return [*rows, ratio_row("idle round of 50 messages, growth", ratios, at_most=1.2, note=note)]
