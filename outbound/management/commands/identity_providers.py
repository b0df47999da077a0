"""`manage.py identity_providers`: the URLs that the identity providers of the settings need to know."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from outbound.signin.identities import addresses


class Command(BaseCommand):
    """Print the URLs to enter at each identity provider."""

    help = "Print the URLs to enter at the identity providers that the settings name."

    def handle(self, *args: Any, **options: Any) -> None:
        found = addresses()
        for what, path in found:
            self.stdout.write(f"{what}: {settings.PUBLIC_URL}{path}")
        if not found:
            self.stdout.write("No identity provider is set up: docs/sign_in.md.")
