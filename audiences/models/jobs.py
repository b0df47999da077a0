"""Bulk jobs: users or events accepted in one request and processed later, one by one (wire 5.11)."""

import secrets
from datetime import datetime, timedelta

from django.db import models

OPEN_DURATION = timedelta(seconds=900)


def new_key() -> str:
    """Return a random key for a job."""
    return f"job_{secrets.token_hex(12)}"


class Job(models.Model):
    """A bulk job. Tasks can be added until it closes. It is completed while all its tasks are."""

    key = models.CharField(max_length=40, unique=True, default=new_key, editable=False)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.key

    @property
    def closing_at(self) -> datetime:
        """The time after which tasks can no longer be added."""
        return self.created_at + OPEN_DURATION


class JobTask(models.Model):
    """The items that one request added to a job."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="tasks")
    item_count = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(name="job_task_to_do", fields=("id",), condition=models.Q(completed_at=None))]

    def __str__(self) -> str:
        return f"{self.item_count} items of {self.job}"


class JobItem(models.Model):
    """An item that is waiting or failed, with its error. Processed items are deleted."""

    task = models.ForeignKey(JobTask, on_delete=models.CASCADE, related_name="items")
    method = models.CharField(max_length=6)
    data_type = models.CharField(max_length=5)
    data = models.JSONField(default=dict)
    error_code = models.CharField(max_length=40, blank=True, default="")
    error = models.TextField(blank=True, default="")

    class Meta:
        indexes = [models.Index(name="job_item_in_order", fields=("task", "id"))]

    def __str__(self) -> str:
        return f"{self.method} {self.data_type} of {self.task}"
