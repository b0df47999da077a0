"""Channels. A new one needs an enum line, a module here and a line below."""

from collections.abc import Callable

from delivery.channels.base import (
    Channel,
    ChannelDown,
    ConnectionRefused,
    DeviceChannel,
    Envelope,
    NoReachableDevice,
    NoSuchMailbox,
    NotingChannel,
    Rejected,
    SenderRefused,
    Unavailable,
)
from delivery.channels.email import Email
from delivery.channels.push import push
from messaging.models import Channel as Name

# In-app is missing on purpose: a visit shows the message and marks it sent in one transaction (channels/in_app).
CHANNELS: dict[Name, Callable[[], Channel]] = {
    Name.EMAIL: Email,
    Name.PUSH: push,
}

__all__ = [
    "CHANNELS",
    "Channel",
    "ChannelDown",
    "ConnectionRefused",
    "DeviceChannel",
    "Envelope",
    "NoReachableDevice",
    "NoSuchMailbox",
    "NotingChannel",
    "Rejected",
    "SenderRefused",
    "Unavailable",
]
