"""Registration: every table of the console and its admin class."""

from allauth.account import admin as accounts_of_allauth  # noqa: F401 - first, so that it is not registered after
from allauth.mfa import admin as second_factors_of_allauth  # noqa: F401 - as above
from allauth.socialaccount import admin as identities_of_allauth  # noqa: F401 - as above
from allauth.usersessions import admin as sessions_of_allauth  # noqa: F401 - as above
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import admin as registered_by_django  # noqa: F401 - first, so that it is not registered after
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.urls import URLPattern, path
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin

from audiences.models import (
    Audience,
    Company,
    CustomAttribute,
    Customer,
    EventName,
    Integration,
    MessageTopic,
    Subscription,
    Suppression,
    Tag,
    Workspace,
)
from delivery.models import Conversation, DeliveryRecord, Pace
from messaging.models import Message, SavedReply, Sender
from outbound import palette
from outbound.edits import autosave
from outbound.inbox import admin as inbox_admin
from outbound.messages import admin as messages_admin
from outbound.messages import records
from outbound.people import admin as people_admin
from outbound.people import attributes, retirement, segments, suppression
from outbound.workspace import admin as workspace_admin
from outbound.workspace import (
    audit_log,
    integration,
    role_admin,
    saved_replies,
    schedule,
    senders,
    staff,
    tags,
    throttle,
    topics,
    webhooks,
)

PAGES: dict[type[Model], type[ModelAdmin]] = {
    Message: messages_admin.MessageAdmin,
    Conversation: inbox_admin.ConversationAdmin,
    DeliveryRecord: records.DeliveryRecordAdmin,
    Customer: people_admin.CustomerAdmin,
    Company: people_admin.CompanyAdmin,
    Audience: segments.SegmentAdmin,
    Tag: tags.TagAdmin,
    CustomAttribute: attributes.CustomAttributeAdmin,
    EventName: retirement.EventNameAdmin,
    Suppression: suppression.SuppressionAdmin,
    Sender: senders.SenderAdmin,
    MessageTopic: topics.TopicAdmin,
    SavedReply: saved_replies.SavedReplyAdmin,
    Integration: integration.IntegrationAdmin,
    Subscription: webhooks.SubscriptionAdmin,
    Workspace: workspace_admin.WorkspaceAdmin,
    Pace: throttle.PaceAdmin,
    User: staff.StaffAdmin,
    Group: role_admin.RoleAdmin,
    LogEntry: audit_log.LogAdmin,
    PeriodicTask: schedule.ScheduleAdmin,
    IntervalSchedule: workspace_admin.PlainAdmin,
    CrontabSchedule: workspace_admin.PlainAdmin,
    SolarSchedule: workspace_admin.PlainAdmin,
    ClockedSchedule: workspace_admin.PlainAdmin,
}

for model, pages in PAGES.items():
    # A library's own registration would not look like the rest of the console.
    if admin.site.is_registered(model):
        admin.site.unregister(model)
    admin.site.register(model, pages)

# Allauth's tables have pages of their own, or none.
for app in ("account", "mfa", "socialaccount", "usersessions"):
    for model in apps.get_app_config(app).get_models():
        if admin.site.is_registered(model):
            admin.site.unregister(model)

admin.site.index_title = "Home"


def extra_urls() -> list[URLPattern]:
    """Return the addresses of the console that belong to no table."""
    return [
        path("autosave/", admin.site.admin_view(autosave.receive), name="autosave"),
        path("palette/", admin.site.admin_view(palette.palette), name="palette"),
    ]


admin.site.extra_urls = extra_urls  # type: ignore[attr-defined]
