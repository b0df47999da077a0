"""Run one matching round from the command line."""

from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from delivery.matching import ongoing
from messaging.models import Channel, Message, SendType


def advance_bar(bar: tqdm, before: int, made: int) -> None:
    bar.update(before + made - bar.n)


class Command(BaseCommand):
    """Match every live ongoing email and push once, or the one message given."""

    help = "Match every live ongoing email and push once, or one message by its id."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("message", nargs="?", type=int, help="the id of one message")

    def handle(self, *_args: Any, **options: Any) -> None:
        messages = Message.objects.live().ongoing().exclude(channel=Channel.IN_APP).order_by("pk")
        if options["message"] is not None:
            chosen = Message.objects.filter(pk=options["message"]).first()
            self.check_message(chosen, options["message"])
            messages = messages.filter(pk=options["message"])
        total = 0
        with tqdm(unit=" records", desc="Matching") as bar:
            for message in messages:
                total += ongoing.match(message, at=timezone.now(), progress=partial(advance_bar, bar, bar.n))
        troubled = Message.objects.live().exclude(problem="").values_list("title", "problem")
        for title, problem in troubled:
            self.stderr.write(f"“{title}” was not matched: {problem}")
        self.stdout.write(f"{total:,} records added or requeued, {len(messages)} messages")

    def check_message(self, message: Message | None, number: int) -> None:
        """Raise CommandError if a message cannot be matched by hand."""
        if message is None:
            raise CommandError(f"There is no message {number}.")
        if message.send_type != SendType.ONGOING or message.channel == Channel.IN_APP:
            raise CommandError(f"“{message}” is not an ongoing email or push; only those are matched by rounds.")
        if not Message.objects.live().filter(pk=number).exists():
            raise CommandError(f"“{message}” is not live but {message.get_state_display().lower()}.")
