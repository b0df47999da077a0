"""Sessions of the database: either side notices within 10 seconds that the other has vanished from the network.

A machine that is cut off or loses power closes no connection. Its session would keep its locks for hours, and its
own statements would wait as long for a server that is gone.
"""

import logging
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from django.core import checks
from django.db import DataError, connections
from django.db.backends.signals import connection_created

log = logging.getLogger(__name__)

# In seconds. A session of a machine that vanished ends within this time.
VANISHED_WITHIN = 10
# For our side, options of libpq. A host that does not answer at all is tried for `connect_timeout` seconds.
CLIENT_OPTIONS: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 4,
    "tcp_user_timeout": 7_000,
    "connect_timeout": 5,
}
# For the server's side. It notices a lost connection in a running statement only if it looks at the connection
# meanwhile; and a stopped process, whose kernel still answers, by its open transaction that does nothing.
SERVER_SETTINGS = {
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "7000",
    "client_connection_check_interval": "2000",
    "idle_in_transaction_session_timeout": "10000",
}
SET_ALL = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in SERVER_SETTINGS.items())
READ_ALL = "SELECT name, setting::bigint FROM pg_settings WHERE name = ANY(%s)"
# The driver's connections that have the settings already: a pool reuses its connections.
PREPARED: "WeakSet[Any]" = WeakSet()
ADVICE = "A machine that vanishes keeps its locks until then, and other workers wait for them."


def install() -> None:
    """Set the server's side of every connection that this process opens from now on."""
    # Set by a statement, because a pooler in between refuses unknown connection parameters.
    connection_created.connect(prepare_session, dispatch_uid="config.postgres.sessions")


def prepare_session(*, connection: Any, **_facts: Any) -> None:
    """Set SERVER_SETTINGS for a session. One over a Unix socket ends with its process, so it needs none."""
    session = connection.connection
    if connection.vendor != "postgresql" or is_local(session) or session in PREPARED:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(SET_ALL)
    except DataError as refused:
        # Its operating system lacks one of them. The check at the start names those that do not apply.
        log.debug("the server does not set the timeouts of a session: %s", refused)
    PREPARED.add(session)


def is_local(session: Any) -> bool:
    return not session.info.host or session.info.host.startswith("/")


def find_problems(connection: Any) -> list[str]:
    """Return why a session may outlive its machine, or a statement its server, by more than VANISHED_WITHIN."""
    connection.ensure_connection()
    session = connection.connection
    if is_local(session):
        return []
    ours = {name: int(value) for name, value in session.info.get_parameters().items() if name in CLIENT_OPTIONS}
    with connection.cursor() as cursor:
        cursor.execute(READ_ALL, [list(SERVER_SETTINGS)])
        theirs = dict(cursor.fetchall())
    problems = []
    if not ours.get("keepalives", 1):
        problems.append("DATABASE_URL switches keepalives off.")
    elif (seconds := silent_seconds(ours, "keepalives")) > VANISHED_WITHIN:
        problems.append(f"By DATABASE_URL this process notices a vanished server only after {seconds}.")
    if (seconds := silent_seconds(theirs, "tcp_keepalives")) > VANISHED_WITHIN:
        problems.append(f"The server notices a vanished machine only after {seconds}. {ADVICE}")
    if not 0 < theirs.get("client_connection_check_interval", 0) <= VANISHED_WITHIN * 1000:
        problems.append(
            f"The server does not look at the connection while a statement runs (client_connection_check_interval)."
            f" {ADVICE}"
        )
    return problems


class Seconds(float):
    """A number of seconds as a text; infinite if the system's own default applies."""

    def __str__(self) -> str:
        return f"{self:.0f} seconds" if self < float("inf") else "hours, as the operating system decides"


def silent_seconds(values: dict[str, int], prefix: str) -> Seconds:
    """Return after how long a silent connection is given up, by its keepalives."""
    idle, interval, count = (values.get(f"{prefix}_{name}", 0) for name in ("idle", "interval", "count"))
    return Seconds(idle + interval * count if idle and interval and count else "inf")


@checks.register(checks.Tags.database)
def check_sessions(
    app_configs: object = None, *, databases: Sequence[str] | None = None, **_facts: Any
) -> list[checks.CheckMessage]:
    """Report, for `migrate` and `check --database default`, sessions that outlive their machine."""
    return [
        checks.Warning(problem, hint="See “Database connections” in docs/deploy.md.", id="outbound.W001")
        for alias in databases or ()
        for problem in find_problems(connections[alias])
    ]


def log_problems() -> None:
    """Log the problems of this process's own sessions."""
    try:
        for problem in find_problems(connections["default"]):
            log.warning("%s", problem)
    finally:
        # A worker forks, and the child would share the connection.
        connections["default"].close()
