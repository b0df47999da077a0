"""What a channel is given and how it answers (behaviour 5, "A channel")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, runtime_checkable


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
    # Where a push leads, "": to the app; and what the app reports it as opened by.
    link: str = ""
    token: str = ""


class Rejected(Exception):
    """It will not be taken, now or later; the text says why in the provider's words."""


class NoSuchMailbox(Rejected):
    """It was refused because nobody gets mail there: a hard bounce."""


class NoSuchDevice(Rejected):
    """Nothing reaches this device any more."""


class Unavailable(Exception):
    """It was surely not taken, and may be later; the text says why, `after` how long to wait at least."""

    def __init__(self, words: str = "", *, after: timedelta = timedelta(0)) -> None:
        super().__init__(words)
        self.after = after


class NoReachableDevice(Unavailable):
    """Nothing reaches any of its addresses any more, so whom it is for has to be judged again."""


class ChannelDown(Unavailable):
    """Nothing can be handed over at all right now: the fault is not this copy's."""


class SenderRefused(Unavailable):
    """Nothing from this sender is taken right now, so every copy of its message would hear the same."""


class Channel(Protocol):
    """Hands copies over. Returning means handed over; any other exception means that nobody can know."""

    def send(self, envelope: Envelope) -> str:
        """Hand one copy over and return the provider's id for it, "" where there is none."""

    def close(self) -> None:
        """Let go of what was kept open between copies."""


# The answer for one copy: the provider's id, or the exception.
Answer = str | BaseException
# The answers for one copy, by address.
Answers = Mapping[str, Answer]


@runtime_checkable
class BatchChannel(Channel, Protocol):
    """A channel that takes several copies at once, each for several addresses."""

    def send_all(self, envelopes: Sequence[Envelope]) -> list[Answers]:
        """Hand them over; whatever happens is in the answers, by address, a list as long as what was given."""
