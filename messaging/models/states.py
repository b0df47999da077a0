"""States of a message and the errors of its lifecycle (behaviour 4.9)."""

from django.core.exceptions import ValidationError
from django.db import models


class State(models.TextChoices):
    """Where a message is in its life."""

    DRAFT = "draft", "Draft"
    SCHEDULED = "scheduled", "Scheduled"
    LIVE = "live", "Live"
    PAUSED = "paused", "Paused"
    SAMPLED = "sampled", "Sampled"  # A few have it; "Send to the rest" is still to come.
    STOPPED = "stopped", "Stopped"
    SENT = "sent", "Sent"


NEXT_STATES: dict[State, tuple[State, ...]] = {
    State.DRAFT: (State.SCHEDULED, State.LIVE, State.SAMPLED),
    State.SCHEDULED: (State.DRAFT, State.LIVE),
    State.LIVE: (State.PAUSED, State.STOPPED, State.SENT),
    State.SAMPLED: (State.LIVE, State.PAUSED, State.STOPPED),
    State.PAUSED: (State.LIVE, State.SAMPLED, State.STOPPED),
    State.STOPPED: (),
    State.SENT: (),
}
NOT_YET_LIVE = (State.DRAFT, State.SCHEDULED)
RUNNING = (State.LIVE, State.SAMPLED)


class Locked(ValidationError):
    """Once live, this can no longer be changed."""


class WrongState(ValidationError):
    """A message in this state cannot do that."""


class NotReady(ValidationError):
    """Something is missing before the message can go live; `messages` says what, a sentence each."""
