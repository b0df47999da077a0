"""The channels there are: a new one is an enum line, a module here and a line below."""

from collections.abc import Callable

from delivery.channels.base import Channel, ChannelDown, Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.channels.email import Email
from delivery.channels.push import Push
from messaging.models import Channel as Name

# In-app is missing on purpose: a visit shows the message in the transaction that marks it sent (channels/in_app).
CHANNELS: dict[Name, Callable[[], Channel]] = {
    Name.EMAIL: Email,
    Name.PUSH: Push,
}

__all__ = ["CHANNELS", "Channel", "ChannelDown", "Envelope", "NoSuchMailbox", "Rejected", "Unavailable"]
