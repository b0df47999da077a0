"""Counts of the customers who match rules, estimated from a sample if counting is slow; the sizes of segments."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from audiences.compiler import compile_tree
from audiences.models import Audience, SegmentSize
from audiences.rules import Group
from audiences.transactions import run_within, without_nested_loops

# How many customers an estimate evaluates.
SAMPLE_SIZE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerCount:
    """How many customers match; `is_exact` is False for an estimate from a sample."""

    people: int
    is_exact: bool = True


def count_matching(tree: Group, *, at: datetime) -> CustomerCount:
    """Count the customers who match a tree. Raises RuleError if a rule is no longer valid."""
    return CustomerCount(people=count_pairs(tree, at=at, sample="")[0])


def count_matching_within(tree: Group, *, at: datetime, within: timedelta) -> CustomerCount:
    """Count the customers who match a tree. If that takes longer than `within`, estimate from about 20,000 customers.

    Raises RuleError if a rule is no longer valid.
    """
    if (counted := run_within(within, lambda: count_matching(tree, at=at))) is not None:
        return counted
    customers = estimate_customer_count()
    sample = sample_clause(customers)
    if not sample:
        return count_matching(tree, at=at)
    found, sampled = count_pairs(tree, at=at, sample=sample)
    return CustomerCount(people=round(found * customers / sampled), is_exact=False)


def count_pairs(tree: Group, *, at: datetime, sample: str) -> tuple[int, int]:
    """Return how many customers match, and, for a sample, how many customers are in it."""
    condition = compile_tree(tree)
    statement = f"SELECT count(*) FROM ({condition.pairs(per_company=False, sample=sample)}) AS pairs"  # noqa: S608 - compiled
    with transaction.atomic(), connection.cursor() as cursor:
        # Compiling costs many times more than it saves.
        cursor.execute("SET LOCAL jit = off")
        cursor.execute(statement, {**condition.params, "now": at})
        found = int(cursor.fetchone()[0])
        return found, count_sampled(cursor, sample) if sample else 0


def estimate_customer_count() -> int:
    """Return the planner's estimate of the number of customers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = 'audiences_customer'::regclass")
        return int(cursor.fetchone()[0])


def sample_clause(customers: int) -> str:
    """Return SQL that samples a table of so many customers, or "" if a sample would be no smaller."""
    if customers <= SAMPLE_SIZE:
        return ""
    # The fixed seed gives the same customers to every statement, and the same estimate until the customers change.
    return f" TABLESAMPLE SYSTEM ({100 * SAMPLE_SIZE / customers:f}) REPEATABLE (1)"


def count_sampled(cursor: CursorWrapper, sample: str) -> int:
    """Return how many customers are in the sample, at least 1: the blocks of the table differ in number and size."""
    cursor.execute(f"SELECT count(*) FROM audiences_customer{sample}")  # noqa: S608 - a clause of ours
    return max(1, int(cursor.fetchone()[0]))


def fetch_counts(statement: str, params: Mapping[str, Any], *, customers: int) -> tuple[list[Any], float]:
    """Return the rows of a statement that counts customers, and the factor that scales their numbers up.

    The statement evaluates `sample_clause(customers)`.
    """
    sample = sample_clause(customers)
    # A sample is looked up row by row; all customers are scanned.
    planned = nullcontext() if sample else without_nested_loops()
    with transaction.atomic(), planned, connection.cursor() as cursor:
        # Compiling costs many times more than it saves.
        cursor.execute("SET LOCAL jit = off")
        cursor.execute(statement, params)
        rows = cursor.fetchall()
        return rows, customers / count_sampled(cursor, sample) if sample else 1


def count_segment(segment: Audience, *, at: datetime, within: timedelta) -> SegmentSize:
    """Return the size of a segment, counted again if the kept one is outdated.

    Raises RuleError if a rule is no longer valid.
    """
    kept = SegmentSize.objects.filter(segment=segment).first()
    if kept and kept.is_current(segment, at=at):
        return kept
    found = count_matching_within(segment.tree, at=at, within=within)
    counted = {"people": found.people, "is_exact": found.is_exact, "counted_at": at}
    return SegmentSize.objects.update_or_create(segment=segment, defaults=counted)[0]
