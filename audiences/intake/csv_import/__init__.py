"""CSV files in, a million rows as well as ten: read in slices, copied beside the table, written set by set.

`store_upload` keeps the file, `start_import` says what to do with it, `continue_import` does it, a slice at a time.
"""

from audiences.intake.csv_import.columns import TARGETS, guess_kind, guess_targets, plain_cell, safe_cell
from audiences.intake.csv_import.job import (
    active_imports,
    cancel_import,
    continue_import,
    delete_old_files,
    problems_of,
    redact_problems,
    start_import,
)
from audiences.intake.csv_import.source import store_upload

__all__ = [
    "TARGETS",
    "active_imports",
    "cancel_import",
    "continue_import",
    "delete_old_files",
    "guess_kind",
    "guess_targets",
    "plain_cell",
    "problems_of",
    "redact_problems",
    "safe_cell",
    "start_import",
    "store_upload",
]
