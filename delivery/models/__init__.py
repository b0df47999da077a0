"""How it goes: delivery records, and the conversations that come of them."""

from delivery.models.conversation import Conversation, ConversationPart, PartType
from delivery.models.record import DeliveryRecord, Reason, Status

__all__ = ["Conversation", "ConversationPart", "DeliveryRecord", "PartType", "Reason", "Status"]
