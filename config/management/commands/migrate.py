"""`migrate`, which refuses to create a database with a short SECRET_KEY."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as Migrate
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from delivery.monitoring.alarms import MIN_SECRET_KEY_LENGTH


class Command(Migrate):
    """Django's command, with a check before the first migration of a new installation."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate; refuse a new installation whose SECRET_KEY is short."""
        is_new = not MigrationRecorder(connections[options["database"]]).applied_migrations()
        if is_new and len(settings.SECRET_KEY) < MIN_SECRET_KEY_LENGTH:
            raise CommandError(
                f"SECRET_KEY must have at least {MIN_SECRET_KEY_LENGTH} characters. Create one with: "
                'python -c "import secrets; print(secrets.token_urlsafe(50))"'
            )
        super().handle(*args, **options)
