"""The one statement that judges all live messages for one customer, writes down what matches, and says what to show.

A visit moves the last-seens in it too: its parts all see the rows as they were before it (DESIGN 4.6).
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import psycopg
from django.db import connection
from psycopg.sql import Literal

from audiences.compiler import PLACE
from delivery.judging import Live, LiveMessages
from delivery.models import Conversation, Reason, Status
from messaging.models import Channel


@dataclass(frozen=True, slots=True)
class Row:
    """A record the statement made or found: in-app ones, which have a `sent_at`, are to be shown."""

    pk: int
    sent_at: datetime | None
    is_new: bool
    message: int
    version: int | None
    company: int | None
    filled: dict[str, Any]
    format: str
    sender: str
    is_to_one: bool
    conversation: int | None

    @classmethod
    def read(cls, values: tuple[Any, ...]) -> "Row":
        """A row as the database has it: JSON comes as text."""
        pk, sent_at, is_new, message, version, company, filled, *rest = values
        return cls(pk, sent_at, is_new, message, version, company, json.loads(filled), *rest)


def prepared() -> psycopg.RawCursor[Any]:
    """A cursor of the driver itself, which can prepare; it works in the transaction Django has open."""
    connection.ensure_connection()
    return psycopg.RawCursor(connection.connection)


# What a record tells of itself.
RETURNED = "r.id, r.sent_at, r.message_id, r.version_id, r.company_id, r.filled"
# The values of those variables that a message uses, of all that any message uses.
FILLED = (
    "coalesce((SELECT jsonb_object_agg(v.key, v.value) FROM jsonb_each(%(values)s::jsonb) v"
    " WHERE %(names)s::jsonb -> {message}::text ? v.key), '{{}}'::jsonb)"
)
# Whether what this process has compiled is of now; where it is not, nothing is judged and nothing written.
ASKED = "asked AS MATERIALIZED (SELECT generation = %(generation)s::bigint AS fresh FROM audiences_workspace)"
# Which of the live messages a customer has had already: of these nothing more need be asked.
HAD = (
    "(SELECT array_agg(h.message_id) FROM delivery_deliveryrecord h WHERE h.customer_id = {customer}"
    f" AND h.message_id = ANY({{live}}::bigint[]) AND h.status <> '{Status.WITHDRAWN}')"
)
# What is live is asked anew in the statement itself: a pause may have been committed since the compiled was kept.
MAKE = (
    "made AS (INSERT INTO delivery_deliveryrecord AS r (message_id, version_id, customer_id, company_id, status,"
    " reason, due_at, sent_at, matched_at, judged_last_seen_at, judged_company_last_seen_at, detail, attempts,"
    " provider_id, filled)"
    " SELECT message_id, CASE WHEN in_app THEN m.version_id END, customer_id, company_id,"
    f" CASE WHEN in_app THEN '{Status.SENT}' ELSE '{Status.WAITING}' END,"
    f" CASE WHEN in_app THEN '' WHEN opening IS NULL THEN '{Reason.QUEUED}' ELSE '{Reason.WINDOW}' END,"
    " CASE WHEN NOT in_app THEN coalesce(opening, %(now)s::timestamptz) END,"
    " CASE WHEN in_app THEN %(now)s::timestamptz END,"
    " %(now)s::timestamptz, last_seen, %(company_last_seen)s::timestamptz, '', 0, '',"
    f" CASE WHEN in_app THEN {FILLED.format(message='message_id')} ELSE '{{}}'::jsonb END"
    " FROM (SELECT *, row_number() OVER (PARTITION BY in_app ORDER BY message_id, company_id) AS place"
    " FROM matched WHERE record_id IS NULL) AS matched"
    " JOIN messaging_message m ON m.id = message_id AND m.state IN ('live', 'sampled')"
    " WHERE NOT in_app OR %(room)s::int IS NULL OR place <= %(room)s::int"
    " ORDER BY message_id, company_id ON CONFLICT DO NOTHING"
    f" RETURNING {RETURNED})"
)
AGAIN = (
    f"again AS (UPDATE delivery_deliveryrecord r SET status = '{Status.WAITING}',"
    f" reason = CASE WHEN opening IS NULL THEN '{Reason.QUEUED}' ELSE '{Reason.WINDOW}' END,"
    " due_at = coalesce(opening, %(now)s::timestamptz), matched_at = %(now)s::timestamptz, attempts = 0,"
    " judged_last_seen_at = last_seen, judged_company_last_seen_at = %(company_last_seen)s::timestamptz"
    " FROM matched JOIN messaging_message m ON m.id = matched.message_id AND m.state IN ('live', 'sampled')"
    " WHERE r.id = matched.record_id AND NOT in_app"
    f" RETURNING {RETURNED})"
)
CAME = (
    f"came AS (UPDATE delivery_deliveryrecord r SET status = '{Status.SENT}', sent_at = %(now)s::timestamptz,"
    f" reason = '', version_id = m.version_id, filled = {FILLED.format(message='m.id')} FROM messaging_message m"
    " WHERE %(visiting)s::boolean AND (SELECT fresh FROM asked)"
    " AND m.id = r.message_id AND m.state IN ('live', 'sampled')"
    # Whatever is locked is being withdrawn.
    " AND r.id IN (SELECT w.id FROM delivery_deliveryrecord w WHERE w.customer_id = %(customer)s::bigint"
    f" AND w.status = '{Status.WAITING}' AND w.reason = '{Reason.VISIT}' FOR NO KEY UPDATE SKIP LOCKED)"
    " AND (m.to_customer_id = r.customer_id OR m.id = ANY(%(came)s::bigint[]))"
    f" RETURNING {RETURNED})"
)
# A message that is shown for the first time begins a conversation.
FIRST = "SELECT * FROM made WHERE sent_at IS NOT NULL UNION ALL SELECT * FROM came"
SAW = (
    "saw AS (UPDATE audiences_customer SET last_seen_at = %(now)s::timestamptz, last_contacted_at ="
    f" CASE WHEN EXISTS ({FIRST}) THEN %(now)s::timestamptz ELSE last_contacted_at END"
    " WHERE id = %(customer)s::bigint AND %(visiting)s::boolean AND (SELECT fresh FROM asked)),"
    " saw_company AS (UPDATE audiences_company SET last_seen_at = %(now)s::timestamptz"
    " WHERE id = %(company)s::bigint AND %(visiting)s::boolean AND (SELECT fresh FROM asked))"
)
ANSWER = (
    "SELECT asked.fresh, found.id, found.sent_at, found.is_new, found.message_id, found.version_id, found.company_id,"
    " found.filled, m.format, s.name, m.to_customer_id IS NOT NULL, begun.id FROM asked LEFT JOIN ("
    "SELECT *, TRUE AS is_new FROM made"
    " UNION ALL SELECT *, TRUE FROM again"
    " UNION ALL SELECT *, TRUE FROM came"
    f" UNION ALL SELECT {RETURNED}, FALSE"
    " FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id"
    " WHERE %(visiting)s::boolean AND r.customer_id = %(customer)s::bigint"
    f" AND m.channel = '{Channel.IN_APP}' AND r.status = '{Status.SENT}'"
    " AND r.opened_at IS NULL AND r.dismissed_at IS NULL) AS found ON TRUE"
    " LEFT JOIN messaging_message m ON m.id = found.message_id LEFT JOIN messaging_sender s ON s.id = m.sender_id"
    " LEFT JOIN begun ON begun.record_id = found.id"
)
NOBODY = (
    "SELECT NULL::bigint AS message_id, NULL::bigint AS customer_id,"
    " NULL::bigint AS company_id, NULL::timestamptz AS last_seen, NULL::boolean AS in_app,"
    " NULL::timestamptz AS opening, NULL::bigint AS record_id WHERE FALSE"
)


@lru_cache(maxsize=4)
def statement(live: LiveMessages) -> tuple[bytes, list[str]]:
    """The one statement that judges all live messages, and what is put in its places $1, $2 …

    The values of rules stand in it as literals: they are the same for every visit, the planner knows what to expect,
    and each visit binds a handful of values instead of hundreds.
    """
    params: dict[str, Any] = {}
    branches = []
    for message in live.ongoing:
        assert message.condition is not None  # noqa: S101 - ongoing ones are compiled
        params |= message.condition.params
        branches.append(branch(message))
    matched = " UNION ALL ".join(branches) or NOBODY
    matched = f"SELECT * FROM ({matched}) AS matches WHERE (SELECT fresh FROM asked)"
    sql = f"WITH {ASKED}, matched AS MATERIALIZED ({matched}), {MAKE}, {AGAIN}, {CAME}, {begun()}, {SAW} {ANSWER}"
    params["names"] = json.dumps({message.pk: message.names for message in live.all() if message.names})
    places: list[str] = []

    def written(place: re.Match[str]) -> str:
        name = place[1]
        if name in params:
            return Literal(params[name]).as_string(connection.connection)
        if name not in places:
            places.append(name)
        return f"${places.index(name) + 1}"

    return PLACE.sub(written, sql).encode(), places


def begun() -> str:
    """SQL that opens the conversations, with what Django would fill in for whatever is not said here."""
    said = {
        "customer_id": "%(customer)s::bigint",
        "record_id": "first.id",
        "created_at": "%(now)s::timestamptz",
        "updated_at": "%(now)s::timestamptz",
    }
    for field in Conversation._meta.concrete_fields:
        if field.column and field.column not in said and not field.primary_key:
            value = field.get_db_prep_save(field.get_default(), connection)
            said[field.column] = "NULL" if value is None else Literal(value).as_string(connection.connection)
    columns, values = ", ".join(said), ", ".join(said.values())
    return (
        f"begun AS (INSERT INTO delivery_conversation ({columns}) SELECT {values} FROM ({FIRST}) AS first"
        " RETURNING id, record_id)"
    )


def branch(message: Live) -> str:
    """SQL for what one ongoing message asks of the customer: its pairs that match, and their withdrawn records."""
    assert message.condition is not None  # noqa: S101 - ongoing ones are compiled
    company = "k.id" if message.per_company else "NULL::bigint"
    in_app = message.channel == Channel.IN_APP
    pairs = message.condition.pairs(
        per_company=message.per_company,
        joins=(
            f" LEFT JOIN delivery_deliveryrecord r ON r.message_id = {message.pk} AND r.customer_id = c.id"
            f" AND r.company_id IS NOT DISTINCT FROM {company}"
        ),
        where=(
            f"{message.pk} = ANY(%(judged)s::bigint[]) AND c.id = %(customer)s::bigint AND {message.reachable}"
            f" AND (r.id IS NULL OR (r.status = '{Status.WITHDRAWN}' AND r.reason <> '{Reason.STOPPED}'))"
            + (" AND k.id IS NOT NULL" if message.per_company else "")
        ),
        columns=", c.last_seen_at AS last_seen, r.id AS record_id",
    )
    return (
        f"SELECT {message.pk}::bigint AS message_id, customer_id, company_id, last_seen, {in_app} AS in_app,"
        f" (%(openings)s::jsonb ->> '{message.pk}')::timestamptz AS opening, record_id FROM ({pairs}) AS pairs"
    )
