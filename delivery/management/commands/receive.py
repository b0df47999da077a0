"""One mail, from a pipe or an IMAP fetch."""

import logging
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from delivery.inbound import router
from delivery.inbound.message import InboundEmail, NotAMail
from delivery.inbound.router import Outcome

log = logging.getLogger(__name__)

EMAIL_MAX_BYTES = 50 * 2**20
# As sysexits.h has them, and mail servers read them: at 75 a mail stays in the queue, at any other it bounces.
NO_MAIL, NO_SUCH_RECIPIENT, TRY_LATER = os.EX_DATAERR, os.EX_NOUSER, os.EX_TEMPFAIL
EXIT = {Outcome.NOBODYS: NO_SUCH_RECIPIENT}
OUTCOME_TEXTS = {
    Outcome.REPLY: "A reply, added to its conversation.",
    Outcome.AGAIN: "It came before: nothing to do.",
    Outcome.NOTICE: "Written down what became of a mail.",
    Outcome.FOREIGN: "A notice, of no mail of ours: nothing to do.",
    Outcome.UNPROVEN: "A notice, not at a bounce address: not counted.",
    Outcome.BY_NOBODY: "Written by a program: nothing to do.",
    Outcome.NOBODYS: "No address of ours is among its recipients.",
}


class Command(BaseCommand):
    """Take in one mail from standard input: a reply, a bounce, or a complaint."""

    help = "Take in one mail from standard input: a reply, a bounce, or a complaint."
    # A database that is away is for a later try, and checks would ask it.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the envelope, where the mail server tells it."""
        parser.add_argument("--recipient", default="", help="the envelope's recipient: Postfix's ${original_recipient}")
        parser.add_argument("--sender", default=None, help="the envelope's sender, empty for bounces: ${sender}")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Take it in, and end with what the mail server is to do with it."""
        content = sys.stdin.buffer.read(EMAIL_MAX_BYTES + 1)
        try:
            if len(content) > EMAIL_MAX_BYTES:
                raise NotAMail(f"A mail holds at most {EMAIL_MAX_BYTES // 2**20} MB.")  # noqa: TRY301 - as what is read
            letter = InboundEmail.read(
                content, recipient=options["recipient"].lower(), envelope_sender=options["sender"]
            )
            outcome = router.receive(letter, at=timezone.now())
        except NotAMail as wrong:
            self.stderr.write(f"{wrong}")
            sys.exit(NO_MAIL)
        except (OperationalError, InterfaceError) as away:
            self.stderr.write(f"The database is away; the mail is for a later try: {away}")
            sys.exit(TRY_LATER)
        except Exception:
            log.exception("a mail could not be taken in; it is for a later try")
            sys.exit(TRY_LATER)
        self.stdout.write(OUTCOME_TEXTS[outcome])
        sys.exit(EXIT.get(outcome, os.EX_OK))
