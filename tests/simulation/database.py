"""Gates at SQL statements, lock waits read from PostgreSQL, and a database that starts each schedule alike."""

import re
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connection, connections
from django.db.backends.postgresql.base import DatabaseWrapper

from tests.simulation.scheduler import Actor, Scheduler, current_actor

# Names of savepoints and cursors, which contain the number of a thread.
THREAD_NUMBERS = re.compile(r"s\d+_x|_django_curs_\d+_\w+")
# A wait that closes a circle of locks is cancelled after this long.
DEADLOCK_TIMEOUT = "5ms"
WAITING = "SELECT pg_blocking_pids(%s) <> '{}'"
# The backends that wait for each other in a circle with this one, which PostgreSQL resolves by itself.
IN_A_CIRCLE = (
    "WITH RECURSIVE blocked(pid) AS (SELECT unnest(pg_blocking_pids(%s))"
    " UNION SELECT unnest(pg_blocking_pids(pid)) FROM blocked) SELECT %s IN (SELECT pid FROM blocked)"
)


class Watch:
    """Asks PostgreSQL about the sessions of actors, over a connection of its own."""

    def __init__(self) -> None:
        params = connection.get_connection_params()
        params.pop("cursor_factory", None)
        params.pop("context", None)
        self.session = psycopg.connect(**{**params, "autocommit": True})

    def waits_for_lock(self, actor: Actor) -> bool:
        """Return whether a statement waits for a lock, and PostgreSQL will not cancel the wait as a deadlock."""
        for backend in actor.backends:
            while self.ask(WAITING, backend):
                if not self.ask(IN_A_CIRCLE, backend, backend):
                    return True
        return False

    def terminate(self, actor: Actor) -> None:
        """End the sessions of an actor and wait until their locks are free."""
        for backend in actor.backends:
            self.session.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])
        actor.backends.clear()

    def ask(self, question: str, *params: object) -> bool:
        row = self.session.execute(question, list(params)).fetchone()
        return bool(row and row[0])

    def close(self) -> None:
        self.session.close()


class Sessions:
    """Gives each actor a database connection whose statements are gates."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

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
        actor.connections.append(Closing(made))
        connect, copy, commit, rollback = made.connect, made.copy, made._commit, made._rollback

        def connect_and_note() -> None:
            connect()
            with made.connection.cursor() as cursor:
                cursor.execute(f"SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'")
                cursor.execute("SELECT setseed(0.5)")
                if not made.get_autocommit():
                    made.connection.commit()
            actor.backends.append(made.connection.info.backend_pid)

        def copy_and_watch(alias: str | None = None) -> Any:
            second = copy(alias)
            self.watch(second)
            return second

        def gated(name: str, call: Callable[[], object]) -> Callable[[], object]:
            def run() -> object:
                if made.connection is None:
                    return call()
                return self.at_gate(name, call)

            return run

        made.connect, made.copy = connect_and_note, copy_and_watch
        made._commit, made._rollback = gated("COMMIT", commit), gated("ROLLBACK", rollback)
        made.execute_wrappers.append(self.execute)

    def execute(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Execute a statement when it is the actor's turn."""
        text = sql if isinstance(sql, str) else repr(sql)
        return self.at_gate(THREAD_NUMBERS.sub("", text), lambda: execute(sql, params, many, context))

    def at_gate(self, name: str, call: Callable[[], object]) -> Any:
        actor = current_actor()
        if actor is None:
            return call()
        self.scheduler.stop_at(name)
        actor.is_in_statement = True
        try:
            return call()
        finally:
            actor.is_in_statement = False
            if actor.is_blocked:
                actor.is_blocked = False
                self.scheduler.stop_at(f"behind {name}")


class Closing:
    """Closes the session of a connection from another thread."""

    def __init__(self, made: DatabaseWrapper) -> None:
        self.made = made

    def close(self) -> None:
        if self.made.connection is not None:
            self.made.connection.close()
