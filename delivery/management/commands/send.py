"""Send due records from the command line."""

from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from tqdm import tqdm

from audiences.clock import DatabaseClock
from delivery.maintenance import sweep
from delivery.models import DeliveryRecord
from delivery.sending import dispatcher


def parse_minutes(text: str) -> timedelta:
    """Parse the time limit, at most a day."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0
    if not 0 < minutes <= 24 * 60:
        raise ArgumentTypeError(f"{text} is not a number of minutes between 0 and 1440.")
    return timedelta(minutes=minutes)


class Command(BaseCommand):
    help = "Send due records until none is left."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--minutes", type=parse_minutes, default="60", help="stop after this many minutes (default 60)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        clock = DatabaseClock()
        now = clock()
        sweep.sweep(at=now)
        with tqdm(total=DeliveryRecord.objects.due(now).count(), unit=" records", desc="Sending") as bar:
            total = dispatcher.dispatch(
                clock=clock,
                until=now + options["minutes"],
                progress=lambda n: bar.update(n - bar.n),
            )
        left = DeliveryRecord.objects.due(clock()).count()
        self.stdout.write(f"{total:,} sent or settled, {left:,} still due")
