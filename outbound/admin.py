"""Which pages there are: each table of the console, and who draws it."""

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin

from audiences.models import Audience, Company, CustomAttribute, Customer, Integration, Tag, Workspace
from delivery.models import DeliveryRecord
from messaging.models import Message, Sender
from outbound import messages, people, reports, segments, workspace

PAGES: dict[type[Model], type[ModelAdmin]] = {
    Message: messages.MessageAdmin,
    DeliveryRecord: reports.DeliveryRecordAdmin,
    Customer: people.CustomerAdmin,
    Company: people.CompanyAdmin,
    Audience: segments.SegmentAdmin,
    Tag: workspace.TagAdmin,
    CustomAttribute: workspace.CustomAttributeAdmin,
    Sender: workspace.SenderAdmin,
    Integration: workspace.IntegrationAdmin,
    Workspace: workspace.WorkspaceAdmin,
    User: workspace.StaffAdmin,
    Group: workspace.RoleAdmin,
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
