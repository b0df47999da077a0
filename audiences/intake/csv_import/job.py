"""Import job: its states, and the steps that a teammate takes. `slices` processes the file."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from audiences.intake.attributes.fields import Refused, quoted_value
from audiences.intake.csv_import.columns import check_targets, new_attributes
from audiences.intake.csv_import.dates import DateFormat
from audiences.intake.csv_import.source import ENCODINGS, inspect_header
from audiences.intake.source import MAX_ATTRIBUTES
from audiences.models import (
    CustomAttribute,
    Import,
    ImportCreation,
    ImportKind,
    ImportLine,
    ImportProblem,
    ImportState,
    Tag,
)
from audiences.models.catalogue import Scope
from audiences.models.imports import ENDED, UNDER_WAY, ProblemKind

# Abandoned files and error messages contain personal data.
FILE_RETENTION, PROBLEM_RETENTION = timedelta(days=7), timedelta(days=30)
REDACTED = "This text was erased with the customer’s data."
COUNTS = ("made", "changed", "unchanged", "unmatched", "wrong", "repeated", "repeated_changes")


def start_import(
    job: Import,
    state: ImportState,
    *,
    targets: Sequence[str],
    tag: Tag | None,
    at: datetime,
    date_formats: Sequence[str] = (),
) -> None:
    """Start to check or write a file. Raises Refused if the columns or the state do not allow it.

    `date_formats` has the format of each column; if it is empty, the guessed ones or those of the check stay.
    """
    with transaction.atomic():
        job.refresh_from_db(from_queryset=Import.objects.select_for_update())
        allowed = {
            ImportState.CHECKING: (ImportState.UPLOADED, ImportState.CHECKED),
            ImportState.WRITING: (ImportState.CHECKED,),
        }
        require_state(job, allowed[state])
        if date_formats:
            job.date_formats = checked_formats(date_formats, columns=job.columns)
        if job.kind == ImportKind.UNSUBSCRIBED:
            if list(targets).count("email") != 1:
                raise Refused("Choose one column for the email addresses.")
        else:
            check_targets(targets, job.columns)
        rewind_import(job)
        job.targets, job.tag, job.state, job.updated_at = list(targets), tag, state, at
        if state == ImportState.WRITING:
            declare_attributes(job.targets, at=at)
        job.save()
        job.problems.all().delete()
        job.previews.all().delete()


def require_state(job: Import, allowed: Sequence[ImportState]) -> None:
    """Raise Refused if the state of an import is none of these."""
    if job.state not in allowed:
        raise Refused(f"This import cannot be started now. Its state is “{job.get_state_display()}”.")


def checked_formats(given: Sequence[str], *, columns: Sequence[str]) -> list[str]:
    """Return the date formats of the columns. Raises Refused if one is unknown or missing."""
    if len(given) != len(columns):
        raise Refused("Choose a date format for each column.")
    for column, name in zip(columns, given, strict=True):
        if name not in DateFormat.values:
            raise Refused(
                f"{quoted_value(name)} is not a date format. Choose one for the column {quoted_value(column)}."
            )
    return list(given)


def change_encoding(job: Import, encoding: str, *, at: datetime) -> None:
    """Read the file again in another encoding. Raises Refused if the encoding or the state does not allow it."""
    with transaction.atomic():
        job.refresh_from_db(from_queryset=Import.objects.select_for_update())
        require_state(job, (ImportState.UPLOADED, ImportState.CHECKED))
        if job.encoding not in ENCODINGS:
            raise Refused("This file is in UTF-16. Its encoding cannot be changed.")
        if encoding not in ENCODINGS:
            raise Refused(f"{quoted_value(encoding)} is not an encoding that can be read.")
        job.encoding, job.columns = encoding, []
        rewind_import(job)
        job.state, job.updated_at, job.column_facts, job.undecodable = ImportState.READING, at, [], 0
        job.save()
        job.problems.all().delete()


def start_undo(job: Import, *, at: datetime) -> None:
    """Start to undo an import. Raises Refused if its state does not allow it, or its lines are no longer kept."""
    with transaction.atomic():
        job.refresh_from_db(from_queryset=Import.objects.select_for_update())
        if not can_undo(job):
            raise Refused("This import cannot be undone. Its lines are kept for a month.")
        last = job.effects.order_by("line").values_list("line", flat=True).last() or 0
        job.state, job.updated_at, job.position, job.undone, job.kept = ImportState.UNDOING, at, last + 1, 0, 0
        job.save(update_fields=["state", "updated_at", "position", "undone", "kept"])


def can_undo(job: Import) -> bool:
    return job.state in (ImportState.DONE, ImportState.CANCELLED) and (job.creations.exists() or job.effects.exists())


def rewind_import(job: Import) -> None:
    """Move back to the first record. The chosen targets stay, unless the columns are others now."""
    job.position = job.lines = job.records = 0
    columns, targets = job.columns, job.targets
    inspect_header(job)
    if job.columns == columns:
        job.targets = targets
    for name in COUNTS:
        setattr(job, name, 0)


def declare_attributes(targets: Sequence[str], *, at: datetime) -> None:
    """Add the new attributes among the targets to the catalogue."""
    new = new_attributes(targets)
    if CustomAttribute.objects.offered().filter(scope=Scope.CUSTOMER).count() + len(new) > MAX_ATTRIBUTES:
        raise Refused(f"There can be at most {MAX_ATTRIBUTES} custom attributes. Leave out some columns.")
    CustomAttribute.objects.bulk_create(
        [CustomAttribute(scope=Scope.CUSTOMER, name=name, kind=kind, created_at=at) for kind, name in sorted(new)],
        ignore_conflicts=True,
    )


def cancel_import(job: Import, *, at: datetime) -> None:
    """Cancel an import and delete its file. Slices that were written stay."""
    with transaction.atomic():
        job.refresh_from_db(from_queryset=Import.objects.select_for_update())
        if job.state in (*ENDED, ImportState.UNDOING):
            raise Refused("This import has already ended.")
        finish_import(job, ImportState.CANCELLED, at=at)


def finish_import(job: Import, state: ImportState, *, at: datetime) -> None:
    """End an import with this state, and delete its file."""
    job.state, job.updated_at = state, at
    # The examples are personal data.
    job.column_facts = []
    job.save(update_fields=["state", "updated_at", "column_facts"])
    job.chunks.all().delete()
    job.previews.all().delete()


def delete_old_files(*, at: datetime) -> None:
    """Cancel imports that were abandoned for a week, and delete error messages and effects after a month."""
    left = Import.objects.exclude(state__in=(*UNDER_WAY, *ENDED))
    for key in left.filter(updated_at__lt=at - FILE_RETENTION).values_list("pk", flat=True):
        with transaction.atomic():
            job = left.select_for_update(of=("self",)).filter(pk=key, updated_at__lt=at - FILE_RETENTION).first()
            if job is not None:
                finish_import(job, ImportState.CANCELLED, at=at)
    ended = Import.objects.exclude(state__in=UNDER_WAY).filter(updated_at__lt=at - PROBLEM_RETENTION)
    ImportProblem.objects.filter(of__in=ended).delete()
    ImportLine.objects.filter(of__in=ended).delete()
    ImportCreation.objects.filter(of__in=ended).delete()


def erase_effects(customer: int) -> None:
    """Delete the values that imports changed of an erased customer. The bare lines remain."""
    ImportLine.objects.filter(customer=customer).update(changes=None, reason="")


def redact_problems(said: Iterable[str]) -> None:
    """Overwrite error messages that quote one of these values of an erased customer."""
    quoted = Q(pk__in=())
    for value in said:
        quoted |= Q(reason__icontains=quoted_value(value))
    ImportProblem.objects.filter(quoted).update(reason=REDACTED)


def active_imports() -> list[int]:
    """Return the keys of the imports that a worker has to continue."""
    return list(Import.objects.filter(state__in=UNDER_WAY).order_by("pk").values_list("pk", flat=True))


def problems_of(job: Import) -> list[ImportProblem]:
    """Return the errors of an import in the order of the file."""
    return list(job.problems.filter(kind=ProblemKind.ERROR).order_by("line", "pk"))


def repeats_of(job: Import) -> list[ImportProblem]:
    """Return the changes that lines about a customer of an earlier line cause, in the order of the file."""
    return list(job.problems.filter(kind=ProblemKind.REPEAT).order_by("line", "pk"))
