"""Indexes on the dates that live messages compare with today: rounds look up who crossed a boundary.

A worker creates them when a message needs one, and drops them when no live or paused message does. Rounds find the same
people without them, but read all rows for it.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from django.db import connection
from psycopg.sql import Identifier, Literal

from audiences.attributes import About, Attribute
from audiences.locks import Lock
from audiences.rules import RuleError
from delivery.matching import ongoing
from delivery.matching.dependencies import date_sql, dependencies_of
from delivery.matching.rounds import compiled_messages
from messaging.models import Channel, Message, State

log = logging.getLogger(__name__)

PREFIX = "matching_date_"
TABLES: dict[About, tuple[str, str]] = {
    About.CUSTOMER: ("audiences_customer", "c."),
    About.COMPANY: ("audiences_company", "k."),
    About.EVENT: ("audiences_eventsummary", "s."),
}
# Dates with an index of their own, `customer_seen_last`.
INDEXED = {"last_seen_at"}
KEY_PLACEHOLDER = "\0"


def wanted_indexes(attributes: Iterable[Attribute]) -> dict[str, str]:
    """Return the definitions of the indexes on these dates, by name."""
    found = {}
    for attribute in attributes:
        if attribute.name in INDEXED:
            continue
        table, alias = TABLES[attribute.about]
        key = f"{text_literal(attribute.key)}::text"
        # The name of an attribute may contain the alias.
        date = date_sql(attribute, key=KEY_PLACEHOLDER).replace(alias, "").replace(KEY_PLACEHOLDER, key)
        where = f"{date} IS NOT NULL" if attribute.about is not About.EVENT else f"name = {key}"
        definition = f"{table} (({date})) WHERE {where}"
        name = PREFIX + hashlib.md5(definition.encode(), usedforsecurity=False).hexdigest()[:16]
        found[name] = f"CREATE INDEX CONCURRENTLY {name} ON {definition}"
    return found


def text_literal(text: str) -> str:
    connection.ensure_connection()
    return Literal(text).as_string(connection.connection)


def dates_in_use() -> set[Attribute]:
    """Return the dates that rolling rules of live and paused ongoing emails and pushes use."""
    found = [dependencies for live, dependencies in compiled_messages().values() if live.channel != Channel.IN_APP]
    # A message that is resumed finds its indexes.
    paused = Message.objects.ongoing().filter(state=State.PAUSED).exclude(channel=Channel.IN_APP)
    for message in paused.select_related("audience"):
        with suppress(RuleError):
            found.append(dependencies_of(ongoing.compile_now(message)))
    return {boundary.attribute for dependencies in found for boundary in dependencies.boundaries}


def update_indexes() -> None:
    """Create missing indexes and drop the others, without blocking writers. Do nothing inside a transaction."""
    if connection.in_atomic_block:
        return
    wanted = wanted_indexes(dates_in_use())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_lock(%s)",
            [Lock.DATE_INDEXES],
        )
        if not cursor.fetchone()[0]:
            return
        try:
            replace_indexes(cursor, wanted)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [Lock.DATE_INDEXES])


def replace_indexes(cursor: Any, wanted: Mapping[str, str]) -> None:
    cursor.execute(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE c.relname LIKE %s",
        [PREFIX.replace("_", r"\_") + "%"],
    )
    # A worker that was stopped while it created an index leaves an invalid one.
    present = dict(cursor.fetchall())
    for name, is_valid in present.items():
        if name not in wanted or not is_valid:
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {Identifier(name).as_string(connection.connection)}")
    for name, definition in wanted.items():
        if not present.get(name):
            log.info("creating index %s", name)
            cursor.execute(definition)
