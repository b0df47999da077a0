"""CSV import: large files are read in slices, copied into a temporary table and upserted with a few statements.

`store_upload` stores the file, `start_import` sets its columns and the step, `continue_import` processes slices.
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
