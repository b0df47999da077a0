"""`manage.py create_token NAME`: create an API token."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from audiences.models import Integration
from audiences.models.workspace import TokenRight


class Command(BaseCommand):
    """Create an integration, and print its token once, alone on standard output."""

    help = "Create an API token for an integration and print it. It is shown only once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="The name of the integration, shown to staff.")
        parser.add_argument(
            "--rights", nargs="+", choices=TokenRight.values, default=TokenRight.values, help="All if not given."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the integration and print its token."""
        _, token = Integration.issue(name=options["name"], rights=options["rights"])
        self.stderr.write(f"The token of “{options['name']}”. Store it now: it is not shown again.")
        self.stdout.write(token)
