"""Whether everything that must be true of the records is."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from delivery.monitoring import invariants


class Command(BaseCommand):
    """Ask a live database whether its counts add up; each finding a sentence, and an exit code of 1."""

    help = "Check that the counts of a live database add up; changes nothing."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Ask everything, and say what was found."""
        found = 0
        for sentence in invariants.findings(at=timezone.now()):
            self.stdout.write(sentence)
            found += 1
        if found:
            raise CommandError(f"{found:,} things do not add up.")
        self.stdout.write(f"Everything adds up: {len(invariants.QUESTIONS) + 1} questions asked.")
