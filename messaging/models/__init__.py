"""What is sent: messages, their versions and their senders."""

from messaging.models.message import (
    NEXT,
    RUNNING,
    Channel,
    Format,
    Locked,
    Message,
    NotReady,
    SendType,
    State,
    Style,
    WindowZone,
    WrongState,
)
from messaging.models.sender import Sender
from messaging.models.version import MessageVersion

__all__ = [
    "NEXT",
    "RUNNING",
    "Channel",
    "Format",
    "Locked",
    "Message",
    "MessageVersion",
    "NotReady",
    "SendType",
    "Sender",
    "State",
    "Style",
    "WindowZone",
    "WrongState",
]
