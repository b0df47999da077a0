"""Check what the domains of senders publish for email."""

import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from delivery.monitoring import domain_checks
from messaging.models import SendingDomain
from messaging.models.sending_domain import Verdict, is_reserved


class Command(BaseCommand):
    """Check what the domains of senders publish for email, and print what to publish."""

    help = "Check SPF, DKIM, DMARC, MX, reverse DNS and TLS of the senders' domains, and print what to publish."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("domain", nargs="*", help="domains to check; by default those of all senders")
        parser.add_argument("--selector", help="the DKIM selector of the domain, which is stored")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Check the domains; exit with 1 if mailbox providers reject one."""
        names = [name.lower().rstrip(".") for name in options["domain"]]
        if options["selector"] is not None:
            if len(names) != 1:
                raise CommandError("Name the one domain to which the selector belongs.")
            self.check_values(names[0], options["selector"])
            SendingDomain.objects.update_or_create(name=names[0], defaults={"dkim_selector": options["selector"]})
        names = names or domain_checks.sender_domains()
        if not names:
            self.stdout.write("No sender has a domain that can be checked.")
        for name in names:
            self.check_values(name)
        rejected = [self.report(name) for name in names]
        if any(rejected):
            sys.exit(1)

    def check_values(self, name: str, selector: str = "") -> None:
        """Raise CommandError if one cannot be stored."""
        try:
            SendingDomain(name=name, dkim_selector=selector).clean_fields()
        except ValidationError as wrong:
            raise CommandError(" ".join(wrong.messages)) from wrong

    def report(self, name: str) -> bool:
        """Check a domain and print the findings. Return whether providers reject it."""
        if is_reserved(name):
            self.stdout.write(f"{name} is reserved for documentation and tests, so it is not checked.")
            return False
        if not domain_checks.check_domain(name, at=timezone.now()):
            self.stdout.write(f"{name} is being checked by another process.")
            return False
        domain = SendingDomain.objects.get(pk=name)
        self.stdout.write(name)
        for finding in domain.findings:
            self.stdout.write(f"  {finding['check']}: {Verdict(finding['verdict']).label}. {finding['text']}")
            for record in finding["publish"]:
                self.stdout.write(f"    Publish: {' '.join(record)}")
        return domain.is_rejected
