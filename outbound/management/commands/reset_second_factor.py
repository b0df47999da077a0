"""`manage.py reset_second_factor TEAMMATE`: the way back in for a teammate without their second factor."""

from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from outbound.signin import second_factor, sessions
from outbound.signin.accounts import teammates
from outbound.signin.adapter import mail_reset
from outbound.signin.enrolment import LINK_VALID_FOR, enrolment_link


class Command(BaseCommand):
    """Remove the second factors and recovery codes of one teammate."""

    help = "Remove the second factors and recovery codes of a teammate who lost them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("teammate", help="The email address or user name.")

    def handle(self, *args: Any, **options: Any) -> None:
        named = options["teammate"]
        found = list(teammates().filter(Q(email__iexact=named) | Q(username=named), is_staff=True))
        if len(found) != 1:
            problem = "several teammates have" if found else "no teammate has"
            raise CommandError(f"teammate: {problem} the email address or user name “{named}”.")
        user, at = found[0], timezone.now()
        with transaction.atomic():
            removed = second_factor.remove_second_factor(user)
            sessions.end_sessions(user, at=at)
            LogEntry.objects.log_actions(
                user.pk, [user], CHANGE, change_message="Second factor: reset on the server", single_object=True
            )
        self.stdout.write(
            f"Removed {removed} second factor{'' if removed == 1 else 's'} of {user.get_username()}, and ended their"
            " sessions. They now log in without one, and set up a new one at “Sign-in and security”."
        )
        deadline = second_factor.deadline_of(user)
        if deadline is not None and deadline <= at:
            minutes = int(LINK_VALID_FOR.total_seconds() // 60)
            self.stdout.write(
                "Their role needs one: after the login they ask for an emailed link. If email does not work, give them"
                f" this link, which is valid for {minutes} minutes: {enrolment_link(user)}"
            )
        mail_reset(user)
