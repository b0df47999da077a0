"""The demo's own database: the embedded one of this clone, once it is marked. No other is filled.

Both are asked of the server itself. A variable could be carried along by any shell; the folder that a server keeps its
data in, and the mark in the database, cannot.
"""

from pathlib import Path

from django.db import connection
from django.db.backends.utils import CursorWrapper
from knox.settings import CONSTANTS

from audiences.models import Customer, Integration
from config.postgres import embedded

MARK = "Filled by the demo of Outbound"


class NotTheDemos(Exception):
    """This database is not the demo's own; the message says why and what to do."""


def check(*, token: Path) -> None:
    """Raise NotTheDemos unless this is the embedded database, and empty or filled by the demo.

    `token` is where a demo keeps its API token: one from before there were marks is recognised by it.
    """
    with connection.cursor() as cursor:
        if not is_embedded(cursor):
            raise NotTheDemos(
                "The demo fills no database but the embedded one of this clone, and this is another. Nothing was"
                " changed. Run `make demo`, which leaves DATABASE_URL aside."
            )
        if Customer.objects.exists() and not is_marked(cursor) and not has_issued(token):
            raise NotTheDemos(
                "The embedded database of this clone holds people whom the demo did not make. Nothing was changed. Run"
                " `make demo` in another clone, or remove .data here, with all that is in it, for a demo from scratch."
            )


def mark() -> None:
    """Have the database say that the demo filled it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_database()), quote_literal(%s)", [MARK])
        database, words = cursor.fetchone()
        cursor.execute(f"COMMENT ON DATABASE {database} IS {words}")


def is_embedded(cursor: CursorWrapper) -> bool:
    """Ask the server by which way we came, where its data is, and which database this is."""
    cursor.execute(
        "SELECT inet_server_addr() IS NULL, current_database(),"
        " (SELECT setting FROM pg_settings WHERE name = 'data_directory')"
    )
    is_socket, database, data = cursor.fetchone()
    # A role that may not see the folder is not the embedded server's one role.
    return bool(
        is_socket
        and database == embedded.DATABASE
        and data
        and Path(data).resolve() == embedded.SERVERS["main"].data.resolve()
    )


def is_marked(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()")
    return bool(cursor.fetchone()[0] == MARK)


def has_issued(token: Path) -> bool:
    """Say whether the API token in the file is one of this database."""
    key = token.read_text()[: CONSTANTS.TOKEN_KEY_LENGTH] if token.exists() else ""
    return bool(key) and Integration.objects.filter(token_key=key).exists()
