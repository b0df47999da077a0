"""Growth: the duration of each operation at 100,000, 1,000,000 and 3,000,000 customers.

`BENCH_GROWTH_SIZES=10000,30000,100000` chooses other numbers of customers. 50 live emails and 50 live in-app messages,
each for about 1 of 240 customers: 10 have a rule on a custom date, 10 on "last seen". All matches have been recorded
before a round is timed, so a round finds no new match.
"""

import io
import itertools
import json
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from time import perf_counter

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audiences import identity_verification
from audiences.models import Integration, Tag, Workspace
from benchmarks import document, importing, matching, ping, population
from benchmarks.measure import Point, Row, ratio_row
from benchmarks.ping import Asked
from delivery.matching import date_indexes, forecast, ongoing, rounds
from messaging import lifecycle
from messaging.models import Message
from outbound.composer import confirm

SIZES = [int(size) for size in os.environ.get("BENCH_GROWTH_SIZES", "100000,1000000,3000000").split(",")]
MESSAGES, REQUESTS, PAGES, IMPORTED = 50, 200, 5, 20_000

ROUND = document.IDLE_ROUND
IMPORT = "import of 20,000 rows"
AIMS = {ROUND: 1.2}

Samples = dict[str, dict[int, list[float]]]


def measure(*, times: int = 5) -> list[Row]:
    """Measure each operation at each size; return the ratios of the largest size over the smallest."""
    samples: Samples = defaultdict(dict)
    for size in SIZES:
        for name, operation in operations(size):
            samples[name][size] = [operation() for _ in range(times)]
            print(f"  {size:,} customers, {name}: {statistics.median(samples[name][size]):.4f} s", flush=True)
    return [growth_row(name, by_size) for name, by_size in samples.items()]


def growth_row(name: str, samples: dict[int, list[float]]) -> Row:
    """Return the row of an operation: seconds at the largest size over seconds at the smallest."""
    low, high = min(samples), max(samples)
    medians = {size: statistics.median(seconds) for size, seconds in samples.items()}
    return ratio_row(
        f"{name}: {high:,} / {low:,} customers",
        [b / a for a, b in zip(samples[low], samples[high], strict=True)],
        at_most=AIMS.get(name, 0),
        note="; ".join(f"{seconds:.4f} s at {size:,}" for size, seconds in medians.items())
        + (f"; {IMPORTED / medians[high]:,.0f} rows per second at {high:,}" if name == IMPORT else ""),
        points=tuple(Point("growth", name, size, seconds) for size, seconds in medians.items()),
    )


def operations(size: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Create the customers; yield each operation with the function that returns its seconds, in this order."""
    population.create_population(customers=size, companies=size // 20)
    first = matching.live_message(matching.rules(Tag.objects.get(name="tag 4").pk))
    yield "first match of one message", lambda: seconds_of_first_match(first)
    population.delete_records()
    now = timezone.now()
    yield "live count", lambda: seconds_of(lambda: forecast.forecast_within(first, at=now, within=confirm.COUNT_WITHIN))
    lifecycle.stop(first)
    for number in range(MESSAGES):
        matching.live_message(rules(number))
        matching.live_message(rules(number), channel="in_app", format="chat")
    date_indexes.update_indexes()
    at = timezone.now()
    rounds.match_ongoing(at=at)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audiences_customer")
    # At the same moment, so that no boundary is crossed.
    yield ROUND, lambda: seconds_of(lambda: rounds.match_ongoing(at=at))
    yield from requests(size)
    yield from pages(size)
    prefixes = itertools.count()
    yield IMPORT, lambda: seconds_of_import(next(prefixes))


def rules(number: int) -> dict[str, object]:
    """Return the rules of one of 50 messages; 10 have a rule on a custom date, 10 on a date of our own."""
    asked: list[dict[str, object]] = [
        {"attribute": "session_count", "operator": "is", "value": number},
        {
            "attribute": "custom_attributes.plan",
            "operator": "is",
            "value": ("free", "pro", "team", "trial")[number % 4],
        },
    ]
    if number % 5 < 2:
        date = ("custom_attributes.trial_ends_at", "last_seen_at")[number % 5]
        asked.append({"attribute": date, "operator": "less_than_days_ago", "value": 10 + number})
    return {"match": "all", "rules": asked}


def seconds_of(action: Callable[[], object]) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start


def seconds_of_first_match(message: Message) -> float:
    population.delete_records()
    return seconds_of(lambda: ongoing.match(message, at=timezone.now()))


def requests(size: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield a ping and a GET of one customer, asked over HTTP; each customer is used once."""
    numbers = random.Random(1).sample(range(1, size + 1), min(size, 10_000))
    users = (f"u{number}" for number in numbers)
    secret = Workspace.current().identity_secret
    _, token = Integration.issue(name="bench")

    def ping_of(user: str) -> Asked:
        sent = {
            "app_id": "bench",
            "user": {"user_id": user, "user_hash": identity_verification.user_hash(secret, user)},
        }
        return Asked("POST", "/messenger/ping", json.dumps(sent).encode(), {"Content-Type": "application/json"})

    def get_of(user: str) -> Asked:
        address = f"/api/conversations?type=user&user_id={user}"
        return Asked("GET", address, headers={"Authorization": f"Bearer {token}"})

    with ping.served() as port:
        for name, asked in (("ping", ping_of), ("GET /conversations", get_of)):
            yield name, lambda asked=asked: seconds_of_request(port, [asked(next(users)) for _ in range(REQUESTS)])


def seconds_of_request(port: int, asked: list[Asked]) -> float:
    """Return the median duration of requests from four connections."""
    took: list[float] = []
    ping.requests_a_second(port, asked, took=took)
    return statistics.median(took)


def pages(size: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield the pages of the console, each opened several times by one Admin."""
    admin, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(admin)
    people = reverse("admin:audiences_customer_changelist")
    numbers = random.Random(2)
    addresses: dict[str, Callable[[], str]] = {
        "Outbound list": lambda: reverse("admin:messaging_message_changelist"),
        "profile page": lambda: reverse("admin:audiences_customer_change", args=[numbers.randint(1, size)]),
        "people search, a word": lambda: f"{people}?q=User+{numbers.randint(1, size)}",
        "people search, an address": lambda: f"{people}?q=user{numbers.randint(1, size)}@example.com",
    }

    def seconds_of_page(address: Callable[[], str]) -> float:
        took = []
        for _ in range(PAGES):
            start = perf_counter()
            answer = client.get(address())
            took.append(perf_counter() - start)
            assert answer.status_code == 200, answer
        return statistics.median(took)

    for name, address in addresses.items():
        seconds_of_page(address)
        yield name, lambda address=address: seconds_of_page(address)


def seconds_of_import(number: int) -> float:
    rows = (
        f"import-{number}-{n},import{number}-{n}@example.com,Person {n},2025-01-01T00:00:00+00:00,Ireland,pro"
        for n in range(IMPORTED)
    )
    return importing.seconds_of_import(io.BytesIO("\n".join([importing.HEADER, *rows]).encode()), rows=IMPORTED)
