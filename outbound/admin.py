"""Which pages there are: each table of the console, and who draws it."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import admin as registered_by_django  # noqa: F401 - first, so that it is not registered after
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin

from audiences.models import (
    Audience,
    Company,
    CustomAttribute,
    Customer,
    EventName,
    Integration,
    Subscription,
    Tag,
    Workspace,
)
from delivery.models import Conversation, DeliveryRecord, Pace
from messaging.models import Message, Sender
from outbound import (
    answering,
    attributes,
    event_names,
    history,
    integration,
    messages,
    pace,
    passwords,
    people,
    reports,
    segments,
    staff,
    subscriptions,
    workspace,
)

PAGES: dict[type[Model], type[ModelAdmin]] = {
    Message: messages.MessageAdmin,
    Conversation: answering.ConversationAdmin,
    DeliveryRecord: reports.DeliveryRecordAdmin,
    Customer: people.CustomerAdmin,
    Company: people.CompanyAdmin,
    Audience: segments.SegmentAdmin,
    Tag: workspace.TagAdmin,
    CustomAttribute: attributes.CustomAttributeAdmin,
    EventName: event_names.EventNameAdmin,
    Sender: workspace.SenderAdmin,
    Integration: integration.IntegrationAdmin,
    Subscription: subscriptions.SubscriptionAdmin,
    Workspace: workspace.WorkspaceAdmin,
    Pace: pace.PaceAdmin,
    User: staff.StaffAdmin,
    Group: staff.RoleAdmin,
    LogEntry: history.LogAdmin,
    PeriodicTask: workspace.ScheduleAdmin,
    IntervalSchedule: workspace.PlainAdmin,
    CrontabSchedule: workspace.PlainAdmin,
    SolarSchedule: workspace.PlainAdmin,
    ClockedSchedule: workspace.PlainAdmin,
}

for model, pages in PAGES.items():
    # What a library registered for itself does not look like the rest.
    if admin.site.is_registered(model):
        admin.site.unregister(model)
    admin.site.register(model, pages)

admin.site.index_title = "Home"
admin.site.login_form = passwords.LoginForm
admin.site.extra_urls = passwords.addresses  # type: ignore[attr-defined]
