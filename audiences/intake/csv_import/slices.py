"""Slices of an import: a worker reads the file in slices, to inspect its columns, to check and to write it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.db import IntegrityError, connection

from audiences.attributes import CUSTOM
from audiences.intake.attributes import coercion
from audiences.intake.attributes.coercion import cached_zone
from audiences.intake.attributes.fields import MAX_TEXT_LENGTH, Refused, quoted_value, replace_unstorable
from audiences.intake.csv_import import undo, upsert
from audiences.intake.csv_import.column_facts import ColumnFacts, add_rows, guess_formats
from audiences.intake.csv_import.columns import RELATION_TARGETS, TARGETS, field_label, readers
from audiences.intake.csv_import.job import COUNTS, finish_import, rewind_import
from audiences.intake.csv_import.preview import ADDED_COLUMNS, Replaced
from audiences.intake.csv_import.source import Record, read_records
from audiences.models import CustomAttribute, Import, ImportKind, ImportProblem, ImportState
from audiences.models.imports import UNDER_WAY, ProblemKind
from audiences.rules import Kind
from audiences.transactions import retried

# A slice is one transaction, and visits of its customers wait for the commit.
SLICE_SIZE = 5_000
MAX_PROBLEMS = 1_000
MAX_ATTEMPTS = 5

Problem = tuple[int, str, str]


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
    if job.state == ImportState.UNDOING:
        return continue_undo(job, at=at)
    taken = list(islice(read_records(job), SLICE_SIZE))
    if not taken:
        END_PASS[ImportState(job.state)](job, at)
        return False
    if job.state == ImportState.READING:
        read_columns(job, taken)
    else:
        with connection.cursor() as cursor, cached_zone():
            problems = SLICE_PROCESSORS[ImportKind(job.kind)](cursor, job, taken, at)
        store_problems(job, problems)
        job.wrong += len({line for line, _, _ in problems})
    job.position, job.lines, job.updated_at = taken[-1].ends, taken[-1].lines, at
    job.records += len(taken)
    job.save(update_fields=["position", "lines", "records", "updated_at", "column_facts", "undecodable", *COUNTS])
    return True


def continue_undo(job: Import, *, at: datetime) -> bool:
    """Undo the next slice; return whether there may be more."""
    if undo.undo_slice(job, at=at):
        return True
    job.state, job.updated_at = ImportState.UNDONE, at
    job.save(update_fields=["state", "updated_at"])
    return False


def read_columns(job: Import, taken: Sequence[Record]) -> None:
    """Add a slice to the facts about the columns."""
    columns = [ColumnFacts.from_json(stored) for stored in job.column_facts or [{}] * len(job.columns)]
    add_rows(columns, (record.cells for record in taken if not record.wrong))
    job.column_facts = [facts.as_json() for facts in columns]
    job.undecodable += sum(record.is_undecodable for record in taken)


def end_reading(job: Import, at: datetime) -> None:
    """Guess the date format of each column, and move back to the first record."""
    job.date_formats = [guess.date_format for guess in guess_formats(map(ColumnFacts.from_json, job.column_facts))]
    rewind_import(job)
    job.state, job.updated_at = ImportState.UPLOADED, at
    job.save()


def end_checking(job: Import, at: datetime) -> None:
    job.state, job.updated_at = ImportState.CHECKED, at
    job.save(update_fields=["state", "updated_at"])
    job.previews.all().delete()


def end_writing(job: Import, at: datetime) -> None:
    finish_import(job, ImportState.DONE, at=at)


# The end of each pass over the file.
END_PASS: dict[ImportState, Callable[[Import, datetime], None]] = {
    ImportState.READING: end_reading,
    ImportState.CHECKING: end_checking,
    ImportState.WRITING: end_writing,
}


def store_problems(job: Import, problems: Sequence[Problem], *, kind: ProblemKind = ProblemKind.ERROR) -> None:
    """Store notes up to the limit of their kind; the caller counts the rest."""
    room = MAX_PROBLEMS - job.problems.filter(kind=kind).count() if problems else 0
    if room > 0:
        ImportProblem.objects.bulk_create(
            ImportProblem(of=job, kind=kind, line=line, column=column, reason=reason)
            for line, column, reason in sorted(problems)[:room]
        )


def process_customers(cursor: Any, job: Import, taken: Sequence[Record], at: datetime) -> list[Problem]:
    """Read a slice of customers, and write or check it."""
    rows, problems = read_rows(job, taken)
    outcome = apply_slice(cursor, job, rows, at)
    job.made += outcome.made
    job.changed += outcome.changed
    job.unchanged += outcome.unchanged
    job.repeated += outcome.repeated
    job.repeated_changes += outcome.repeated_changes
    store_problems(job, repeat_notes(outcome.replaced), kind=ProblemKind.REPEAT)
    return problems + outcome.problems


def repeat_notes(replaced: Sequence[Replaced]) -> list[Problem]:
    """Return a note for each value that a line changes of a customer of an earlier line."""
    kinds = CustomAttribute.objects.catalogue().customer if replaced else {}
    dates = {f"{CUSTOM}{name}" for name, kind in kinds.items() if kind is Kind.DATE}
    return [
        (line, field_label(name), change_sentence(name, before, after, earlier=earlier, is_date=name in dates))
        for line, earlier, name, before, after in replaced
    ]


def change_sentence(name: str, before: Any, after: Any, *, earlier: int, is_date: bool) -> str:
    if name in TARGETS and TARGETS[name].is_date:
        before, after = (value and datetime.fromisoformat(value) for value in (before, after))
    elif is_date:
        before, after = (value and datetime.fromtimestamp(value, tz=UTC) for value in (before, after))
    old, new = shown_value(before), shown_value(after)
    if name in ADDED_COLUMNS:
        return f"{new} is added to the customer of line {earlier:,}."
    if before in (None, ""):
        return f"The customer of line {earlier:,} gets {new}."
    return f"{old} from line {earlier:,} or before becomes {new}."


def shown_value(value: object) -> str:
    """Return a value for a sentence, with a moment in the workspace's zone."""
    if isinstance(value, datetime):
        value = f"{value.astimezone(coercion.workspace_zone()):%Y-%m-%d %H:%M}"
    return quoted_value(", ".join(map(str, value)) if isinstance(value, list) else value)


def read_rows(job: Import, taken: Sequence[Record]) -> tuple[list[list[Any]], list[Problem]]:
    """Return the rows of a slice in the columns of `upsert.COLUMNS`, and the problems of the other records."""
    width = len(job.columns)
    places = {name: place for place, name in enumerate(upsert.COLUMNS)}
    # An attribute has no column of its own.
    reading = [
        (place, name, None if is_attribute else places[name], read)
        for place, name, is_attribute, read in readers(job.targets, job.date_formats)
    ]
    problems: list[Problem] = []
    rows: list[list[Any]] = []
    for record in taken:
        if record.wrong or any(record.cells[width:]):
            size = f"This record has {len(record.cells)} cells, but the file has {width} columns."
            problems.append((record.line, "", record.wrong or size))
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
        if reason := complete_row(row):
            problems.append((record.line, "", reason))
            continue
        if attributes:
            row[upsert.ATTRIBUTES] = upsert.as_json(attributes)
        rows.append(row)
    return rows, problems


def complete_row(row: list[Any]) -> str:
    """Join the first and the last name of a row; return the error of the whole row, "" if it has none."""
    if row[upsert.USER_ID] is None and row[upsert.EMAIL] is None and row[upsert.OUTBOUND_ID] is None:
        return "This record has no email, user ID or Outbound ID."
    if row[upsert.FIRST_NAME] is not None and row[upsert.LAST_NAME] is not None:
        row[upsert.NAME] = name = f"{row[upsert.FIRST_NAME]} {row[upsert.LAST_NAME]}"
        row[upsert.FIRST_NAME] = row[upsert.LAST_NAME] = None
        if len(name) > MAX_TEXT_LENGTH:
            return f"The first name and the last name are longer than {MAX_TEXT_LENGTH} characters together."
    return ""


def apply_slice(cursor: Any, job: Import, rows: Sequence[Sequence[Any]], at: datetime) -> upsert.SliceResult:
    with_relations = not RELATION_TARGETS.isdisjoint(job.targets)
    if job.state == ImportState.CHECKING:
        return upsert.dry_run_slice(cursor, rows, job=job.pk, with_relations=with_relations)
    return upsert.upsert_slice(
        cursor, rows, tag=job.tag_id, at=at, with_relations=with_relations, job=job.pk, begins=job.lines
    )


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
