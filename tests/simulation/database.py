"""Gates at SQL statements, lock waits read from PostgreSQL, and a database that starts each schedule alike."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection, connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.utils import OperationalError

from tests.simulation.processes import Actor, current_actor
from tests.simulation.scheduler import Scheduler
from tests.simulation.statements import RELEASES, THREAD_NUMBERS, Kind, concerns_shares, kind_of

# Whether a session waits for a lock, and whether it waits in a circle. PostgreSQL's own processes, such as autovacuum
# of the catalogue, hold a lock only for a moment, and no seed decides when.
WAITING = (
    "WITH RECURSIVE blocked(pid) AS (SELECT unnest(pg_blocking_pids(%(pid)s))"
    " UNION SELECT unnest(pg_blocking_pids(pid)) FROM blocked)"
    " SELECT count(*) > 0, coalesce(bool_or(pid = %(pid)s), FALSE) FROM blocked"
    " WHERE pid IN (SELECT pid FROM pg_stat_get_activity(NULL) WHERE backend_type = 'client backend')"
)
# The messages and the records in one text: to read many values takes longer.
STATES = (
    b"SELECT json_build_array((SELECT json_agg(json_build_array(id, channel, state, went_live_at, problem) ORDER BY id)"
    b" FROM messaging_message), (SELECT coalesce(json_agg(json_build_array(id, message_id, status) ORDER BY id), '[]')"
    b" FROM delivery_deliveryrecord))"
)
TIMEOUT_VALUE = re.compile(r"(\d+)(ms|s)")
# In PostgreSQL no wait for a lock times out, and no circle of them is resolved: the scheduler does both, so that a
# session that waits does nothing at all.
ENDLESS = "1h"
# Makes a session like a new one, except for what it knows about the tables: to learn that again takes long.
LIKE_NEW = (
    "RESET ALL; DEALLOCATE ALL; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; SELECT setseed(0.5)"
)
# Sessions of earlier schedules, which the next ones use: to open a session takes long.
IDLE: list[Any] = []
WATCHING: list[Any] = []


def open_watching() -> Any:
    """Open a session that asks about others."""
    params = connection.get_connection_params()
    params.pop("cursor_factory", None)
    params.pop("context", None)
    session: Any = psycopg.connect(**{**params, "autocommit": True})
    session.prepare_threshold = 0
    session.pgconn.prepare(b"states", STATES)
    return session


class Watch:
    """Asks PostgreSQL about the sessions of actors, over a connection of its own."""

    def __init__(self) -> None:
        # It stays open for the next schedule.
        self.session = WATCHING.pop() if WATCHING else open_watching()
        # By backend: whether it is a process of this machine that may be stopped for a moment.
        self.ours: dict[int, bool] = {}
        self.name = connection.settings_dict["NAME"].encode()

    def waits_for_lock(self, actor: Actor) -> bool:
        """Return whether a statement of the actor waits for a lock. A wait that closes a circle is cancelled."""
        for backend in actor.backends:
            # To ask PostgreSQL costs as much as many a statement, and the title of the server process says it at once.
            if self.is_ours(backend) and b" waiting" not in self.title_of(backend):
                continue
            waits, is_in_circle = self.rows(WAITING, {"pid": backend})[0]
            if is_in_circle and not actor.is_deadlocked:
                actor.is_deadlocked = True
                self.cancel(actor)
            if waits:
                return not actor.is_deadlocked
        return False

    def hold(self, actor: Actor) -> None:
        """Stop the sessions of an actor that waits for a lock: they do nothing when they get it."""
        self.signal(actor, signal.SIGSTOP)

    def let_go(self, actor: Actor) -> None:
        """Let the sessions of an actor go on."""
        self.signal(actor, signal.SIGCONT)

    def signal(self, actor: Actor, number: int) -> None:
        """Send a signal to the server processes of an actor's sessions, if they are on this machine."""
        for backend in actor.backends:
            if self.is_ours(backend):
                with suppress(ProcessLookupError):
                    os.kill(backend, number)

    def is_ours(self, backend: int) -> bool:
        if backend not in self.ours:
            title = self.title_of(backend)
            self.ours[backend] = title.startswith(b"postgres: ") and self.name in title
        return self.ours[backend]

    def title_of(self, backend: int) -> bytes:
        try:
            return Path(f"/proc/{backend}/cmdline").read_bytes()
        except OSError:
            return b""

    def terminate(self, actor: Actor) -> None:
        """End the sessions of an actor and wait until their locks are free."""
        for backend in actor.backends:
            self.rows("SELECT pg_terminate_backend(%s)", [backend])
        self.wait_for_end(actor.backends)
        actor.backends.clear()

    def wait_for_end(self, backends: list[int]) -> None:
        """Wait until sessions have ended."""
        # A wait in PostgreSQL looks only every 100 ms.
        while self.rows("SELECT FROM pg_stat_get_activity(NULL) WHERE pid = ANY(%s)", [backends]):
            pass

    def cancel(self, actor: Actor) -> None:
        """Cancel the statement of an actor, which waits for a lock."""
        for backend in actor.backends:
            self.rows("SELECT pg_cancel_backend(%s)", [backend])

    def rows(self, question: str, params: Any = None) -> list[Any]:
        return self.session.execute(question, params).fetchall()

    def states(self) -> bytes:
        """Return the states of all messages and records as JSON. A cursor of the driver would take longer."""
        found = self.session.pgconn.exec_prepared(b"states", None)
        assert found.status == psycopg.pq.ExecStatus.TUPLES_OK, found.error_message
        states: bytes = found.get_value(0, 0)
        return states

    def close(self) -> None:
        WATCHING.append(self.session)


class Sessions:
    """Gives each actor a database connection whose statements are gates."""

    def __init__(self, scheduler: Scheduler, watch: Watch) -> None:
        self.scheduler, self.locks = scheduler, watch

    def open(self) -> DatabaseWrapper:
        """Give the current thread a connection."""
        made = connections.create_connection("default")
        connections["default"] = made
        self.watch(made)
        return made

    def watch(self, made: Any) -> None:
        """Let each statement of a connection be a gate, now and after it reconnects."""
        actor = current_actor()
        assert actor is not None
        actor.connections.append(Watched(made, actor, self))
        made.execute_wrappers.append(self.execute)

    def execute(self, execute: Callable[..., Any], sql: Any, params: Any, *rest: Any) -> Any:
        """Execute a statement of Django's when it is the actor's turn."""
        text = THREAD_NUMBERS.sub("", sql if isinstance(sql, str) else repr(sql))
        session = rest[-1]["connection"].connection
        return self.run_statement(text, lambda given: execute(sql, given, *rest), params, session)

    def run_statement(self, text: str, call: Callable[[Any], Any], params: Any, session: Any) -> Any:
        """Execute a statement when it is the actor's turn. Its lock timeout counts by the simulated clock."""
        actor = current_actor()
        if actor is None:
            return call(params)
        timeout = actor.lock_timeout
        if text.startswith("ROLLBACK"):
            timeout = None
        elif "lock_timeout" in text:
            timeout, params = self.read_lock_timeout(params)
        kind = kind_of(text)
        # Nobody waits for a transaction that has only read.
        actor.matters |= kind is Kind.LOUD and not concerns_shares(text)
        try:
            return self.at_gate(text, lambda: call(params), is_gate=kind is not Kind.QUIET)
        except (OperationalError, psycopg.errors.QueryCanceled) as error:
            if actor.is_timed_out:
                late = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
            elif actor.is_deadlocked:
                late = psycopg.errors.DeadlockDetected("deadlock detected")
            else:
                raise
            actor.is_timed_out = actor.is_deadlocked = False
            if isinstance(error, OperationalError):
                raise OperationalError(str(late)) from late
            # As the driver raises it: callers look at the error and at its cause.
            raise late from None
        finally:
            actor.lock_timeout = timeout
            is_over = session is None or session.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS
            if (is_over and kind is Kind.LOUD) or RELEASES.search(text):
                actor.has_released = True

    def read_lock_timeout(self, params: Any) -> tuple[float | None, Any]:
        """Return the lock timeout among the parameters, in seconds, and the parameters with an endless one."""
        items = params.items() if isinstance(params, dict) else enumerate(params or ())
        for key, value in items:
            if isinstance(value, str) and (found := TIMEOUT_VALUE.fullmatch(value)):
                seconds = int(found[1]) / (1000 if found[2] == "ms" else 1)
                changed = dict(params) if isinstance(params, dict) else list(params)
                changed[key] = ENDLESS
                return seconds, changed
        return None, params

    def at_gate(self, name: str, call: Callable[[], object], *, is_gate: bool = True) -> Any:
        actor = current_actor()
        if actor is None:
            return call()
        # When all is calm, only what was committed is looked at.
        if is_gate and (actor.has_released or not self.scheduler.is_calm):
            self.scheduler.stop_at(name)
        actor.is_in_statement = True
        try:
            return call()
        finally:
            actor.is_in_statement = False
            if actor.is_blocked:
                actor.is_blocked = False
                self.scheduler.stop_at(f"behind {name}")


class Watched:
    """A database connection of an actor. It uses the session of an earlier connection if one is idle."""

    def __init__(self, made: Any, actor: Actor, sessions: Sessions) -> None:
        self.made, self.actor, self.sessions = made, actor, sessions
        self.get_new_connection, self.copy = made.get_new_connection, made.copy
        made.get_new_connection, made._close, made.copy = self.open_session, self.close_session, self.copy_and_watch
        made._commit, made._rollback = self.gated("COMMIT", made._commit), self.gated("ROLLBACK", made._rollback)

    def open_session(self, params: dict[str, Any]) -> Any:
        while IDLE:
            session = IDLE.pop()
            if not session.closed:
                break
        else:
            session = self.get_new_connection({**params, "options": f"-c deadlock_timeout={ENDLESS}"})
            session.autocommit = True
            session.execute("SELECT setseed(0.5)", prepare=False)
        self.actor.backends.append(session.info.backend_pid)
        return session

    def close_session(self) -> None:
        session = self.made.connection
        if session is None:
            return
        pid, status = session.info.backend_pid, session.info.transaction_status
        if status != psycopg.pq.TransactionStatus.IDLE or not self.keep_session(session):
            session.close()
            # It releases its locks a moment later.
            self.sessions.locks.wait_for_end([pid])
        self.actor.has_released = True
        if pid in self.actor.backends:
            self.actor.backends.remove(pid)

    def keep_session(self, session: Any) -> bool:
        """Keep a session for the next connection, as if it were new. Return whether that was possible."""
        try:
            session.autocommit = True
            session.execute(LIKE_NEW, prepare=False)
            # The driver must not believe that its prepared statements are still there.
            session._prepared.clear()
            session._prepared._to_flush.clear()
        except psycopg.Error:
            return False
        IDLE.append(session)
        return True

    def copy_and_watch(self, alias: str | None = None) -> Any:
        second = self.copy(alias)
        self.sessions.watch(second)
        return second

    def gated(self, name: str, call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            if self.made.connection is None:
                return call()
            try:
                return self.sessions.at_gate(name, call, is_gate=self.actor.matters)
            finally:
                self.actor.lock_timeout, self.actor.matters = None, False
                self.actor.has_released = True

        return run

    def close(self) -> None:
        """Close the session from another thread."""
        if self.made.connection is not None:
            self.made.connection.close()


def gated_cursor(cursor: Any, sessions: Sessions) -> Any:
    """Return a cursor of the driver whose statements are gates, for code that bypasses Django's cursors."""

    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)

        def call(given: Any) -> Any:
            return cursor.execute(self, query, given, **options)

        return sessions.run_statement(text, call, params, self.connection)

    return type(f"Gated{cursor.__name__}", (cursor,), {"execute": execute})


def close_idle_sessions() -> None:
    """Close the sessions that no actor uses."""
    for sessions in (IDLE, WATCHING):
        while sessions:
            sessions.pop().close()


# Copies of a filled database

# The rows of a filled database by table, and the next numbers of its sequences.
Rows = tuple[dict[str, bytes], dict[str, int]]
SEQUENCES = "SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL"
FILLED_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    " AND pg_relation_size(oid) > 0 AND relname <> ALL(%s) ORDER BY relname"
)
# Tables that a schedule does not change, and the change log: its entries belong to transactions that are over.
KEPT = ["auth_permission", "django_content_type", "django_migrations"]
NOT_COPIED = "audiences_change_"


def filled_tables() -> list[str]:
    """Return the tables that have rows of this schedule."""
    with connection.cursor() as cursor:
        cursor.execute(FILLED_TABLES, [KEPT])
        return [name for (name,) in cursor.fetchall()]


def copy_rows() -> Rows:
    """Copy the rows of the database, and the numbers of its sequences."""
    rows = {}
    names = filled_tables()
    with connection.cursor() as cursor:
        for name in names:
            if not name.startswith(NOT_COPIED):
                with cursor.copy(f"COPY {name} TO STDOUT") as copy:
                    rows[name] = b"".join(copy)
        cursor.execute(SEQUENCES)
        return rows, dict(cursor.fetchall())


def restore_rows(filled: Rows) -> None:
    """Restore copied rows in an empty database, without triggers."""
    rows, numbers = filled
    with without_triggers(), connection.cursor() as cursor:
        for name, data in rows.items():
            with cursor.copy(f"COPY {name} FROM STDIN") as copy:
                copy.write(data)
        cursor.execute(
            "SELECT setval(name::regclass, number) FROM unnest(%s::text[], %s::bigint[]) AS given(name, number)",
            [list(numbers), list(numbers.values())],
        )


@contextmanager
def without_triggers() -> Iterator[None]:
    """Run a transaction without triggers and without checks of foreign keys."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield


def empty_database() -> None:
    """Delete all rows, and restart the sequences. Afterwards new rows lie in the same order as in a new database."""
    if not (names := filled_tables()):
        return
    with without_triggers(), connection.cursor() as cursor:
        cursor.execute("; ".join(f"DELETE FROM {name}" for name in names))  # noqa: S608 - names of tables
        cursor.execute(
            "SELECT setval(schemaname || '.' || sequencename, start_value, FALSE) FROM pg_sequences"
            " WHERE last_value IS NOT NULL"
        )
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM {', '.join(names)}")


def switch_autovacuum_off() -> None:
    """Keep PostgreSQL from analysing tables at some moment, so that a seed always has the same plans."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT relname FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace LOOP"
            " EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = off)', name); END LOOP; END $$"
        )
