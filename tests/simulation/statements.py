"""What statements mean to other actors: those that mean nothing are no scheduling points."""

import re
from enum import Enum, auto
from functools import cache


class Kind(Enum):
    """What a statement means to the others."""

    # It neither sees nor changes anything that they change or see, so nothing is lost if it is no gate.
    QUIET = auto()
    # It sees what they change, and takes no lock.
    READ = auto()
    # Anything else.
    LOUD = auto()


# Tables that no actor changes, and those of connection shares: a transaction on these locks one row first.
SETTLED_TABLES = {"audiences_customattribute", "audiences_workspace", "delivery_rest", "delivery_pace"}
SHARE_TABLES = {"delivery_connectionshare", "delivery_channelconnections"}
SILENT = re.compile(
    r"SAVEPOINT|RELEASE|SET (?!CONSTRAINTS)|DROP TABLE IF EXISTS matching_|DROP TABLE matched|SELECT set_config"
    r"|DISCARD PLANS|SELECT pg_stat_clear_snapshot|SELECT has_function_privilege|SELECT system_identifier"
)
TABLES = re.compile(r'(?:FROM|JOIN|INTO|UPDATE) "?(\w+)"?')
# Statements at whose end a lock may be free although their transaction goes on.
RELEASES = re.compile(r"ROLLBACK|unlock")
# Names of savepoints and cursors, which contain the number of a thread.
THREAD_NUMBERS = re.compile(r"s\d+_x|_django_curs_\d+_\w+")


@cache
def kind_of(text: str) -> Kind:
    """Return what a statement means to the others."""
    waits = " FOR UPDATE" in text or " FOR NO KEY" in text or " FOR SHARE" in text
    if SILENT.match(text) or (concerns_shares(text) and not waits):
        return Kind.QUIET
    if not text.startswith('SELECT "') or waits:
        return Kind.LOUD
    return Kind.QUIET if set(TABLES.findall(text)) <= SETTLED_TABLES else Kind.READ


def concerns_shares(text: str) -> bool:
    tables = set(TABLES.findall(text))
    return bool(tables) and tables <= SHARE_TABLES
