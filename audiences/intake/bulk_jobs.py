"""Bulk jobs: users or events accepted in one request and processed later, in their order (wire 5.11)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import OperationalError, transaction

from audiences.intake.attributes.fields import (
    UNSTORABLE,
    OnBadValue,
    Refused,
    Warnings,
    quoted_value,
    read_mapping,
    read_moment,
    read_text,
)
from audiences.intake.events import record_event
from audiences.intake.identity_resolution import Conflict, Unknown, find_customer
from audiences.intake.upsert import archive_customer, identify
from audiences.models import Job, JobItem, JobTask
from audiences.transactions import retried

log = logging.getLogger(__name__)

MAX_ITEMS = 1000
# The item was processed except for the attributes named in its error.
STORED_IN_PART = "stored_in_part"
CODES: dict[type[Refused], str] = {Conflict: "conflict", Unknown: "not_found", Refused: "parameter_invalid"}


def save_user(data: Mapping[str, Any], *, at: datetime, on_bad_value: OnBadValue) -> None:
    identify(data, at=at, on_bad_value=on_bad_value)


def delete_user(data: Mapping[str, Any], *, at: datetime, on_bad_value: OnBadValue) -> None:
    archive_customer(find_customer(data), at=at)


def save_event(data: Mapping[str, Any], *, at: datetime, on_bad_value: OnBadValue) -> None:
    happened_at = read_moment(data.get("created_at"), "created_at")
    record_event(find_customer(data), data.get("event_name"), happened_at, data.get("metadata"), at=at)


ACTIONS: dict[tuple[str, str], Callable[..., None]] = {
    ("post", "user"): save_user,
    ("delete", "user"): delete_user,
    ("post", "event"): save_event,
}


def submit_job(sent: Sequence[Mapping[str, Any]], *, data_type: str, to: object, at: datetime) -> Job:
    """Add items to the job `to`, or to a new one. Raises Refused, and adds none, if one item is malformed."""
    if not sent:
        raise Refused("items must not be empty.", field="items")
    if len(sent) > MAX_ITEMS:
        raise Refused(f"Send at most {MAX_ITEMS:,} items at once.", field="items")
    items = [read_item(item, data_type=data_type) for item in sent]
    with transaction.atomic():
        job = find_job(to, at=at) if to not in (None, "") else Job.objects.create(created_at=at, updated_at=at)
        task = JobTask.objects.create(job=job, item_count=len(items), created_at=at)
        for item in items:
            item.task = task
        JobItem.objects.bulk_create(items)
        Job.objects.filter(pk=job.pk).update(updated_at=at)
    job.updated_at = at
    return job


def read_item(item: Mapping[str, Any], *, data_type: str) -> JobItem:
    """Return one item as an unsaved row."""
    method = read_text(item.get("method"), "method").lower() or "post"
    kind = read_text(item.get("data_type"), "data_type") or data_type
    if kind != data_type or (method, kind) not in ACTIONS:
        raise Refused(
            f"The method {quoted_value(method)} is not supported here for {quoted_value(kind)}.", field="items"
        )
    return JobItem(method=method, data_type=kind, data=storable_data(read_mapping(item.get("data"), "data")))


def storable_data(value: Any) -> Any:
    """Return the data if PostgreSQL can store it as JSON. Its fields are checked when the item is processed."""
    if isinstance(value, dict):
        return {storable_data(key): storable_data(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [storable_data(inner) for inner in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        raise Refused("items contains a number that is not finite.", field="items")
    if isinstance(value, str) and UNSTORABLE.search(value):
        raise Refused("items contains a character that cannot be stored.", field="items")
    return value


def find_job(key: object, *, at: datetime) -> Job:
    """Return the open job with this key, locked."""
    named = read_text(key, "job")
    job = Job.objects.select_for_update().filter(key=named).first()
    if job is None:
        raise Unknown(f"No such job[{named}]", field="job")
    if at >= job.closing_at:
        raise Refused("This job is closed. Items can no longer be added to it.", field="job")
    return job


def process_jobs(*, clock: Callable[[], datetime], go_on: Callable[[], bool]) -> int:
    """Process waiting items until none is left or `go_on` returns False; return how many."""
    total = 0
    for task in JobTask.objects.filter(completed_at=None).order_by("pk"):
        while go_on() and process_next_item(task, at=clock()):
            total += 1
    return total


@retried
def process_next_item(task: JobTask, *, at: datetime) -> bool:
    """Process the next item of a task and delete it in the same transaction. Return False if none is left."""
    mine = JobTask.objects.select_for_update(skip_locked=True).filter(pk=task.pk, completed_at=None).first()
    if mine is None:
        return False
    if mine.started_at is None:
        JobTask.objects.filter(pk=mine.pk).update(started_at=at)
    item = mine.items.filter(error_code="").order_by("pk").first()
    if item is None:
        JobTask.objects.filter(pk=mine.pk).update(completed_at=at)
        Job.objects.filter(pk=mine.job_id).update(updated_at=at)
        return False
    process_item(item, at=at)
    return True


def process_item(item: JobItem, *, at: datetime) -> None:
    """Process one item and delete it, or keep it with its error if some of it could not be stored."""
    warnings = Warnings()
    try:
        with transaction.atomic():
            ACTIONS[item.method, item.data_type](item.data, at=at, on_bad_value=warnings.note)
    except Refused as wrong:
        code = next(code for kind, code in CODES.items() if isinstance(wrong, kind))
        JobItem.objects.filter(pk=item.pk).update(error_code=code, error=str(wrong))
    except OperationalError:
        raise  # The database failed for now; the next nudge or sweep tries again.
    except Exception:
        # An unexpected error in one item must not block the items after it.
        log.exception("item %s of a bulk job failed", item.pk)
        JobItem.objects.filter(pk=item.pk).update(
            error_code="server_error", error="This item failed because of an internal error."
        )
    else:
        if warnings:
            JobItem.objects.filter(pk=item.pk).update(error_code=STORED_IN_PART, error=" ".join(map(str, warnings)))
        else:
            item.delete()
