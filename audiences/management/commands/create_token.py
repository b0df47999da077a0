"""`manage.py create_token NAME`: create an API token."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

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

        parser.add_argument(
            "--teammate", help="Login name of the teammate for whom it acts. If not given, the first Admin."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the integration and print its token."""
        teammate = None
        if named := options["teammate"]:
            teammate = get_user_model().objects.filter(username=named, is_staff=True, is_active=True).first()
            if teammate is None:
                raise CommandError(f"--teammate: there is no teammate with the login name “{named}”.")
        _, token = Integration.issue(name=options["name"], rights=options["rights"], teammate=teammate)
        self.stderr.write(f"The token of “{options['name']}”. Store it now: it is not shown again.")
        self.stdout.write(token)
