"""The search of the command palette: its p95 at 1,000,000 customers over its p95 at 10,000 customers."""

import random
import statistics
from time import perf_counter

from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory

from benchmarks import population
from benchmarks.measure import Row, ratio_row
from outbound.palette import palette

FEW, MANY = 10_000, 1_000_000
SEARCHES = 400
# Names as in a real company: a few are common, and one customer in ten has a second first name.
NAME_CUSTOMERS = """
UPDATE audiences_customer SET name = concat_ws(' ',
    'First' || floor(2000 * power(random(), 3))::int,
    CASE WHEN id % 10 = 0 THEN 'First' || floor(2000 * power(random(), 3))::int END,
    'Last' || floor(20000 * power(random(), 2))::int),
    email = 'first' || floor(2000 * power(random(), 3))::int || '.' || id || '@example.com'
"""


def typed_texts(*, customers: int, seed: int) -> list[str]:
    """Return texts that find customers drawn at random, as teammates type them."""
    chosen = random.Random(seed)
    keys = [chosen.randint(1, customers) for _ in range(SEARCHES)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, name, email FROM audiences_customer WHERE id = ANY(%s)", [keys])
        rows = {key: (name, email) for key, name, email in cursor.fetchall()}
    found = []
    for place, key in enumerate(keys):
        name, email = rows[key]
        first, last = name.split()[0], name.split()[-1]
        kinds = (first[:3], first, last, name[:-1], f"{last} {first}", f"{first} {last}", email[:9], email, f"u{key}")
        found.append([*kinds, str(key)][place % (len(kinds) + 1)])
    return found


def p95(*, customers: int, times: int) -> list[float]:
    """Return the p95 of each repetition, in milliseconds."""
    population.create_population(customers=customers, companies=10)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("SELECT setseed(0.5)")
        cursor.execute(NAME_CUSTOMERS)
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE audiences_customer")
    boss, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    found = []
    for seed in range(times + 1):
        took = []
        for typed in typed_texts(customers=customers, seed=seed):
            request = RequestFactory().get("/admin/palette/", {"q": typed})
            request.user = boss
            began = perf_counter()
            answer = palette(request)
            took.append((perf_counter() - began) * 1000)
            assert b'"People"' in answer.content, typed
        found.append(statistics.quantiles(took, n=20)[18])
    return found[1:]  # After a warm-up.


def measure(*, times: int = 5) -> list[Row]:
    """Measure the answers to the same kinds of searches at both sizes."""
    few, many = (p95(customers=customers, times=times) for customers in (FEW, MANY))
    note = f"p95 {statistics.median(many):.1f} over {statistics.median(few):.1f} ms; {SEARCHES} searches each"
    name = f"search p95 at {MANY:,} / at {FEW:,} customers"
    return [ratio_row(name, [a / b for a, b in zip(many, few, strict=True)], at_most=2, note=note)]
