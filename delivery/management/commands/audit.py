"""Check the invariants of a live database."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from delivery.monitoring import invariants


class Command(BaseCommand):
    """Check the invariants; print each violation as a sentence and exit with 1."""

    help = "Check the invariants of a live database. Changes nothing."

    def handle(self, *_args: Any, **_options: Any) -> None:
        found = 0
        for sentence in invariants.find_violations(at=timezone.now()):
            self.stdout.write(sentence)
            found += 1
        if found:
            raise CommandError(f"{found:,} violations found.")
        self.stdout.write(f"No violations found: {len(invariants.INVARIANTS) + 1} checks.")
