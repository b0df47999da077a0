"""`migrate`, which gives way to a running version, and refuses to create a database with a short SECRET_KEY."""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as Migrate
from django.db import OperationalError, connections
from django.db.migrations.recorder import MigrationRecorder
from psycopg.errors import DeadlockDetected, LockNotAvailable

from delivery.monitoring.alarms import MIN_SECRET_KEY_LENGTH

# Milliseconds that a migration waits for a lock, while everything else waits behind it. Less than PostgreSQL's
# deadlock_timeout of a second, so that a deadlock ends the migration and no request.
LOCK_TIMEOUT = 500
# Seconds between two attempts, and in all.
PAUSE, PATIENCE = 1.0, 300.0


class Command(Migrate):
    """Django's command: each migration that finds a table in use is undone and tried again."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate; refuse a new installation whose SECRET_KEY is short.

        Raises CommandError if a table was in use for five minutes. The migrations before that one stay applied.
        """
        self.connection = connection = connections[options["database"]]
        is_new = not MigrationRecorder(connection).applied_migrations()
        if is_new and len(settings.SECRET_KEY) < MIN_SECRET_KEY_LENGTH:
            raise CommandError(
                f"SECRET_KEY must have at least {MIN_SECRET_KEY_LENGTH} characters. Create one with: "
                'python -c "import secrets; print(secrets.token_urlsafe(50))"'
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                super().handle(*args, **options)
            except OperationalError as error:
                if not isinstance(error.__cause__, DeadlockDetected | LockNotAvailable):
                    raise
                if time.monotonic() > deadline:
                    raise CommandError(
                        "A table that a migration changes was in use for five minutes. Look in pg_stat_activity for a"
                        f" transaction that does not end, and run migrate again. PostgreSQL says: {error}"
                    ) from error
                self.stderr.write(f"A table is in use; trying again. PostgreSQL says: {error}")
                time.sleep(PAUSE)
            else:
                return

    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:  # noqa: FBT001, FBT002
        """Limit the time of each lock in a migration, unless it creates indexes concurrently: only that waits."""
        if action in {"apply_start", "apply_success"}:
            waits_alone = action == "apply_success" or not migration.atomic
            with self.connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('lock_timeout', %s, false)", ["0" if waits_alone else f"{LOCK_TIMEOUT}ms"]
                )
        super().migration_progress_callback(action, migration, fake)
