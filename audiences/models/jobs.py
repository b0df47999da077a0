"""Bulk jobs: many users or events taken at once and written down later, one by one (wire 5.11)."""

import secrets
from datetime import datetime, timedelta

from django.db import models

OPEN_FOR = timedelta(seconds=900)


def new_key() -> str:
    """Return the name a job goes by."""
    return f"job_{secrets.token_hex(12)}"


class Job(models.Model):
    """A job; more can be added to it until it closes. It is completed while none of its tasks is left to do."""

    key = models.CharField(max_length=40, unique=True, default=new_key, editable=False)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.key

    @property
    def closing_at(self) -> datetime:
        """When nothing more can be added to it."""
        return self.created_at + OPEN_FOR


class JobTask(models.Model):
    """What one call added to a job."""

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
    """One thing still to do, or one that could not be done, with the reason; what was done is no longer here."""

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
