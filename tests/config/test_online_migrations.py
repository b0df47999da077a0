"""Migrations after 0.2.0 work beside processes of the release before, and leave a database that these can use."""

from collections.abc import Iterator
from io import StringIO
from types import SimpleNamespace

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.core.management.commands.migrate import Command as Migrate
from django.db import connection, transaction
from django.db.migrations import operations as changes
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

from config.management.commands import migrate
from config.management.commands.migrate import Command
from tests.config.test_migrations import LAST_OF_0_2

# A column is dropped or renamed one release after the code stopped using it: (app, migration) -> the release.
DROPPED_LATER: dict[tuple[str, str], str] = {}
FORBIDDEN = (
    changes.DeleteModel,
    changes.RemoveField,
    changes.RenameField,
    changes.RenameModel,
    changes.AlterModelTable,
)


def migrations_after_0_2() -> list[tuple[str, str, object]]:
    loader = MigrationLoader(connection)
    released = {node for app, last in LAST_OF_0_2.items() for node in loader.graph.forwards_plan((app, last))}
    return [
        (app, name, migration)
        for (app, name), migration in loader.disk_migrations.items()
        if app in LAST_OF_0_2 and (app, name) not in released
    ]


@pytest.mark.django_db
def test_migrations_after_0_2_neither_rename_nor_drop_what_the_release_before_uses():
    found = migrations_after_0_2()
    wrong = [
        f"{app} {name}: {operation.describe()}"
        for app, name, migration in found
        for operation in migration.operations
        if isinstance(operation, FORBIDDEN) and (app, name) not in DROPPED_LATER
    ]

    assert len(found) > 20
    assert wrong == []


@pytest.mark.django_db
def test_columns_added_after_0_2_are_filled_by_the_database():
    """Processes of the release before insert rows without the column."""
    added = [
        (app, name, operation)
        for app, name, migration in migrations_after_0_2()
        for operation in migration.operations
        if isinstance(operation, changes.AddField) and not operation.field.many_to_many
    ]
    wrong = [
        f"{app} {name}: {operation.model_name}.{operation.name}"
        for app, name, operation in added
        if not operation.field.null and operation.field.db_default is NOT_PROVIDED
    ]

    assert added
    assert wrong == []


# A table in use


@pytest.fixture
def table_in_use(monkeypatch) -> Iterator[psycopg.Connection]:
    """Another transaction that uses a table which the only migration locks; both end with the test."""

    def apply_migration(command: Command, *_args: object, **_options: object) -> None:
        command.verbosity = 0
        command.migration_progress_callback("apply_start", SimpleNamespace(atomic=True))
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE audiences_tag IN ACCESS EXCLUSIVE MODE")
        command.migration_progress_callback("apply_success", SimpleNamespace(atomic=True))

    monkeypatch.setattr(Migrate, "handle", apply_migration)
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 20)
    parameters = {**connection.get_connection_params(), "cursor_factory": None, "context": None}
    with psycopg.connect(**{name: value for name, value in parameters.items() if value is not None}) as other:
        other.execute("SELECT FROM audiences_tag")
        yield other


@pytest.mark.django_db(transaction=True)
def test_migration_that_finds_a_table_in_use_is_tried_again(table_in_use, monkeypatch):
    monkeypatch.setattr(migrate.time, "sleep", lambda _seconds: table_in_use.rollback())
    output = StringIO()
    call_command("migrate", stderr=output)

    assert "A table is in use; trying again." in output.getvalue()
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.django_db(transaction=True)
def test_migration_gives_up_and_says_why_after_five_minutes(table_in_use, monkeypatch):
    monkeypatch.setattr(migrate, "PATIENCE", -1)

    with pytest.raises(CommandError, match="A table that a migration changes was in use for five minutes"):
        call_command("migrate", stderr=StringIO())
