"""The demo's database: the embedded one of this clone, which carries a mark. The demo fills no other database.

Both are checked on the server itself: its data folder and the mark in the database cannot come from a shell, as an
environment variable can.
"""

from pathlib import Path

from django.db import connection
from django.db.backends.utils import CursorWrapper
from knox.settings import CONSTANTS

from audiences.models import Customer, Integration
from config.postgres import embedded

MARK = "Filled by the demo of Outbound"


class NotTheDemos(Exception):
    """This is not the database of the demo; the message says why and what to do."""


def check(*, token: Path) -> None:
    """Raise NotTheDemos unless this is the embedded database, and empty or filled by the demo.

    `token` is the file with the demo's API token, which identifies a demo from before there were marks.
    """
    with connection.cursor() as cursor:
        if not is_embedded(cursor):
            raise NotTheDemos(
                "The demo fills only the embedded database of this clone, and this is another one. Nothing was"
                " changed. Run `make demo`, which ignores DATABASE_URL."
            )
        if Customer.objects.exists() and not is_marked(cursor) and not has_issued(token):
            raise NotTheDemos(
                "The embedded database of this clone has customers that the demo did not create. Nothing was changed."
                " Run `make demo` in another clone, or remove .data here, with all its data, for a new demo."
            )


def mark() -> None:
    """Mark the database as filled by the demo."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_database()), quote_literal(%s)", [MARK])
        database, words = cursor.fetchone()
        cursor.execute(f"COMMENT ON DATABASE {database} IS {words}")


def is_embedded(cursor: CursorWrapper) -> bool:
    """Return whether this is the embedded database, by the server's socket, data folder and database name."""
    cursor.execute(
        "SELECT inet_server_addr() IS NULL, current_database(),"
        " (SELECT setting FROM pg_settings WHERE name = 'data_directory')"
    )
    is_socket, database, data = cursor.fetchone()
    # A role without access to the setting is not the role of the embedded server.
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
    """Return whether the API token in the file is one of this database."""
    key = token.read_text()[: CONSTANTS.TOKEN_KEY_LENGTH] if token.exists() else ""
    return bool(key) and Integration.objects.filter(token_key=key).exists()
