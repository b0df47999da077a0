"""What a channel is given and how it answers (DESIGN 5, "A channel")."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One copy, finished: a channel never sees a record, a queryset or a template."""

    to: tuple[str, ...]
    subject: str
    html: str
    text: str
    sender: str
    reply_to: str
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    # Where a mail server sends what bounces; "": to the sender's own address.
    return_path: str = ""


class Rejected(Exception):
    """It will not be taken, now or later; the text says why in the provider's words."""


class NoSuchMailbox(Rejected):
    """It was refused because nobody gets mail there: a hard bounce."""


class Unavailable(Exception):
    """It was surely not taken, and may be later; the text says why."""


class ChannelDown(Unavailable):
    """Nothing can be handed over at all right now: the fault is not this copy's."""


class Channel(Protocol):
    """Hands copies over. Returning means handed over; any other exception means that nobody can know."""

    def send(self, envelope: Envelope) -> str:
        """Hand one copy over and return the provider's id for it, "" where there is none."""

    def close(self) -> None:
        """Let go of what was kept open between copies."""
