"""The command that receives one email from a pipe or an IMAP fetch."""

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

MAX_BYTES = 50 * 2**20
# Exit codes of sysexits.h: a mail server keeps the email in its queue at 75 and bounces it at any other code.
NO_MAIL, NO_SUCH_RECIPIENT, TRY_LATER = os.EX_DATAERR, os.EX_NOUSER, os.EX_TEMPFAIL
EXIT = {Outcome.UNADDRESSED: NO_SUCH_RECIPIENT}
DESCRIPTIONS = {
    Outcome.REPLY: "Reply added to its conversation.",
    Outcome.DUPLICATE: "Ignored: this email was received before.",
    Outcome.NOTICE: "Report about a sent email recorded.",
    Outcome.FOREIGN: "Ignored: a report about an email that Outbound did not send.",
    Outcome.UNPROVEN: "Ignored: a report that did not come to a bounce address.",
    Outcome.AUTO_REPLY: "Ignored: an automatic reply.",
    Outcome.UNADDRESSED: "Rejected: none of the recipients is a reply address of Outbound.",
}


class Command(BaseCommand):
    """Receive one email from standard input: a reply, a bounce or a complaint."""

    help = "Receive one email from standard input: a reply, a bounce or a complaint."
    # System checks query the database; without it, the email must be tried again later.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--recipient", default="", help="the envelope's recipient: Postfix's ${original_recipient}")
        parser.add_argument("--sender", default=None, help="the envelope's sender, empty for bounces: ${sender}")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Receive the email, and exit with the code that tells the mail server what to do."""
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
        try:
            if len(content) > MAX_BYTES:
                raise NotAnEmail(f"An email must be at most {MAX_BYTES // 2**20} MB.")  # noqa: TRY301 - handled as parse errors are
            email = InboundEmail.parse(
                content, recipient=options["recipient"].lower(), envelope_sender=options["sender"]
            )
            outcome = router.receive(email, at=timezone.now())
        except NotAnEmail as wrong:
            self.stderr.write(f"{wrong}")
            sys.exit(NO_MAIL)
        except (OperationalError, InterfaceError) as away:
            self.stderr.write(f"The database is not available; try again later: {away}")
            sys.exit(TRY_LATER)
        except Exception:
            log.exception("an email could not be received; the mail server tries again later")
            sys.exit(TRY_LATER)
        self.stdout.write(DESCRIPTIONS[outcome])
        sys.exit(EXIT.get(outcome, os.EX_OK))
