"""Bulk jobs: accepted at once, processed by a worker (wire 5.11)."""

from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.openapi import PAGE
from audiences.api.base.paging import page_rows
from audiences.api.base.versions import refuse_our_id
from audiences.api.payloads import APP_ID, Json, unix
from audiences.intake import Unknown
from audiences.intake.attributes.fields import read_entries, read_mapping, read_text
from audiences.models import Job, JobItem, JobTask
from delivery import tasks


class Bulk(Endpoint):
    """/bulk/users and /bulk/events."""

    data_type = ""

    def post(self, request: Request) -> Response:
        """Add the items to a new job, or to the open job that `job` names."""
        sent = body(request)
        to = read_mapping(sent.get("job"), "job").get("id")
        items = read_entries(sent.get("items"), "items")
        self.check_items(items)
        with transaction.atomic():
            job = intake.submit_job(items, data_type=self.data_type, to=to, at=timezone.now())
            transaction.on_commit(tasks.enqueue_bulk_jobs)
        return Response(job_payload(job))

    def check_items(self, items: list[dict[str, Any]]) -> None:
        """Raise Refused for the whole request if one item would be misunderstood."""


class BulkUsers(Bulk):
    """/bulk/users."""

    data_type = "user"

    def check_items(self, items: list[dict[str, Any]]) -> None:
        """Refuse `id` as an identity key: it is read only when a user is deleted."""
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
        """List jobs, newest first."""
        found, pages, total = page_rows(request, Job.objects.prefetch_related("tasks").order_by("-pk"))
        return Response(
            {"type": "job.list", "pages": pages, "total_count": total, "jobs": list(map(job_payload, found))}
        )


class OneJob(Endpoint):
    """/jobs/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Return a job with its progress."""
        return Response(job_payload(job_of(pk)))


class JobErrors(Endpoint):
    """/jobs/{id}/error."""

    parameters = {"get": PAGE}

    def get(self, request: Request, pk: str) -> Response:
        """List the items of a job that failed, with their errors."""
        rows = JobItem.objects.filter(Q(task__job=job_of(pk)), ~Q(error_code="")).order_by("pk")
        found, pages, total = page_rows(request, rows)
        items = list(map(item_payload, found))
        return Response({"type": "job_item.list", "pages": pages, "total_count": total, "items": items})


def job_of(named: Any) -> Job:
    """Return the job with this id, or raise Unknown (404)."""
    key = read_text(named, "id")
    found = Job.objects.prefetch_related("tasks").filter(key=key).first()
    if found is None:
        raise Unknown(f"No such id[{key}]", field="id")
    return found


def job_payload(job: Job) -> Json:
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
        "tasks": list(map(task_payload, parts)),
    }


def task_payload(task: JobTask) -> Json:
    state = "completed" if task.completed_at else "running" if task.started_at else "pending"
    return {
        "id": str(task.pk),
        "item_count": task.item_count,
        "state": state,
        "created_at": unix(task.created_at),
        "started_at": unix(task.started_at),
        "completed_at": unix(task.completed_at),
    }


def item_payload(failed: JobItem) -> Json:
    return {
        "type": "job_item",
        "id": str(failed.pk),
        "method": failed.method,
        "data_type": failed.data_type,
        "data": failed.data,
        "error": {"code": failed.error_code, "message": failed.error},
    }
