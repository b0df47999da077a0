"""CSV import: large files are read in slices, copied into a temporary table and upserted with a few statements.

`store_upload` stores the file, `start_import` sets its columns and the step, `continue_import` processes slices: it
inspects the columns, checks, writes or undoes.
"""

from audiences.intake.csv_import.column_facts import ColumnFacts, guess_formats, guess_kind
from audiences.intake.csv_import.columns import (
    TARGETS,
    field_label,
    guess_targets,
    is_date_target,
    plain_cell,
    safe_cell,
)
from audiences.intake.csv_import.dates import DateFormat, NotADate, read_date
from audiences.intake.csv_import.effects import LineEffect, effects_of
from audiences.intake.csv_import.job import (
    active_imports,
    can_undo,
    cancel_import,
    change_encoding,
    delete_old_files,
    erase_effects,
    problems_of,
    redact_problems,
    repeats_of,
    start_import,
    start_undo,
)
from audiences.intake.csv_import.slices import continue_import
from audiences.intake.csv_import.source import ENCODINGS, encoding_label, store_upload

__all__ = [
    "ENCODINGS",
    "TARGETS",
    "ColumnFacts",
    "DateFormat",
    "LineEffect",
    "NotADate",
    "active_imports",
    "can_undo",
    "cancel_import",
    "change_encoding",
    "continue_import",
    "delete_old_files",
    "effects_of",
    "encoding_label",
    "erase_effects",
    "field_label",
    "guess_formats",
    "guess_kind",
    "guess_targets",
    "is_date_target",
    "plain_cell",
    "problems_of",
    "read_date",
    "redact_problems",
    "repeats_of",
    "safe_cell",
    "start_import",
    "start_undo",
    "store_upload",
]
