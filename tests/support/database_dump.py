"""Restore of a database dump through psycopg, because a machine with only the embedded server may lack `psql`.

`dumps/demo_0_1.sql.gz` is the demo of 0.1.0 with 500 customers: the output of `pg_dump --no-owner --no-privileges` of
PostgreSQL 15, without the commands for psql (`\\restrict`). A channel outage, an alarm and a message with a refused
sender were added to the demo before the dump.
"""

import gzip
import re
from pathlib import Path

import psycopg

DEMO_0_1 = Path(__file__).parent / "dumps" / "demo_0_1.sql.gz"
COPY = re.compile(r"COPY .+ FROM stdin;\n")
END_OF_DATA = "\\.\n"


def restore_dump(connection: psycopg.Connection, dump: Path) -> None:
    """Execute the plain SQL of the dump, with its COPY blocks, in an empty database."""
    statements: list[str] = []
    with gzip.open(dump, "rt", encoding="utf-8", newline="\n") as lines, connection.cursor() as cursor:
        for line in lines:
            if not COPY.fullmatch(line):
                statements.append(line)
                continue
            cursor.execute("".join(statements).encode())
            statements.clear()
            with cursor.copy(line.encode()) as copy:
                for row in iter(lines.readline, END_OF_DATA):
                    assert row, f"The dump ends inside the data of {line}"
                    copy.write(row)
        cursor.execute("".join(statements).encode())
