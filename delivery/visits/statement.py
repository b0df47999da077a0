"""The SQL statement of a visit: match all live messages for one customer, insert records, return what to show.

It also moves the last-seen values. All its parts see the rows as they were before the visit (behaviour 4.6).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import psycopg
from django.db import connection
from psycopg.sql import Literal

from audiences.compiler import COMPANY_OF_PAIR, PLACEHOLDER
from audiences.models.consent import opted_out_sql
from audiences.transactions import discard_old_plans
from delivery.eligibility import conditions, named_values
from delivery.eligibility.conditions import has_left_sql
from delivery.eligibility.live_messages import Live, LiveMessages
from delivery.models import IN_AN_INBOX, Conversation, Reason, Status
from messaging.models import Channel


@dataclass(frozen=True, slots=True)
class Row:
    """A record that the statement inserted or found. Records with a `sent_at` are in-app messages to show."""

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
    def from_database(cls, values: tuple[Any, ...]) -> "Row":
        """Build a row from database values; JSON arrives as text."""
        pk, sent_at, is_new, message, version, company, filled, *rest = values
        return cls(pk, sent_at, is_new, message, version, company, json.loads(filled), *rest)


def raw_cursor() -> psycopg.RawCursor[Any]:
    """Return a cursor of psycopg, which can prepare statements, in Django's open transaction."""
    connection.ensure_connection()
    discard_old_plans()
    return psycopg.RawCursor(connection.connection)


# The customer's records that wait for a visit. A locked one is being withdrawn by another transaction: it takes no room
# under a cap.
#
# Records are found by the customer or by their ids only. Otherwise PostgreSQL may read the whole index of another
# column: it estimates by old statistics, and a launch inserts a million records before they change. The status is an
# expression for this reason, too.
WAITING_RECORDS = (
    "theirs AS MATERIALIZED (SELECT w.id, w.message_id, w.customer_id, w.company_id, w.capped_since"
    " FROM delivery_deliveryrecord w WHERE w.customer_id = %(customer)s::bigint"
    f" AND w.status || '' = '{Status.WAITING}' AND w.reason = '{Reason.VISIT}' FOR NO KEY UPDATE SKIP LOCKED)"
)
IS_THEIRS = "r.id = ANY(ARRAY(SELECT id FROM theirs)) AND r.id = w.id"
RECORD_COLUMNS = "r.id, r.sent_at, r.message_id, r.version_id, r.company_id, r.variables"
# From the values of all variables, those that one message uses.
MESSAGE_VARIABLES = (
    "coalesce((SELECT jsonb_object_agg(v.key, v.value) FROM jsonb_each(%(values)s::jsonb) v"
    " WHERE %(names)s::jsonb -> {message}::text ? v.key), '{{}}'::jsonb)"
)
# If the messages that this process has compiled are outdated, nothing is matched and nothing written.
GENERATION_CHECK = (
    "asked AS MATERIALIZED (SELECT generation = %(generation)s::bigint AS fresh FROM audiences_workspace)"
)
# The live messages that a customer has received already: these need no matching.
RECEIVED_MESSAGES = (
    "(SELECT array_agg(h.message_id) FROM delivery_deliveryrecord h WHERE h.customer_id = {customer}"
    f" AND h.message_id = ANY({{live}}::bigint[]) AND h.status <> '{Status.WITHDRAWN}')"
)
# The frequency cap for in-app messages that are shown for the first time. The oldest waiting messages come first, each
# with all its copies. Direct messages ignore the cap. The other messages wait for a later visit; if they have waited
# for GIVE_UP_AFTER since the cap first held them back, they are skipped.
FREQUENCY_CAP = (
    "room AS MATERIALIZED (SELECT greatest(0, %(cap)s::int - count(*))::int AS n FROM delivery_deliveryrecord h"
    " JOIN messaging_message m ON m.id = h.message_id WHERE h.customer_id = %(customer)s::bigint"
    f" AND h.status IN {tuple(map(str, IN_AN_INBOX))} AND m.to_customer_id IS NULL"
    " AND coalesce(h.sent_at, h.taken_at) > %(capped_after)s::timestamptz),"
    " coming AS MATERIALIZED (SELECT w.message_id, count(*)::int AS copies,"
    " row_number() OVER (ORDER BY min(w.id)) AS place FROM theirs w"
    f" WHERE w.message_id = ANY(%(came)s::bigint[]) AND NOT {has_left_sql('w')}"
    " AND w.message_id {wanted} GROUP BY w.message_id),"
    # Recursive: a message with too many copies leaves the room to the messages after it.
    " tried AS (SELECT 0::bigint AS place, 0 AS taken, NULL::bigint AS message_id, 0 AS copies"
    " UNION ALL SELECT c.place, t.taken + fit.copies, CASE WHEN fit.copies > 0 THEN c.message_id END, fit.copies"
    " FROM tried t JOIN coming c ON c.place = t.place + 1 CROSS JOIN LATERAL (SELECT"
    " CASE WHEN t.taken + c.copies <= (SELECT n FROM room) THEN c.copies ELSE 0 END AS copies) AS fit),"
    " fits AS MATERIALIZED (SELECT message_id, copies FROM tried WHERE message_id IS NOT NULL),"
    " held AS (UPDATE delivery_deliveryrecord r SET capped_since = coalesce(r.capped_since, %(now)s::timestamptz),"
    f" status = CASE WHEN r.capped_since IS NULL THEN r.status ELSE '{Status.SKIPPED}' END,"
    f" reason = CASE WHEN r.capped_since IS NULL THEN r.reason ELSE '{Reason.CAP}' END,"
    " due_at = CASE WHEN r.capped_since IS NULL THEN r.due_at END"
    f" FROM theirs w WHERE (SELECT fresh FROM asked) AND {IS_THEIRS} AND w.message_id = ANY(%(came)s::bigint[])"
    f" AND w.message_id NOT IN (SELECT message_id FROM fits) AND NOT {has_left_sql('w')}"
    " AND w.message_id {wanted}"
    " AND (w.capped_since IS NULL OR w.capped_since <= %(give_up_before)s::timestamptz))"
)
# With a cap and without one: the room left for new matches, and the waiting messages that are shown now.
ROOM_LEFT = {
    True: "(SELECT n - coalesce((SELECT sum(copies) FROM fits), 0) FROM room)",
    False: "NULL::int",
}
IS_SHOWN_NOW = {True: "IN (SELECT message_id FROM fits)", False: "= ANY(%(came)s::bigint[])"}
# The statement checks the state again: a pause may have been committed after the messages were compiled.
INSERT_NEW_RECORDS = (
    "made AS (INSERT INTO delivery_deliveryrecord AS r (message_id, version_id, customer_id, company_id, status,"
    " reason, due_at, sent_at, matched_at, judged_last_seen_at, judged_company_last_seen_at, judged_values, detail,"
    " attempts, provider_id, variables)"
    " SELECT message_id, CASE WHEN in_app THEN m.version_id END, customer_id, company_id,"
    f" CASE WHEN in_app THEN '{Status.SENT}' ELSE '{Status.WAITING}' END,"
    f" CASE WHEN in_app THEN '' WHEN opening IS NULL THEN '{Reason.QUEUED}' ELSE '{Reason.WINDOW}' END,"
    " CASE WHEN NOT in_app THEN coalesce(opening, %(now)s::timestamptz) END,"
    " CASE WHEN in_app THEN %(now)s::timestamptz END,"
    " %(now)s::timestamptz, last_seen, %(company_last_seen)s::timestamptz, {judged_values}, '', 0, '',"
    f" CASE WHEN in_app THEN {MESSAGE_VARIABLES.format(message='message_id')} ELSE '{{}}'::jsonb END"
    " FROM (SELECT *, row_number() OVER (PARTITION BY in_app ORDER BY message_id, company_id) AS place"
    " FROM matched WHERE record_id IS NULL) AS matched"
    " JOIN messaging_message m ON m.id = message_id AND m.state IN ('live', 'sampled')"
    " WHERE NOT in_app OR {left} IS NULL OR place <= {left}"
    " ORDER BY message_id, company_id ON CONFLICT DO NOTHING"
    f" RETURNING {RECORD_COLUMNS})"
)
REQUEUE_WITHDRAWN = (
    f"again AS (UPDATE delivery_deliveryrecord r SET status = '{Status.WAITING}',"
    f" reason = CASE WHEN opening IS NULL THEN '{Reason.QUEUED}' ELSE '{Reason.WINDOW}' END,"
    " due_at = coalesce(opening, %(now)s::timestamptz), matched_at = %(now)s::timestamptz, attempts = 0,"
    " judged_last_seen_at = last_seen, judged_company_last_seen_at = %(company_last_seen)s::timestamptz,"
    " judged_values = {judged_values}"
    " FROM matched JOIN messaging_message m ON m.id = matched.message_id AND m.state IN ('live', 'sampled')"
    " WHERE r.id = ANY(ARRAY(SELECT record_id FROM matched)) AND r.id = matched.record_id AND NOT in_app"
    f" RETURNING {RECORD_COLUMNS})"
)
SHOW_WAITING = (
    f"came AS (UPDATE delivery_deliveryrecord r SET status = '{Status.SENT}', sent_at = %(now)s::timestamptz,"
    f" reason = '', version_id = m.version_id, variables = {MESSAGE_VARIABLES.format(message='m.id')}"
    " FROM theirs w JOIN messaging_message m ON m.id = w.message_id AND m.state IN ('live', 'sampled')"
    f" WHERE %(visiting)s::boolean AND (SELECT fresh FROM asked) AND {IS_THEIRS}"
    f" AND (m.to_customer_id = w.customer_id OR m.id {{comes}}) AND m.id {{wanted}} AND NOT {has_left_sql('w')}"
    f" RETURNING {RECORD_COLUMNS})"
)
# A record that would be shown now is skipped if the customer is no longer in the company it is about (behaviour 4.15).
SKIP_OTHER_COMPANIES = (
    f"left_out AS (UPDATE delivery_deliveryrecord r SET status = '{Status.SKIPPED}',"
    f" reason = '{Reason.LEFT_COMPANY}', due_at = NULL"
    " FROM theirs w JOIN messaging_message m ON m.id = w.message_id AND m.state IN ('live', 'sampled')"
    f" WHERE %(visiting)s::boolean AND (SELECT fresh FROM asked) AND {IS_THEIRS}"
    f" AND (m.to_customer_id = w.customer_id OR m.id = ANY(%(came)s::bigint[])) AND {has_left_sql('w')})"
)
# The waiting messages about a topic that the customer opted out of meanwhile; they are skipped (behaviour 4.28).
OPTED_OUT = (
    "opted_out AS MATERIALIZED (SELECT v.message_id FROM (VALUES {topics}) AS v(message_id, topic) WHERE {is_out})"
)
SKIP_OPTED_OUT = (
    f"unwanted AS (UPDATE delivery_deliveryrecord r SET status = '{Status.SKIPPED}',"
    f" reason = '{Reason.OPTED_OUT}', due_at = NULL"
    f" FROM theirs w WHERE %(visiting)s::boolean AND (SELECT fresh FROM asked) AND {IS_THEIRS}"
    " AND w.message_id IN (SELECT message_id FROM opted_out)"
    f" AND w.message_id = ANY(%(came)s::bigint[]) AND NOT {has_left_sql('w')})"
)
# Without such topics, the statement does not ask for them.
IS_WANTED = {True: "NOT IN (SELECT message_id FROM opted_out)", False: "IS NOT NULL"}
# Each message that is shown for the first time opens a conversation.
FIRST_SHOWN = "SELECT * FROM made WHERE sent_at IS NOT NULL UNION ALL SELECT * FROM came"
MOVE_LAST_SEEN = (
    "saw AS (UPDATE audiences_customer SET last_seen_at = %(now)s::timestamptz, last_contacted_at ="
    f" CASE WHEN EXISTS ({FIRST_SHOWN}) THEN %(now)s::timestamptz ELSE last_contacted_at END"
    " WHERE id = %(customer)s::bigint AND %(visiting)s::boolean AND (SELECT fresh FROM asked)),"
    " saw_company AS (UPDATE audiences_company SET last_seen_at = %(now)s::timestamptz"
    " WHERE id = %(company)s::bigint AND %(visiting)s::boolean AND (SELECT fresh FROM asked))"
)
# The in-app messages that the customer has neither opened nor dismissed.
UNREAD_RECORDS = (
    f"unread AS MATERIALIZED (SELECT {RECORD_COLUMNS} FROM delivery_deliveryrecord r WHERE %(visiting)s::boolean"
    f" AND r.customer_id = %(customer)s::bigint AND r.status = '{Status.SENT}'"
    " AND r.opened_at IS NULL AND r.dismissed_at IS NULL)"
)
RESULT = (
    "SELECT asked.fresh, found.id, found.sent_at, found.is_new, found.message_id, found.version_id, found.company_id,"
    " found.variables, m.format, s.name, m.to_customer_id IS NOT NULL, begun.id FROM asked LEFT JOIN ("
    "SELECT *, TRUE AS is_new FROM made"
    " UNION ALL SELECT *, TRUE FROM again"
    " UNION ALL SELECT *, TRUE FROM came"
    " UNION ALL SELECT unread.*, FALSE FROM unread JOIN messaging_message m ON m.id = unread.message_id"
    f" WHERE m.channel = '{Channel.IN_APP}'"
    " AND (m.shown_until IS NULL OR m.shown_until > %(now)s::timestamptz)) AS found ON TRUE"
    " LEFT JOIN messaging_message m ON m.id = found.message_id LEFT JOIN messaging_sender s ON s.id = m.sender_id"
    " LEFT JOIN begun ON begun.record_id = found.id"
)
NO_MATCHES = (
    "SELECT NULL::bigint AS message_id, NULL::bigint AS customer_id,"
    " NULL::bigint AS company_id, NULL::timestamptz AS last_seen, NULL::boolean AS in_app,"
    " NULL::timestamptz AS opening, NULL::bigint AS record_id WHERE FALSE"
)


@lru_cache(maxsize=8)
def statement(live: LiveMessages, *, is_capped: bool) -> tuple[bytes, list[str]]:
    """Return the statement that matches all live messages, and the names of its parameters $1, $2, …

    The values of rules are literals: they are the same for each visit, the planner can estimate with them, and each
    visit binds only a few values.
    """
    params: dict[str, Any] = {}
    for message in live.ongoing:
        params |= message.judged_at_visit.params
    by_company = {sees: [m for m in live.ongoing if sees_company(m) is sees] for sees in (False, True)}
    branches = [
        match_branch(asked, company=COMPANY_OF_PAIR if sees else "") for sees, asked in by_company.items() if asked
    ]
    matched = " UNION ALL ".join(branches) or NO_MATCHES
    matched = f"SELECT * FROM ({matched}) AS matches WHERE (SELECT fresh FROM asked)"
    topics = ", ".join(f"({message.pk}::bigint, {message.topic})" for message in live.one_off_in_app if message.topic)
    is_out = opted_out_sql("v.topic", customer="%(customer)s::bigint")
    wanted = IS_WANTED[bool(topics)]
    held_back = [OPTED_OUT.format(topics=topics, is_out=is_out), SKIP_OPTED_OUT] if topics else []
    if is_capped:
        held_back.append(FREQUENCY_CAP.replace("{wanted}", wanted))
    values, value_params = judged_values_sql(live.ongoing)
    params |= value_params
    insert, requeue = (
        part.replace("{judged_values}", values)
        for part in (INSERT_NEW_RECORDS.replace("{left}", ROOM_LEFT[is_capped]), REQUEUE_WITHDRAWN)
    )
    parts = [
        *(GENERATION_CHECK, WAITING_RECORDS, *held_back, f"matched AS MATERIALIZED ({matched})", insert, requeue),
        SHOW_WAITING.replace("{comes}", IS_SHOWN_NOW[is_capped]).replace("{wanted}", wanted),
        SKIP_OTHER_COMPANIES,
        insert_conversations(),
        MOVE_LAST_SEEN,
        UNREAD_RECORDS,
    ]
    sql = f"WITH RECURSIVE {', '.join(parts)} {RESULT}"
    params["names"] = json.dumps({message.pk: message.names for message in live.all() if message.names})
    places: list[str] = []

    def written(place: re.Match[str]) -> str:
        name = place[1]
        if name in params:
            return Literal(params[name]).as_string(connection.connection)
        if name not in places:
            places.append(name)
        return f"${places.index(name) + 1}"

    return PLACEHOLDER.sub(written, sql).encode(), places


def judged_values_sql(ongoing: Sequence[Live]) -> tuple[str, dict[str, Any]]:
    """Return SQL for the values that the rules of the matched message name, and its parameters.

    It is evaluated for matches only, with the rows as they were before the visit.
    """
    params: dict[str, Any] = {}
    cases = []
    for message in ongoing:
        values, value_params = named_values.named_values_sql(
            message.judged_at_visit.leaves,
            per_company=message.per_company,
            prefix=f"v{message.pk}_",
            view=conditions.AT_VISIT,
        )
        params |= value_params
        cases.append(f" WHEN {message.pk} THEN {values}")
    if not cases:
        return "NULL::jsonb", params
    return (
        f"(SELECT CASE matched.message_id{''.join(cases)} END FROM audiences_customer c"
        " LEFT JOIN audiences_company k ON k.id = matched.company_id WHERE c.id = matched.customer_id)"
    ), params


def insert_conversations() -> str:
    """Return SQL that opens the conversations, with Django's default for each column that is not given here."""
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
        f"begun AS (INSERT INTO delivery_conversation ({columns}) SELECT {values} FROM ({FIRST_SHOWN}) AS first"
        " RETURNING id, record_id)"
    )


def sees_company(message: Live) -> bool:
    return message.per_company or bool(message.condition and message.condition.sees_company)


def match_branch(asked: Sequence[Live], *, company: str) -> str:
    """Return SQL that yields the pairs of some ongoing messages that match, and their withdrawn records.

    The customer is read once for all messages, and the companies once if `company` joins them: one branch for each
    message spent more time on starting the branches than on matching.
    """
    rows = ", ".join(f"({message.pk}::bigint, {message_expression(message)})" for message in asked)
    pair = company_of_copy(asked) if company else "NULL::bigint"
    return (
        # A customer matches if any of their companies does; without a copy per company, one row is enough.
        f"SELECT {'DISTINCT ' if company else ''}v.message_id, c.id AS customer_id, {pair} AS company_id,"
        f" {conditions.AT_VISIT.last_seen} AS last_seen, v.message_id = ANY(%(in_app)s::bigint[]) AS in_app,"
        " (%(openings)s::jsonb ->> v.message_id::text)::timestamptz AS opening, r.id AS record_id"
        f" FROM audiences_customer c{company} CROSS JOIN LATERAL (VALUES {rows}) AS v(message_id, holds)"
        " LEFT JOIN delivery_deliveryrecord r ON r.message_id = v.message_id AND r.customer_id = c.id"
        f" AND r.company_id IS {f'NOT DISTINCT FROM {pair}' if company else 'NULL'}"
        " WHERE c.id = %(customer)s::bigint AND c.archived_at IS NULL AND v.holds"
        f" AND (r.id IS NULL OR (r.status = '{Status.WITHDRAWN}' AND r.reason <> '{Reason.STOPPED}'))"
    )


def message_expression(message: Live) -> str:
    """Return SQL for whether the current pair matches a message; NULL for messages that are not to be matched."""
    member = " AND k.id IS NOT NULL" if message.per_company else ""
    return (
        f"CASE WHEN {message.pk} = ANY(%(judged)s::bigint[]){member} AND {message.reachable}"
        f" THEN {message.judged_at_visit.match_expression} END"
    )


def company_of_copy(asked: Sequence[Live]) -> str:
    """Return SQL for the company of a copy: NULL for a message that each customer receives once."""
    each = ", ".join(str(message.pk) for message in asked if message.per_company)
    return f"CASE WHEN v.message_id IN ({each}) THEN k.id END" if each else "NULL::bigint"
