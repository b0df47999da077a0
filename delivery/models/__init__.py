"""Models of delivery: records, conversations, counts, alarms and tracking."""

from delivery.models.alarm import Alarm, ChannelOutage
from delivery.models.alarm import Kind as AlarmKind
from delivery.models.answer import AnswerMail
from delivery.models.connections import ChannelConnections, ConnectionShare
from delivery.models.conversation import Conversation, ConversationPart, PartType
from delivery.models.count import Count, CountChange, Tally
from delivery.models.device_copy import DeviceCopy
from delivery.models.heartbeat import Heartbeat, MachineClock
from delivery.models.hit import Hit, Link, VisitorKind
from delivery.models.launch_progress import LaunchProgress
from delivery.models.match_state import MatchState, MissedMatch
from delivery.models.pace import Pace
from delivery.models.record import GOT_IT, IN_AN_INBOX, UNDONE, DeliveryRecord, Reason, Status, reason_label
from delivery.models.upgrade import Upgrade
from delivery.models.visitor import Refusal, RefusedVisitors, Visitor

__all__ = [
    "GOT_IT",
    "IN_AN_INBOX",
    "UNDONE",
    "Alarm",
    "AlarmKind",
    "AnswerMail",
    "ChannelConnections",
    "ChannelOutage",
    "ConnectionShare",
    "Conversation",
    "ConversationPart",
    "Count",
    "CountChange",
    "DeliveryRecord",
    "DeviceCopy",
    "Heartbeat",
    "Hit",
    "LaunchProgress",
    "Link",
    "MachineClock",
    "MatchState",
    "MissedMatch",
    "Pace",
    "PartType",
    "Reason",
    "Refusal",
    "RefusedVisitors",
    "Status",
    "Tally",
    "Upgrade",
    "Visitor",
    "VisitorKind",
    "reason_label",
]
