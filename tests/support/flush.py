"""The flush after a test with real transactions, and the rows of the migrations for the tests that follow.

Django truncates every table, so PostgreSQL replaces hundreds of files, and then creates all permissions again. A test
fills few tables; deleting their rows takes a small part of that time. Django does not restore the rows that migrations
made, so pytest-django runs tests without real transactions first. Here they may run at any time.
"""

from dataclasses import dataclass, field
from functools import cache

import pytest
from django.db import connection, transaction
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

# No test changes them.
KEPT = {"auth_permission", "django_content_type"}
# DELETE leaves dead rows, so tables that have become this large are truncated.
MAX_BYTES = 8_000_000
SIZES = (
    "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE oid = ANY(%s::regclass[]) AND pg_relation_size(oid) > 0"
)


@dataclass
class Database:
    """The test database of this process."""

    blocker: DjangoDbBlocker | None = None
    # Only a superuser may disable triggers, some of which refuse to delete rows. Others truncate.
    may_disable_triggers: bool = False
    # The rows of the migrations, by table, as COPY writes them.
    rows: dict[str, bytes] = field(default_factory=dict)
    is_flushed: bool = False


database = Database()


@cache
def tables() -> list[str]:
    names = set(connection.introspection.django_table_names(only_existing=True, include_views=False))
    return sorted(names - KEPT)


def install(blocker: DjangoDbBlocker) -> None:
    """Replace Django's flush. Call this with the rows of the migrations in the database."""
    with blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        database.blocker, database.may_disable_triggers = blocker, cursor.fetchone()[0]
        for name in tables():
            with cursor.copy(f"COPY {name} TO STDOUT") as copy:
                if rows := b"".join(copy):
                    database.rows[name] = rows
    TransactionTestCase._fixture_teardown = lambda _case: delete_rows()


def delete_rows() -> None:
    """Delete all rows, those of the migrations included."""
    with transaction.atomic(), connection.cursor() as cursor:
        # Statements of killed processes end first.
        cursor.execute(f"LOCK TABLE {', '.join(tables())} IN EXCLUSIVE MODE")
        cursor.execute(SIZES, [tables()])
        sizes = dict(cursor.fetchall())
        if database.may_disable_triggers and sum(sizes.values()) < MAX_BYTES:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for name in sizes:
                cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - names of tables, from the database
        else:
            cursor.execute(f"TRUNCATE {', '.join(tables())}")
    database.is_flushed = True


def needs_rows(item: pytest.Item) -> bool:
    """Return whether the rows of the migrations are missing and this test expects them: it has no real transactions."""
    marker, fixtures = item.get_closest_marker("django_db"), set(getattr(item, "fixturenames", ()))
    has_transaction = marker and marker.kwargs.get("transaction")
    is_transactional = has_transaction or fixtures & {"transactional_db", "live_server"}
    return bool(database.is_flushed and not is_transactional and (marker or "db" in fixtures))


def restore_rows() -> None:
    """Restore the rows of the migrations in an empty database."""
    assert database.blocker
    with database.blocker.unblock(), transaction.atomic(), connection.cursor() as cursor:
        if database.may_disable_triggers:
            cursor.execute("SET LOCAL session_replication_role = replica")
        for name, rows in database.rows.items():
            with cursor.copy(f"COPY {name} FROM STDIN") as copy:
                copy.write(rows)
    database.is_flushed = False
