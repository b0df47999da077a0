"""Bytes on disk for each row: `python -m benchmarks.disk [CUSTOMERS]` prints the table of docs/scale.md.

It fills a database of its own with customers, 5 sent emails, 10 events and 3 tracking hits of each, and divides the
size of each table, with its indexes, by its rows. It also measures how fast the daily retention scans the events.
"""

import os
import sys
from datetime import UTC, datetime
from time import perf_counter

from django.utils import timezone

from config.postgres import embedded

RECORDS, EVENTS, HITS = 5, 10, 3

# Rows as sending, events and opens leave them. The moments are spread, so that indexes do not grow only at one end.
FILL = """
SET LOCAL session_replication_role = replica;
INSERT INTO delivery_deliveryrecord (message_id, version_id, customer_id, status, reason, matched_at, sent_at,
    opened_at, judged_last_seen_at, taken_at, address, detail, attempts, provider_id, variables)
SELECT k, k, c.id, 'sent', '', now() - make_interval(mins => (c.id % 90000)::int),
    now() - make_interval(mins => (c.id % 90000)::int), CASE WHEN (c.id + k) % 3 = 0 THEN now() END, c.last_seen_at,
    now(), c.email, '', 1, '',
    jsonb_build_object('first_name', 'User', 'email', c.email, 'custom_attributes.plan', c.attributes -> 'plan')
FROM generate_series(1, {records}) k CROSS JOIN audiences_customer c;
INSERT INTO audiences_event (customer_id, name, happened_at, metadata)
SELECT c.id, 'event-' || (c.id + k) % 20,
    now() - make_interval(mins => ((c.id * 31 + k * 977) % 260000)::int, secs => k),
    jsonb_build_object('order_number', c.id * 100 + k, 'price', k * 990)
FROM generate_series(1, {events}) k CROSS JOIN audiences_customer c;
INSERT INTO delivery_hit (record_id, message_id, link_id, who, number, first_at, last_at)
SELECT r.id, r.message_id, NULLIF(r.message_id, 1), 'person', 1, r.sent_at, r.sent_at
FROM delivery_deliveryrecord r WHERE r.message_id <= {hits};
"""
SIZES = """
SELECT relname, n, pg_table_size(oid) / n, pg_indexes_size(oid) / n, pg_total_relation_size(oid) / n
FROM (SELECT oid, relname, reltuples::bigint AS n FROM pg_class WHERE relname = ANY(%s)) AS tables
WHERE n > 0 ORDER BY pg_total_relation_size(oid) DESC
"""
TABLES = [
    *("audiences_customer", "audiences_event", "audiences_eventsummary", "audiences_membership"),
    *("audiences_customertag", "audiences_company", "delivery_deliveryrecord", "delivery_hit"),
]


def main(customers: int) -> None:
    """Fill the database and print a row for each table."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.pop("DATABASE_URL", None)
    with embedded.database("bench"):
        embedded.SERVERS["bench"].create("disk")
        os.environ["DATABASE_URL"] = embedded.SERVERS["bench"].url("disk")
        import django
        from django.core.management import call_command
        from django.db import connection

        django.setup()
        call_command("migrate", verbosity=0)
        from benchmarks import population
        from delivery.maintenance import retention

        population.create_population(customers=customers, companies=customers // 20)
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE delivery_hit CASCADE")
            cursor.execute("BEGIN;" + FILL.format(records=RECORDS, events=EVENTS, hits=HITS) + "COMMIT")
            cursor.execute("VACUUM ANALYZE")
            cursor.execute(SIZES, [TABLES])
            rows = cursor.fetchall()
        before, at = datetime(2000, 1, 1, tzinfo=UTC), timezone.now()
        start = perf_counter()
        assert not sum(retention.delete_events(before, at, retention.SLICE_SIZE, lambda: True))
        scanned = customers * EVENTS / (perf_counter() - start)
        connection.close()
    print("| table | rows | bytes of a row | of its indexes | together |\n|---|---|---|---|---|")
    for name, count, table, indexes, total in rows:
        print(f"| `{name}` | {count:,} | {table:,} | {indexes:,} | {total:,} |")
    print(f"\nRetention scans {scanned:,.0f} events per second, none of which is old enough to be deleted.")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
