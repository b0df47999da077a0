"""The flush after a test with real transactions.

Django truncates every table, so PostgreSQL replaces hundreds of files, and then creates all permissions again. A test
fills few tables; deleting their rows takes a small part of that time.
"""

from functools import cache

from django.db import connection, transaction
from django.test import TransactionTestCase

# No test changes them, and Django's flush creates the same rows again.
KEPT = {"auth_permission", "django_content_type"}
# DELETE leaves dead rows, so Django's flush follows when the tables have become this large.
MAX_BYTES = 8_000_000
SIZES = (
    "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE oid = ANY(%s::regclass[]) AND pg_relation_size(oid) > 0"
)

flush_by_django = TransactionTestCase._fixture_teardown


def install() -> None:
    """Replace Django's flush if the role may disable triggers; some of them refuse to delete rows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone()[0]:
            TransactionTestCase._fixture_teardown = flush


def flush(case: TransactionTestCase) -> None:
    if delete_rows() > MAX_BYTES:
        flush_by_django(case)


@cache
def tables() -> list[str]:
    names = set(connection.introspection.django_table_names(only_existing=True, include_views=False))
    return sorted(names - KEPT)


def delete_rows() -> int:
    """Delete all rows of a test; return the size of the tables in bytes."""
    with transaction.atomic(), connection.cursor() as cursor:
        # Statements of killed processes end first.
        cursor.execute(f"LOCK TABLE {', '.join(tables())} IN EXCLUSIVE MODE")
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(SIZES, [tables()])
        sizes = dict(cursor.fetchall())
        for name in sizes:
            cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - names of tables, from the database
    return sum(sizes.values())
