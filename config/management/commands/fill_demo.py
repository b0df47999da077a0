"""`manage.py fill_demo`: what `make demo` fills the database with, once."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from audiences.models import Customer
from config.demo import company, database, messages, staff, talks
from delivery import tasks


class Command(BaseCommand):
    """Fill the empty embedded database with the demo's company; go on with what is there; refuse any other database."""

    help = "Fill the empty embedded database with a company to try Outbound on."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Fill it, all or nothing, or go on with what is there."""
        now = timezone.now()
        token = settings.DATA_DIR / "demo_token"
        try:
            database.check(token=token)
        except database.NotTheDemos as refused:
            raise CommandError(str(refused)) from refused
        with transaction.atomic():
            database.mark()
            team = staff.have_team()
            if not Customer.objects.exists():
                company.fill_company(at=now)
                messages.fill_messages(team, at=now)
                talks.fill_conversations(team, at=now)
        # The sweep would do it within a minute; whoever tries the demo looks sooner.
        tasks.enqueue_dispatch()
        staff.have_token(token)
