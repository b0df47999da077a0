"""The interface of channels: the envelope, and the exceptions for its answers (behaviour 5, "A channel")."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One rendered copy: a channel never sees a record, a queryset or a template."""

    to: tuple[str, ...]
    subject: str
    html: str
    text: str
    sender: str
    reply_to: str
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    # The bounce address; "": the sender's own address.
    return_path: str = ""
    # The link of a push, "": the app; and the token that the app reports when it is opened.
    link: str = ""
    token: str = ""


class Rejected(Exception):
    """The copy will not be accepted, now or later; the text is the provider's reason."""


class NoSuchMailbox(Rejected):
    """The mailbox does not exist: a hard bounce."""


class NoSuchDevice(Rejected):
    """The device can no longer be reached."""


class Unavailable(Exception):
    """The copy was surely not accepted, and may be later; the text says why, `after` is the minimum wait."""

    def __init__(self, words: str = "", *, after: timedelta = timedelta(0)) -> None:
        super().__init__(words)
        self.after = after


class NoReachableDevice(Unavailable):
    """None of its devices can be reached, so the record is evaluated again."""


class ChannelDown(Unavailable):
    """The channel takes nothing right now; the copy is not at fault."""


class ConnectionRefused(ChannelDown):
    """The server takes no further connection, or ends this one; other connections may go on."""


class SenderRefused(Unavailable):
    """The sender is refused right now, so every copy of the message would get the same answer."""


class Channel(Protocol):
    """Sends copies. Returning means sent; any exception other than those above means uncertain."""

    def send(self, envelope: Envelope) -> str:
        """Send one copy and return the provider's id for it, "" if there is none."""

    def close(self) -> None:
        """Close the connections kept open between copies."""


# The answer for one copy: the provider's id, or the exception.
Answer = str | BaseException
# The answers for one copy, by address.
Answers = Mapping[str, Answer]


@runtime_checkable
class NotingChannel(Channel, Protocol):
    """A channel that prepares and connects before it sends, and tells when the first byte is about to leave."""

    def send_noting(self, envelope: Envelope, *, begins: Callable[[], object]) -> str:
        """Send one copy as `send` does, and call `begins` just before it may reach the server."""


@runtime_checkable
class DeviceChannel(Channel, Protocol):
    """A channel whose copies each go to several addresses, with an answer for each address."""

    def send_to_each(self, envelope: Envelope) -> Answers:
        """Send one copy to each of its addresses. Return the answers by address; never raise."""
