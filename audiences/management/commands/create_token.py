"""`manage.py create_token NAME`: make an API token."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from audiences.models import Integration


class Command(BaseCommand):
    """Makes an integration, and prints its token: alone on standard output, and never again."""

    help = "Make an API token for an integration, and print it. It is shown only now."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the name staff will know it by."""
        parser.add_argument("name", help="What staff will know the integration by.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it, print it."""
        _, token = Integration.issue(name=options["name"])
        self.stderr.write(f"The token of “{options['name']}”; keep it, it is shown only now:")
        self.stdout.write(token)
