"""Models: workspace, customers, companies, events, tags, consent, audiences, imports, bulk jobs and webhook outbox."""

from audiences.models.audience import Audience, RewrittenRules, SegmentSize
from audiences.models.catalogue import CustomAttribute, KindChange, RefusedName
from audiences.models.companies import Company, Membership
from audiences.models.consent import ConfirmationMail, MessageTopic, OptOutSource, TopicOptOut
from audiences.models.customers import Customer, Device, Note
from audiences.models.events import Event, EventName, EventSummary
from audiences.models.idempotency import IdempotencyKey
from audiences.models.imports import (
    Import,
    ImportChunk,
    ImportCreation,
    ImportKind,
    ImportLine,
    ImportPreview,
    ImportProblem,
    ImportState,
)
from audiences.models.jobs import Job, JobItem, JobTask
from audiences.models.subscriptions import Notification, NotificationState, Subscription, Topic
from audiences.models.suppression import Suppression, SuppressionReason, SuppressionSource
from audiences.models.tags import CompanyTag, CustomerTag, Tag
from audiences.models.workspace import Integration, Workspace

__all__ = [
    "Audience",
    "Company",
    "CompanyTag",
    "ConfirmationMail",
    "CustomAttribute",
    "Customer",
    "CustomerTag",
    "Device",
    "Event",
    "EventName",
    "EventSummary",
    "IdempotencyKey",
    "Import",
    "ImportChunk",
    "ImportCreation",
    "ImportKind",
    "ImportLine",
    "ImportPreview",
    "ImportProblem",
    "ImportState",
    "Integration",
    "Job",
    "JobItem",
    "JobTask",
    "KindChange",
    "Membership",
    "MessageTopic",
    "Note",
    "Notification",
    "NotificationState",
    "OptOutSource",
    "RefusedName",
    "RewrittenRules",
    "SegmentSize",
    "Subscription",
    "Suppression",
    "SuppressionReason",
    "SuppressionSource",
    "Tag",
    "Topic",
    "TopicOptOut",
    "Workspace",
]
