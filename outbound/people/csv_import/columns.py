"""Columns of an import as its page shows them: examples, the fields they can be mapped to, formats of their dates."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import formats

from audiences.attributes import CUSTOM
from audiences.intake import csv_import
from audiences.intake.csv_import import ColumnFacts, DateFormat
from audiences.models import CustomAttribute, Import, ImportKind
from audiences.models.catalogue import KINDS, Scope
from audiences.rules import KIND_NAMES, Kind
from outbound.console.wording import counted

UTC = ZoneInfo("UTC")
# The other order of the numbers of an ambiguous date.
OTHER_ORDER = {DateFormat.DAY_FIRST: "month first", DateFormat.MONTH_FIRST: "day first"}


def column_rows(job: Import) -> list[dict[str, Any]]:
    """Describe each column: its name, examples, the field that it is mapped to, and the format of its dates."""
    width = len(job.columns)
    facts = [ColumnFacts.from_json(stored) for stored in job.column_facts or [{}] * width]
    guesses = csv_import.guess_formats(facts)
    declared = CustomAttribute.objects.catalogue().customer
    targets = [*job.targets, *[""] * width]
    chosen = [*map(DateFormat, job.date_formats), *(guess.date_format for guess in guesses[len(job.date_formats) :])]
    found = []
    for place, (name, fact, guess) in enumerate(zip(job.columns, facts, guesses, strict=True)):
        note = ""
        if chosen[place] is guess.date_format:
            if guess.is_ambiguous:
                note = f"These dates also fit {OTHER_ORDER[guess.date_format]}. Check the order."
            elif fact.cells > guess.readable and csv_import.is_date_target(targets[place], declared):
                note = f"{counted(fact.cells - guess.readable, 'cell has', 'cells have')} another format."
        found.append(
            {
                "name": name,
                "values": fact.shown_values(),
                "target": targets[place],
                "new": attribute_name(name),
                "kind": csv_import.guess_kind(fact, header=name),
                "formats": format_choices(fact.shown_values()),
                "format": chosen[place],
                "note": note,
            }
        )
    return found


def format_choices(examples: Sequence[str]) -> list[tuple[str, str]]:
    """Return the date formats. The label of each shows how it reads one of these cells, if it can read any.

    Cells that show the order of day and month are preferred.
    """
    telling = sorted(
        examples,
        key=lambda cell: read_example(cell, DateFormat.DAY_FIRST) == read_example(cell, DateFormat.MONTH_FIRST),
    )
    found = []
    for date_format in DateFormat:
        label = str(date_format.label)
        for cell in telling:
            if (read := read_example(cell, date_format)) is not None:
                label = f"{label.partition(':')[0]}: {cell.strip()} is {formats.date_format(read, 'j M Y')}"
                break
        found.append((str(date_format), label))
    return found


def read_example(value: str, date_format: DateFormat) -> datetime | None:
    try:
        return csv_import.read_date(value, date_format, zone=UTC)
    except csv_import.NotADate:
        return None


def attribute_name(name: str) -> str:
    """Return a valid attribute name made from the name of a column."""
    return name.replace(".", " ").replace("$", " ").strip()[:190]


def column_targets(job: Import) -> list[tuple[str, str, bool]]:
    """Return the fields that a column can be mapped to, with their labels, and whether they are dates."""
    if job.kind == ImportKind.UNSUBSCRIBED:
        return [("email", "Email", False)]
    attributes = CustomAttribute.objects.offered().filter(scope=Scope.CUSTOMER).order_by("name")
    return [
        *((target.name, target.label, target.is_date) for target in csv_import.TARGETS.values()),
        *((f"{CUSTOM}{it.name}", f"Attribute {it.name}", it.kind == Kind.DATE) for it in attributes),
    ]


def new_kinds() -> list[tuple[str, str, bool]]:
    """Return the kinds of a new attribute, with their labels, and whether they are dates."""
    return [(kind, KIND_NAMES[Kind(kind)], kind == Kind.DATE) for kind, _ in KINDS]
