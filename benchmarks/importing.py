"""Import of 1,000,000 customers from a file, over a plain COPY of the same rows into a table with the same indexes."""

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.utils import timezone

from audiences.intake import csv_import
from audiences.models import Import, ImportKind, ImportState
from benchmarks import population
from benchmarks.measure import Row, measure_alternately, ratio_row

CUSTOMERS = 1_000_000
HEADER = "user_id,email,name,signed_up_at,country,plan"
# The columns of the file; the other columns of the plain table stay empty.
COLUMNS = "user_id, email, name, signed_up_at, country, attributes"
PLANS = ("free", "pro", "team", "trial")
COUNTRIES = ("Ireland", "France", "Japan", "Brazil")
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


def people() -> Iterator[tuple[str, str, str, str, str, str]]:
    """Write the file with the same million customers in each run."""
    for n in range(CUSTOMERS):
        since = (BEGAN + timedelta(minutes=n % 500_000)).isoformat()
        yield f"new-{n}", f"new{n}@example.com", f"Person {n}", since, COUNTRIES[n % 4], PLANS[n % 4]


def seconds_of_import(file: io.BytesIO, *, rows: int) -> float:
    """Import a file of new customers; return how long the job took."""
    job = csv_import.store_upload(file, name="people.csv", kind=ImportKind.CUSTOMERS, by=None, at=timezone.now())
    Import.objects.filter(pk=job.pk).update(state=ImportState.CHECKED)
    csv_import.start_import(job, ImportState.WRITING, targets=job.targets, tag=None, at=timezone.now())
    started = time.perf_counter()
    csv_import.continue_import(job.pk, clock=timezone.now, until=timezone.now() + timedelta(hours=1))
    took = time.perf_counter() - started
    job.refresh_from_db()
    assert (job.state, job.made) == (ImportState.DONE, rows), (job.state, job.made)
    return took


def measure(*, times: int = 5) -> list[Row]:
    """Measure both, each into an empty table."""
    population.create_population(customers=1000, companies=10)
    file = io.BytesIO("\n".join([HEADER, *(",".join(person) for person in people())]).encode())

    def ours() -> float:
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE audiences_customer, audiences_import CASCADE")
        return CUSTOMERS / seconds_of_import(file, rows=CUSTOMERS)

    def bare() -> float:
        text = "".join(
            f'{n}\t{user}\t{email}\t{name}\t{since}\t{country}\t{{"plan": "{plan}"}}\n'
            for n, (user, email, name, since, country, plan) in enumerate(people())
        )
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS bare")
            cursor.execute("CREATE TABLE bare (LIKE audiences_customer INCLUDING INDEXES INCLUDING CONSTRAINTS)")
            for column in connection.introspection.get_table_description(cursor, "bare"):
                if column.name != "id":
                    cursor.execute(f"ALTER TABLE bare ALTER {column.name} DROP NOT NULL")
            started = time.perf_counter()
            with cursor.copy(f"COPY bare (id, {COLUMNS}) FROM STDIN") as copy:
                copy.write(text)
            took = time.perf_counter() - started
            cursor.execute("DROP TABLE bare")
        return CUSTOMERS / took

    pairs = measure_alternately(ours, bare, times=times)
    note = f"{pairs[-1][0]:,.0f} over {pairs[-1][1]:,.0f} rows per second"
    return [ratio_row("import of 1,000,000 rows / bare COPY", [a / b for a, b in pairs], at_least=0.25, note=note)]
