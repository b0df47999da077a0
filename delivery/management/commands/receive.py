"""Receive one email from a pipe or an IMAP fetch."""

import logging
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from delivery.inbound import router
from delivery.inbound.message import InboundEmail, NotAnEmail
from delivery.inbound.router import Outcome

log = logging.getLogger(__name__)

EMAIL_MAX_BYTES = 50 * 2**20
# Codes of sysexits.h: at 75 a mail server keeps the email in its queue, at any other it bounces.
NO_MAIL, NO_SUCH_RECIPIENT, TRY_LATER = os.EX_DATAERR, os.EX_NOUSER, os.EX_TEMPFAIL
EXIT = {Outcome.UNADDRESSED: NO_SUCH_RECIPIENT}
OUTCOME_TEXTS = {
    Outcome.REPLY: "Reply added to its conversation.",
    Outcome.DUPLICATE: "Already received: nothing to do.",
    Outcome.NOTICE: "Delivery report recorded.",
    Outcome.FOREIGN: "Delivery report about an email that is not ours: nothing to do.",
    Outcome.UNPROVEN: "Delivery report not sent to a bounce address: ignored.",
    Outcome.AUTO_REPLY: "Automatic reply: nothing to do.",
    Outcome.UNADDRESSED: "None of its recipients is one of our addresses.",
}


class Command(BaseCommand):
    """Receive one email from standard input: a reply, a bounce, or a complaint."""

    help = "Receive one email from standard input: a reply, a bounce, or a complaint."
    # Without a database the email is retried later, and system checks would need one.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--recipient", default="", help="the envelope's recipient: Postfix's ${original_recipient}")
        parser.add_argument("--sender", default=None, help="the envelope's sender, empty for bounces: ${sender}")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Receive it, and exit with the mail server's status code."""
        content = sys.stdin.buffer.read(EMAIL_MAX_BYTES + 1)
        try:
            if len(content) > EMAIL_MAX_BYTES:
                raise NotAnEmail(f"Emails must not exceed {EMAIL_MAX_BYTES // 2**20} MB.")  # noqa: TRY301 - handled as errors of parsing
            email = InboundEmail.parse(
                content, recipient=options["recipient"].lower(), envelope_sender=options["sender"]
            )
            outcome = router.receive(email, at=timezone.now())
        except NotAnEmail as wrong:
            self.stderr.write(f"{wrong}")
            sys.exit(NO_MAIL)
        except (OperationalError, InterfaceError) as away:
            self.stderr.write(f"The database is unavailable; try again later: {away}")
            sys.exit(TRY_LATER)
        except Exception:
            log.exception("an email could not be received; the mail server is to try again later")
            sys.exit(TRY_LATER)
        self.stdout.write(OUTCOME_TEXTS[outcome])
        sys.exit(EXIT.get(outcome, os.EX_OK))
