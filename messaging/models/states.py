"""States of a message and the errors of its lifecycle (behaviour 4.9)."""

from django.core.exceptions import ValidationError
from django.db import models


class State(models.TextChoices):
    """States of a message."""

    DRAFT = "draft", "Draft"
    SCHEDULED = "scheduled", "Scheduled"
    LIVE = "live", "Live"
    PAUSED = "paused", "Paused"
    SAMPLED = "sampled", "Sampled"  # Sent to a few; "Send to the rest" is still possible.
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
    """The change is not allowed because the message has been live."""


class WrongState(ValidationError):
    """The transition is not allowed from the message's current state."""


class NotReady(ValidationError):
    """The message cannot go live yet. `messages` lists the reasons, one sentence each; they may be by field."""
