"""Uploads of CSV files whose columns were read."""

import io
from datetime import UTC, datetime

from django.contrib.auth.models import User

from audiences.intake import csv_import
from audiences.models import Import, ImportKind, ImportState

FOREVER = datetime(2999, 1, 1, tzinfo=UTC)


def stored_import(
    data: str | bytes,
    *,
    at: datetime,
    by: User | None = None,
    name: str = "people.csv",
    kind: ImportKind = ImportKind.CUSTOMERS,
) -> Import:
    """Upload a file and read its columns."""
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return run_import(csv_import.store_upload(file, name=name, kind=kind, by=by, at=at), at=at)


def run_import(job: Import, *, at: datetime) -> Import:
    """Run the current step of an import to its end."""
    assert csv_import.continue_import(job.pk, clock=lambda: at, until=FOREVER) is False
    job.refresh_from_db()
    return job


def import_file(data: str | bytes, *, at: datetime, by: User | None = None) -> Import:
    """Upload, check and write a file."""
    job = stored_import(data, at=at, by=by)
    for state in (ImportState.CHECKING, ImportState.WRITING):
        csv_import.start_import(job, state, targets=job.targets, tag=None, at=at)
        run_import(job, at=at)
    return job
