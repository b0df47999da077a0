"""The command `check_invariants`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from delivery.monitoring import invariants


class Command(BaseCommand):
    """Print one line for each violated invariant of the database; exit with 1 if there are any."""

    help = "Check the invariants of the database (records, messages, counters). Changes nothing."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Check all invariants at the current time."""
        violations = 0
        for sentence in invariants.find_violations(at=timezone.now()):
            self.stdout.write(sentence)
            violations += 1
        if violations:
            raise CommandError(f"Invariants violated: {violations:,}.")
        self.stdout.write(f"All {len(invariants.INVARIANTS) + 1} invariants hold.")
