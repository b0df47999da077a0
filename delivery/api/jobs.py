"""Bulk jobs: taken at once, worked off by a worker (wire 5.11)."""

from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.openapi import PAGE
from audiences.api.base.paging import paged
from audiences.api.base.versions import refuse_our_id
from audiences.api.payloads import APP_ID, Json, unix
from audiences.intake import Unknown
from audiences.intake.attributes.fields import entries, mapping, text
from audiences.models import Job, JobItem, JobTask
from delivery import tasks


class Bulk(Endpoint):
    """/bulk/users and /bulk/events."""

    data_type = ""

    def post(self, request: Request) -> Response:
        """Take items into a new job, or into the open one that `job` names."""
        sent = body(request)
        to = mapping(sent.get("job"), "job").get("id")
        items = entries(sent.get("items"), "items")
        self.check_items(items)
        with transaction.atomic():
            job = intake.submit(items, data_type=self.data_type, to=to, at=timezone.now())
            transaction.on_commit(tasks.enqueue_bulk_jobs)
        return Response(shape(job))

    def check_items(self, items: list[dict[str, Any]]) -> None:
        """Refuse all of them for one that could not be done as it was meant."""


class BulkUsers(Bulk):
    """/bulk/users."""

    data_type = "user"

    def check_items(self, items: list[dict[str, Any]]) -> None:
        """Refuse an identity key that is read when a user is deleted, and not when one is written."""
        for number, sent in enumerate(items):
            if sent.get("method") != "delete" and isinstance(sent.get("data"), dict):
                refuse_our_id(sent["data"], path=f"items[{number}].data.")


class BulkEvents(Bulk):
    """/bulk/events."""

    data_type = "event"


class Jobs(Endpoint):
    """/jobs."""

    parameters = {"get": PAGE}

    def get(self, request: Request) -> Response:
        """List them, the newest first."""
        found, pages, total = paged(request, Job.objects.prefetch_related("tasks").order_by("-pk"))
        return Response({"type": "job.list", "pages": pages, "total_count": total, "jobs": list(map(shape, found))})


class OneJob(Endpoint):
    """/jobs/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """How far it is."""
        return Response(shape(job_of(pk)))


class JobErrors(Endpoint):
    """/jobs/{id}/error."""

    parameters = {"get": PAGE}

    def get(self, request: Request, pk: str) -> Response:
        """List what of it could not be done, with the reasons."""
        rows = JobItem.objects.filter(Q(task__job=job_of(pk)), ~Q(error_code="")).order_by("pk")
        found, pages, total = paged(request, rows)
        items = list(map(item, found))
        return Response({"type": "job_item.list", "pages": pages, "total_count": total, "items": items})


def job_of(named: Any) -> Job:
    """The job of this name, or 404."""
    key = text(named, "id")
    found = Job.objects.prefetch_related("tasks").filter(key=key).first()
    if found is None:
        raise Unknown(f"No such id[{key}]", field="id")
    return found


def shape(job: Job) -> Json:
    """A job with its tasks."""
    parts = sorted(job.tasks.all(), key=lambda task: task.pk)
    ended = [task.completed_at for task in parts if task.completed_at]
    is_done = len(ended) == len(parts)
    return {
        "type": "job",
        "app_id": APP_ID,
        "id": job.key,
        "name": "api_bulk_job",
        "state": "completed" if is_done else "running",
        "created_at": unix(job.created_at),
        "updated_at": unix(job.updated_at),
        "completed_at": unix(max(ended)) if is_done and ended else None,
        "closing_at": unix(job.closing_at),
        "links": {"self": f"../jobs/{job.key}", "error": f"../jobs/{job.key}/error"},
        "tasks": list(map(part, parts)),
    }


def part(task: JobTask) -> Json:
    """What one call added."""
    state = "completed" if task.completed_at else "running" if task.started_at else "pending"
    return {
        "id": str(task.pk),
        "item_count": task.item_count,
        "state": state,
        "created_at": unix(task.created_at),
        "started_at": unix(task.started_at),
        "completed_at": unix(task.completed_at),
    }


def item(failed: JobItem) -> Json:
    """Something that could not be done."""
    return {
        "type": "job_item",
        "id": str(failed.pk),
        "method": failed.method,
        "data_type": failed.data_type,
        "data": failed.data,
        "error": {"code": failed.error_code, "message": failed.error},
    }
