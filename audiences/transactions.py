"""Retry of transactions that the database cancels to resolve a deadlock; a time limit and new plans for statements.

The order of locks (customers in primary-key order, conversations, messages, records in primary-key order) prevents most
deadlocks. The retry is for the rest: a deadlock must not lose a customer's opt-out.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.utils import OperationalError
from psycopg.types.json import JsonbLoader

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

MAX_ATTEMPTS = 5
# In seconds; the second attempt waits up to this long, the third up to twice as long, and so on.
MAX_BACKOFF = 0.05
DEADLOCK, SERIALIZATION_FAILURE = "40P01", "40001"
# Beginnings of SQLSTATE: lost connections, cancelled transactions, too many connections, locks that are not free, a
# server that ends sessions or starts, its files.
OUTAGES = ("08", SERIALIZATION_FAILURE, DEADLOCK, "53300", "55P03", "57P01", "57P02", "57P03", "58")
# In seconds.
PLANS_LAST = 5.0
# By session and `time.monotonic`: when its plans were discarded.
planned_at: WeakKeyDictionary[psycopg.Connection[Any], float] = WeakKeyDictionary()


def was_cancelled(wrong: Exception) -> bool:
    """Return whether the database cancelled the transaction for a reason that a retry can solve."""
    cause = wrong.__cause__ if isinstance(wrong, OperationalError) else wrong
    return getattr(cause, "sqlstate", None) in (DEADLOCK, SERIALIZATION_FAILURE)


def hit_time_limit(wrong: Exception) -> bool:
    """Return whether the database cancelled a statement because it took too long."""
    return isinstance(wrong.__cause__ or wrong, psycopg.errors.QueryCanceled)


def is_outage(wrong: Exception) -> bool:
    """Return whether the database itself failed, so that the same statements may succeed later.

    The connection is lost, the server shuts down or has no connection left, or a lock was not free in time.
    """
    if not isinstance(wrong, OperationalError | psycopg.OperationalError):
        return False
    sqlstate = getattr(wrong.__cause__ or wrong, "sqlstate", None)
    return sqlstate is None or sqlstate.startswith(OUTAGES)


def retried(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: run the function in a transaction, and again if a deadlock or serialization failure cancels it.

    Within another transaction it runs once, because only the outermost transaction can run again. The function may do
    only database work and idempotent work. Callbacks of on_commit run once.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if connection.in_atomic_block:
            with transaction.atomic():
                return function(*args, **kwargs)
        for attempt in range(1, MAX_ATTEMPTS):
            try:
                with transaction.atomic():
                    return function(*args, **kwargs)
            except (OperationalError, psycopg.OperationalError) as wrong:
                if not was_cancelled(wrong):
                    raise
                log.warning("%s was cancelled (%s); attempt %s follows", function.__qualname__, wrong, attempt + 1)
            time.sleep(random.uniform(0, MAX_BACKOFF * attempt))  # noqa: S311 - jitter
        with transaction.atomic():
            return function(*args, **kwargs)

    return run


@contextmanager
def time_limit(within: timedelta) -> Iterator[CursorWrapper]:
    """Limit each statement of the block, which is a transaction, to this time: OperationalError if one takes longer."""
    with transaction.atomic(), connection.cursor() as cursor:
        # 0 would be no limit.
        milliseconds = max(1, within // timedelta(milliseconds=1))
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(milliseconds)])
        yield cursor
        cursor.execute("SET LOCAL statement_timeout TO DEFAULT")


def run_within(within: timedelta, function: Callable[[], R]) -> R | None:
    """Run the function in a transaction; return None if one of its statements takes longer than `within`."""
    try:
        with time_limit(within):
            return function()
    except OperationalError as wrong:
        if not hit_time_limit(wrong):
            raise
        return None


@contextmanager
def without_nested_loops() -> Iterator[None]:
    """Keep the planner from nested loops over records while statistics lag (measured: minutes; behaviour 5).

    A round reads most of the table, so random access is made expensive too, as it is cheap on servers set up for SSDs.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off; SET LOCAL random_page_cost = 4; SET LOCAL work_mem = '64MB'")
        yield
        cursor.execute(
            "SET LOCAL enable_nestloop = on; SET LOCAL random_page_cost TO DEFAULT; SET LOCAL work_mem TO DEFAULT"
        )


@contextmanager
def with_index_lookups() -> Iterator[None]:
    """Make the planner look rows up one by one: a few candidates are joined to large tables."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off")
        yield
        cursor.execute(
            "SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT; SET LOCAL jit TO DEFAULT"
        )


def discard_old_plans() -> None:
    """Discard the plans of this session's prepared statements after PLANS_LAST seconds.

    PostgreSQL plans such a statement anew only once the statistics of its tables change. A launch or an import inserts
    a million rows before they do, and a plan from a time with few rows may read all of them (behaviour 5).
    """
    session, now = connection.connection, time.monotonic()
    if now - planned_at.setdefault(session, now) >= PLANS_LAST:
        planned_at[session] = now
        session.execute("DISCARD PLANS")


@contextmanager
def prepared() -> Iterator[psycopg.Cursor[Any]]:
    """Open a cursor of the driver, which can prepare statements, in Django's transaction and with Django's errors."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        discard_old_plans()
        # Django's connection returns JSON as text for its own fields; here custom attributes are read as values.
        cursor.adapters.register_loader("jsonb", JsonbLoader)
        yield cursor
