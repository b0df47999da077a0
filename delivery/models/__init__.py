"""How it goes: delivery records, and the conversations that come of them."""

from delivery.models.conversation import Conversation, ConversationPart, PartType
from delivery.models.record import GOT_IT, UNDONE, DeliveryRecord, Reason, Status
from delivery.models.visitor import Visitor

__all__ = [
    "GOT_IT",
    "UNDONE",
    "Conversation",
    "ConversationPart",
    "DeliveryRecord",
    "PartType",
    "Reason",
    "Status",
    "Visitor",
]
