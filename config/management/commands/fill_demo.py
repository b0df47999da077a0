"""`manage.py fill_demo`: create the sample data of `make demo`."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from audiences.models import Customer
from config.demo import company, database, messages, staff, talks
from delivery import tasks


class Command(BaseCommand):
    """Fill the empty embedded database, leave one that is filled as it is, and refuse any other database."""

    help = "Fill the empty embedded database with the sample data of the demo."

    def handle(self, *_args: Any, **_options: Any) -> None:
        now = timezone.now()
        token = settings.DATA_DIR / "demo_token"
        try:
            database.check(token=token)
        except database.NotTheDemos as refused:
            raise CommandError(str(refused)) from refused
        with transaction.atomic():
            database.mark()
            team = staff.ensure_team()
            if not Customer.objects.exists():
                company.fill_company(at=now)
                messages.fill_messages(team, at=now)
                talks.fill_conversations(team, at=now)
        # The sweep would do this within a minute; the user of the demo looks sooner.
        tasks.enqueue_dispatch()
        staff.ensure_token(token)
