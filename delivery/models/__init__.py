"""How it goes: delivery records, and the conversations that come of them."""

from delivery.models.conversation import Conversation, ConversationPart, PartType
from delivery.models.record import GOT_IT, UNDONE, DeliveryRecord, Reason, Status

__all__ = ["GOT_IT", "UNDONE", "Conversation", "ConversationPart", "DeliveryRecord", "PartType", "Reason", "Status"]
