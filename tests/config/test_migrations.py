"""Migrations on a filled database: an upgrade from 0.1.0 keeps every row; one from 0.2.0 works beside its processes."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django_celery_beat.models import PeriodicTask
from psycopg import sql

from audiences.models import Audience, Customer, Workspace
from delivery.models import Alarm, ChannelOutage, DeliveryRecord
from delivery.monitoring import invariants
from messaging.models import Message
from tests.support.database_dump import DEMO_0_1, restore_dump

# The moment of the dump, and the SECRET_KEY of its demo.
DUMPED_AT = datetime(2026, 11, 27, 1, 58, tzinfo=UTC)
SECRET_KEY = "x" * 50

# Every `migrate` rewrites these tables.
REWRITTEN_TABLES = {"django_migrations", "django_content_type", "auth_permission", "auth_group_permissions"}
# Migrations rewrite these columns; the last test reads them.
REWRITTEN_COLUMNS = {
    "django_celery_beat_periodictask": {"name"},
    "messaging_message": {"problem"},
    "audiences_audience": {"rules"},
    "messaging_messageversion": {"rules"},
}
RENAMED_COLUMNS = {
    "audiences_import": {"nobody": "unmatched"},
    "audiences_kindchange": {"trouble": "problem"},
    "delivery_alarm": {
        "words": "description",
        "told_at": "notified_at",
        "told_over_at": "end_notified_at",
        "telling_until": "notifying_until",
    },
    "delivery_deliveryrecord": {"inbox": "address", "filled": "variables"},
    "messaging_message": {"trouble": "problem", "rejudge_before": "recheck_before"},
    "messaging_messageversion": {"dress": "layout"},
}


# The last migrations of 0.2.0. Its processes run while later migrations are applied.
LAST_OF_0_2 = {
    "audiences": "0021_plain_change_columns",
    "messaging": "0011_plain_recheck_column",
    "delivery": "0027_plain_alarm_columns",
    "outbound": "0003_event_names",
}
BIG_TABLES = ["audiences_customer", "audiences_event", "delivery_deliveryrecord"]
# All transactions lock them in this order; in another order, each attempt of a migration under load ends in a deadlock.
LOCK_ORDER = [
    "audiences_customer",
    "audiences_company",
    "delivery_conversation",
    "messaging_message",
    "delivery_deliveryrecord",
]
# Locks that keep other transactions from writing or reading.
STRONG_LOCKS = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]


@pytest.fixture(autouse=True)
def key_of_the_demo(settings) -> None:
    settings.SECRET_KEY_FALLBACKS = [SECRET_KEY]


@dataclass(frozen=True, slots=True)
class Table:
    """The content of a table before the upgrade, with the present names of its columns."""

    columns: frozenset[str]
    rows: Counter[str]


@pytest.fixture(scope="module")
def before(django_db_blocker) -> Iterator[dict[str, Table]]:
    """The tables of a restored demo of 0.1.0. The default connection leads to this demo, which is migrated by now."""
    ours, restored = connection.settings_dict["NAME"], f"demo_0_1_{os.getpid()}"
    with django_db_blocker.unblock():
        server = {**connection.get_connection_params(), "dbname": "postgres"}
        for option in ("context", "cursor_factory", "prepare_threshold"):
            server.pop(option, None)
        with psycopg.connect(**server, autocommit=True) as maintenance:
            maintenance.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(restored)))
            try:
                with psycopg.connect(**{**server, "dbname": restored}) as empty:
                    restore_dump(empty, DEMO_0_1)
                point_connection_at(restored)
                tables = set(connection.introspection.table_names()) - REWRITTEN_TABLES
                found = {table: table_before(table) for table in tables}
                for app, last in LAST_OF_0_2.items():
                    call_command("migrate", app, last, verbosity=0)
                with connection.execute_wrapper(LOCKS.watch):
                    call_command("migrate", verbosity=0)
                yield found
            finally:
                point_connection_at(ours)
                maintenance.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(restored)))


@dataclass(slots=True)
class Locks:
    """The statements that read or rewrite a big table while their transaction keeps others from writing to one."""

    long: list[str] = field(default_factory=list)
    orders: list[tuple[str, ...]] = field(default_factory=lambda: [()])
    statements: int = 0

    def watch(self, execute, statement, params, many, context):
        before = self.rows_read()
        result = execute(statement, params, many, context)
        self.statements += 1
        held = self.held() if connection.in_atomic_block else []
        if held and self.rows_read() != before:
            self.long.append(f"{statement[:300]} holds {held}")
        last = self.orders[-1]
        if not set(last) <= set(held):
            self.orders.append(last := ())
        self.orders[-1] = (*last, *(table for table in held if table not in last))
        return result

    def rows_read(self) -> list[tuple[int, int]]:
        """Return how many rows of each big table this transaction has scanned, and its file."""
        with connection.connection.cursor() as cursor:
            # A small table is scanned in cases in which a big one is not.
            cursor.execute("SET enable_seqscan = off")
            cursor.execute(
                "SELECT seq_tup_read, pg_relation_filenode(relid) FROM pg_stat_xact_user_tables"
                " WHERE relname = ANY(%s) ORDER BY relname",
                [BIG_TABLES],
            )
            return cursor.fetchall()

    def held(self) -> list[str]:
        """Return the tables that this transaction has locked strongly."""
        with connection.connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
                " WHERE pid = pg_backend_pid() AND relname = ANY(%s) AND mode = ANY(%s)",
                [[*BIG_TABLES, *LOCK_ORDER], STRONG_LOCKS],
            )
            return [table for (table,) in cursor.fetchall()]


LOCKS = Locks()


def point_connection_at(database: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = database
    ContentType.objects.clear_cache()


def columns_of(table: str) -> set[str]:
    with connection.cursor() as cursor:
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}


def table_before(table: str) -> Table:
    renamed = RENAMED_COLUMNS.get(table, {})
    columns = {renamed.get(name, name) for name in columns_of(table)} - REWRITTEN_COLUMNS.get(table, set())
    return Table(frozenset(columns), rows_of(table, columns, renamed=renamed))


def rows_of(table: str, columns: set[str] | frozenset[str], *, renamed: dict[str, str]) -> Counter[str]:
    """Return the rows as JSON, restricted to the columns."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT to_jsonb(t)::text FROM {connection.ops.quote_name(table)} t")  # noqa: S608
        rows = [json.loads(row) for (row,) in cursor.fetchall()]
    named = [{renamed.get(name, name): value for name, value in row.items()} for row in rows]
    return Counter(json.dumps({name: row[name] for name in sorted(columns)}) for row in named)


def test_dump_is_restored_completely(before):
    assert before["audiences_customer"].rows.total() == 500
    assert before["audiences_event"].rows.total() == 3_454
    assert before["delivery_deliveryrecord"].rows.total() == 142
    assert before["delivery_conversationpart"].rows.total() == 35


def test_migrations_after_0_2_lock_no_big_table_for_long(before):
    assert LOCKS.statements > 100
    assert LOCKS.long == []


def test_migrations_after_0_2_lock_tables_in_the_order_of_all_transactions(before):
    orders = [[table for table in order if table in LOCK_ORDER] for order in LOCKS.orders]

    assert any(len(order) > 1 for order in orders)
    assert [order for order in orders if order != sorted(order, key=LOCK_ORDER.index)] == []


def test_upgrade_keeps_every_column(before):
    lost = {name: table.columns - columns_of(name) for name, table in before.items()}

    assert {name: columns for name, columns in lost.items() if columns} == {}


def test_upgrade_keeps_every_row(before):
    lost = {name: table.rows - rows_of(name, table.columns, renamed={}) for name, table in before.items()}

    assert {name: sorted(rows)[:3] for name, rows in lost.items() if rows} == {}
    assert Customer.objects.count() == 500
    assert DeliveryRecord.objects.count() == 142


def test_invariants_hold_after_the_upgrade(before):
    assert list(invariants.find_violations(at=DUMPED_AT)) == []


def test_upgraded_rows_are_read_through_the_present_models(before):
    copies = DeliveryRecord.objects.filter(message__title="Welcome").select_related("customer")
    assert {copy.address for copy in copies} == {copy.customer.email for copy in copies}
    assert all(copy.variables == {"first_name": copy.customer.first_name} for copy in copies)
    assert Message.objects.get(title="Trial about to end").problem == (
        "Paused: the mail server refuses this sender. Sending resumes once it is accepted. 553 Not your address"
    )
    assert {"Match ongoing messages", "Send due messages", "Delete old data"} <= set(
        PeriodicTask.objects.values_list("name", flat=True)
    )
    assert PeriodicTask.objects.filter(name__contains="what").count() == 0
    trial = Message.objects.get(title="Trial about to end")
    assert trial.audience.rules == trial.version.rules
    assert {"attribute": "custom_attributes.trial_ends_at", "operator": "in_less_than_days", "value": 3} in (
        trial.audience.rules["rules"]
    )
    assert [audience.tree for audience in Audience.objects.all()]
    assert ChannelOutage.objects.get().channel == "email"
    assert Alarm.objects.get().description == "Trial about to end: 553 Not your address"
    assert len(Workspace.current().identity_secret) > 20
