"""Matching by changes beside other test processes, whose open transactions belong to other databases of the server."""

import pytest
from django.db import connection

from audiences import change_log

# The oldest open transaction of this database; if none is open, the next one to begin.
HORIZON = """
SELECT coalesce(min(l.transactionid::text::bigint), pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'transactionid' AND l.granted AND a.datname = current_database()
"""


def horizon_of_this_database() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(HORIZON)
        return int(cursor.fetchone()[0])


@pytest.fixture(autouse=True)
def horizon_without_other_databases(monkeypatch) -> None:
    """Ignore the transactions of other test processes: they only make a round read entries again."""
    monkeypatch.setattr(change_log, "current_horizon", horizon_of_this_database)
