"""CSV files in, a million rows as well as ten: read in slices, copied beside the table, written set by set.

`store_upload` keeps the file, `begin` says what to do with it, `go_on` does it, a slice at a time.
"""

from audiences.intake.csv_import.columns import TARGETS, guess, looks_like, plain_cell, safe_cell
from audiences.intake.csv_import.job import begin, cancel, erase, forget_old, go_on, problems_of, under_way
from audiences.intake.csv_import.source import store_upload

__all__ = [
    "TARGETS",
    "begin",
    "cancel",
    "erase",
    "forget_old",
    "go_on",
    "guess",
    "looks_like",
    "plain_cell",
    "problems_of",
    "safe_cell",
    "store_upload",
    "under_way",
]
