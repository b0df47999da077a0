"""Large launches: asked for by a click, carried out by a worker, done whole or not at all.

Freezing a million people takes longer than a request may. The message stays what it was, marked as going live, until
the worker's one transaction is committed; a worker that dies leaves the mark, and the minute sweep begins again.
"""

import logging
from datetime import datetime

from django.db import transaction

from audiences.rules import RuleError
from delivery import locks, matching
from messaging.models import Message, NotReady, State, WrongState

log = logging.getLogger(__name__)

# From so many people on a worker freezes them; below, the request does.
MOST_AT_ONCE = 10_000
MAY_LAUNCH = (State.DRAFT, State.SCHEDULED, State.SAMPLED)
LAUNCH = 7_210_011


def ask_for(message: Message, *, at: datetime, sample: int | None = None) -> None:
    """Have a worker set it live, or send it to the rest; NotReady and WrongState where it cannot go."""
    if problems := message.problems():
        raise NotReady(problems)
    among = Message.objects.filter(pk=message.pk, state__in=MAY_LAUNCH, launching_at=None)
    if not among.update(launching_at=at, launching_sample=sample, trouble=""):
        raise WrongState(f"“{message}” is on its way already.")
    message.launching_at, message.launching_sample = at, sample


def call_off(message: Message) -> None:
    """Take it back while no worker has it in hand; WrongState where it went already."""
    with locks.held(message, LAUNCH, lock="advisory_lock") as free:
        found = Message.objects.filter(pk=message.pk, launching_at__isnull=False)
        if not free or not found.update(launching_at=None, launching_sample=None):
            raise WrongState(f"“{message}” can no longer be called off. Stop it once it is live.")
    message.launching_at = None


def launch(message_id: int, *, at: datetime) -> bool:
    """Do what was asked for; False where another worker has it in hand, or nothing is left to do.

    Where it cannot go after all, it stays what it was, and its trouble says why.
    """
    message = Message.objects.filter(pk=message_id, launching_at__isnull=False).first()
    if message is None:
        return False
    with locks.held(message, LAUNCH, lock="advisory_lock") as mine:
        if not mine or not (there := Message.objects.filter(pk=message_id, launching_at__isnull=False).first()):
            return False
        try:
            with transaction.atomic():
                if there.state == State.SAMPLED:
                    matching.send_to_rest(there, at=at)
                else:
                    matching.launch(there, at=at, sample=there.launching_sample)
                Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None)
        except (NotReady, WrongState, RuleError) as no:
            words = " ".join(getattr(no, "messages", [str(no)]))
            Message.objects.filter(pk=message_id).update(launching_at=None, launching_sample=None, trouble=words)
    return True


def launch_asked_for(*, at: datetime) -> None:
    """Carry out every launch that was asked for and is in nobody's hands; one that goes wrong holds up no other."""
    for pk in Message.objects.filter(launching_at__isnull=False).values_list("pk", flat=True):
        try:
            launch(pk, at=at)
        except Exception:
            log.exception("message %s cannot be launched", pk)
