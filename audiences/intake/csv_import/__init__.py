"""CSV import: large files are read in slices, copied into a temporary table and upserted with a few statements.

`store_upload` stores the file, `start_import` sets its columns and the step, `continue_import` processes slices: it
inspects the columns, checks or writes.
"""

from audiences.intake.csv_import.column_facts import ColumnFacts, guess_formats, guess_kind
from audiences.intake.csv_import.columns import TARGETS, guess_targets, is_date_target, plain_cell, safe_cell
from audiences.intake.csv_import.dates import DateFormat, NotADate, read_date
from audiences.intake.csv_import.job import (
    active_imports,
    cancel_import,
    change_encoding,
    delete_old_files,
    problems_of,
    redact_problems,
    start_import,
)
from audiences.intake.csv_import.slices import continue_import
from audiences.intake.csv_import.source import ENCODINGS, encoding_label, store_upload

__all__ = [
    "ENCODINGS",
    "TARGETS",
    "ColumnFacts",
    "DateFormat",
    "NotADate",
    "active_imports",
    "cancel_import",
    "change_encoding",
    "continue_import",
    "delete_old_files",
    "encoding_label",
    "guess_formats",
    "guess_kind",
    "guess_targets",
    "is_date_target",
    "plain_cell",
    "problems_of",
    "read_date",
    "redact_problems",
    "safe_cell",
    "start_import",
    "store_upload",
]
