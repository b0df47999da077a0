"""Messages, their versions and their senders; autosaves of text that is not saved yet."""

from messaging.models.autosave import Autosave, FormVisit
from messaging.models.choices import Channel, Checking, Format, SendType, Style, WindowZone
from messaging.models.message import Message
from messaging.models.saved_reply import SavedReply
from messaging.models.sender import Sender
from messaging.models.sending_domain import SendingDomain
from messaging.models.states import NEXT_STATES, NOT_YET_LIVE, RUNNING, Locked, NotReady, State, WrongState
from messaging.models.version import MessageVersion

__all__ = [
    "NEXT_STATES",
    "NOT_YET_LIVE",
    "RUNNING",
    "Autosave",
    "Channel",
    "Checking",
    "FormVisit",
    "Format",
    "Locked",
    "Message",
    "MessageVersion",
    "NotReady",
    "SavedReply",
    "SendType",
    "Sender",
    "SendingDomain",
    "State",
    "Style",
    "WindowZone",
    "WrongState",
]
