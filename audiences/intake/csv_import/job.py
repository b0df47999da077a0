"""Import job: a worker checks the file, and after a teammate confirms, reads it again and writes it."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from audiences.intake.attributes.coercion import cached_zone
from audiences.intake.attributes.fields import Refused, quoted_value, replace_unstorable
from audiences.intake.csv_import import upsert
from audiences.intake.csv_import.columns import RELATION_TARGETS, check_targets, new_attributes, readers
from audiences.intake.csv_import.source import Record, inspect_header, read_records
from audiences.intake.source import MAX_ATTRIBUTES
from audiences.models import CustomAttribute, Import, ImportKind, ImportProblem, ImportState, Tag
from audiences.models.catalogue import Scope
from audiences.models.imports import UNDER_WAY
from audiences.transactions import retried

# A slice is one transaction, and visits of its customers wait for the commit.
SLICE_SIZE = 5_000
MAX_PROBLEMS = 1_000
MAX_ATTEMPTS = 5
# Abandoned files and error messages contain personal data.
FILE_RETENTION, PROBLEM_RETENTION = timedelta(days=7), timedelta(days=30)
REDACTED = "This text was erased with the customer’s data."
COUNTS = ("made", "changed", "unchanged", "unmatched", "wrong")

Problem = tuple[int, str, str]


def start_import(job: Import, state: ImportState, *, targets: Sequence[str], tag: Tag | None, at: datetime) -> None:
    """Start to check or write a file. Raises Refused if the columns or the state do not allow it."""
    with transaction.atomic():
        job.refresh_from_db(from_queryset=Import.objects.select_for_update())
        allowed = {
            ImportState.CHECKING: (ImportState.UPLOADED, ImportState.CHECKED),
            ImportState.WRITING: (ImportState.CHECKED,),
        }
        if job.state not in allowed[state]:
            raise Refused(f"This import cannot be started now. Its state is “{job.get_state_display()}”.")
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
        job.newcomers.all().delete()


def rewind_import(job: Import) -> None:
    job.position = job.lines = job.records = 0
    targets = job.targets
    inspect_header(job)
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
        if job.state == ImportState.DONE:
            raise Refused("This import is already done.")
        finish_import(job, ImportState.CANCELLED, at=at)


def finish_import(job: Import, state: ImportState, *, at: datetime) -> None:
    """End an import with this state, and delete its file."""
    job.state, job.updated_at = state, at
    job.sample = []
    job.save(update_fields=["state", "updated_at", "sample"])
    job.chunks.all().delete()
    job.newcomers.all().delete()


def delete_old_files(*, at: datetime) -> None:
    """Cancel imports that were abandoned for a week, and delete error messages after a month."""
    left = Import.objects.exclude(state__in=(*UNDER_WAY, ImportState.DONE, ImportState.CANCELLED))
    for key in left.filter(updated_at__lt=at - FILE_RETENTION).values_list("pk", flat=True):
        with transaction.atomic():
            job = left.select_for_update(of=("self",)).filter(pk=key, updated_at__lt=at - FILE_RETENTION).first()
            if job is not None:
                finish_import(job, ImportState.CANCELLED, at=at)
    ended = Import.objects.exclude(state__in=UNDER_WAY).filter(updated_at__lt=at - PROBLEM_RETENTION)
    ImportProblem.objects.filter(of__in=ended).delete()


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
    """Return the problems of an import in the order of the file."""
    return list(job.problems.order_by("line", "pk"))


def continue_import(key: int, *, clock: Callable[[], datetime], until: datetime) -> bool:
    """Process slices until `until`; return whether the import is unfinished.

    Returns False if another worker is processing it.
    """
    tries = 0
    while clock() < until:
        try:
            if not process_slice(key, at=clock()):
                return False
            tries = 0
        except IntegrityError:
            # Another request created one of the customers at the same time; the next attempt finds them.
            tries += 1
            if tries == MAX_ATTEMPTS:
                raise
    return Import.objects.filter(pk=key, state__in=UNDER_WAY).exists()


@retried
def process_slice(key: int, *, at: datetime) -> bool:
    """Read and process the next slice; return whether there may be more."""
    job = Import.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=key, state__in=UNDER_WAY).first()
    if job is None:
        return False
    taken = list(islice(read_records(job), SLICE_SIZE))
    if not taken:
        if job.state == ImportState.WRITING:
            finish_import(job, ImportState.DONE, at=at)
        else:
            job.state, job.updated_at = ImportState.CHECKED, at
            job.save(update_fields=["state", "updated_at"])
            job.newcomers.all().delete()
        return False
    with connection.cursor() as cursor, cached_zone():
        problems = SLICE_PROCESSORS[ImportKind(job.kind)](cursor, job, taken, at)
    store_problems(job, problems)
    job.position, job.lines, job.updated_at = taken[-1].ends, taken[-1].lines, at
    job.records += len(taken)
    job.wrong += len({line for line, _, _ in problems})
    job.save(update_fields=["position", "lines", "records", "updated_at", *COUNTS])
    return True


def store_problems(job: Import, problems: Sequence[Problem]) -> None:
    """Store problems up to the limit; the caller counts the rest."""
    room = MAX_PROBLEMS - job.problems.count() if problems else 0
    if room > 0:
        ImportProblem.objects.bulk_create(
            ImportProblem(of=job, line=line, column=column, reason=reason)
            for line, column, reason in sorted(problems)[:room]
        )


def process_customers(cursor: Any, job: Import, taken: Sequence[Record], at: datetime) -> list[Problem]:
    """Read a slice of customers, and write or check it."""
    width = len(job.columns)
    places = {name: place for place, name in enumerate(upsert.COLUMNS)}
    # An attribute has no column of its own.
    reading = [
        (place, name, None if is_attribute else places[name], read)
        for place, name, is_attribute, read in readers(job.targets)
    ]
    attributes_at = places["attributes"]
    problems: list[Problem] = []
    rows: list[list[Any]] = []
    for record in taken:
        if record.wrong or any(record.cells[width:]):
            problems.append(
                (
                    record.line,
                    "",
                    record.wrong or f"This record has {len(record.cells)} cells, but the file has {width} columns.",
                )
            )
            continue
        row: list[Any] = [None] * len(places)
        row[0] = record.line
        attributes: dict[str, Any] = {}
        cells, known = record.cells, len(problems)
        for place, name, column, read in reading:
            # An empty cell changes nothing.
            if place >= len(cells) or not (cell := cells[place]) or cell.isspace():
                continue
            try:
                if column is None:
                    attributes[name] = read(cell, name)
                else:
                    row[column] = read(cell, name)
            except Refused as wrong:
                problems.append((record.line, job.columns[place], str(wrong)))
        if len(problems) > known:
            continue
        if row[1] is None and row[2] is None and row[3] is None:
            problems.append((record.line, "", "This record has no email, user ID or Outbound ID."))
            continue
        if attributes:
            row[attributes_at] = upsert.as_json(attributes)
        rows.append(row)
    outcome = apply_slice(cursor, job, rows, at)
    job.made += outcome.made
    job.changed += outcome.changed
    job.unchanged += outcome.unchanged
    return problems + outcome.problems


def apply_slice(cursor: Any, job: Import, rows: Sequence[Sequence[Any]], at: datetime) -> upsert.SliceResult:
    with_relations = not RELATION_TARGETS.isdisjoint(job.targets)
    if job.state == ImportState.CHECKING:
        return upsert.dry_run_slice(cursor, rows, job=job.pk, with_relations=with_relations)
    return upsert.upsert_slice(cursor, rows, tag=job.tag_id, at=at, with_relations=with_relations)


def process_unsubscribed(cursor: Any, job: Import, taken: Sequence[Record], at: datetime) -> list[Problem]:
    """Read a slice of addresses for the suppression list, and write or check it."""
    place = list(job.targets).index("email")
    read = readers(["email"])[0][3]
    problems: list[Problem] = []
    addresses: list[str] = []
    for record in taken:
        cell = record.cells[place] if place < len(record.cells) else ""
        try:
            address = None if record.wrong else read(replace_unstorable(cell), "email")
        except Refused as wrong:
            problems.append((record.line, job.columns[place], str(wrong)))
            continue
        if address is None:
            problems.append((record.line, job.columns[place], record.wrong or "This record has no email address."))
        else:
            addresses.append(address)
    dry = job.state == ImportState.CHECKING
    outcome = upsert.suppress_addresses(cursor, addresses, file=job.file_name, by=job.started_by_id, at=at, dry=dry)
    job.changed += outcome.changed
    job.unchanged += outcome.unchanged
    job.unmatched += outcome.unmatched
    return problems


SLICE_PROCESSORS: dict[ImportKind, Callable[[Any, Import, Sequence[Record], datetime], list[Problem]]] = {
    ImportKind.CUSTOMERS: process_customers,
    ImportKind.UNSUBSCRIBED: process_unsubscribed,
}
