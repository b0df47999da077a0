"""Hits: the candidates of a round who match and need a record, judged for all messages in one statement.

Many messages share rules. A rule that several of them have is evaluated once for each candidate: planning the rules of
a thousand messages takes longer than evaluating them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from audiences.compiler import COMPANY_OF_PAIR
from audiences.transactions import with_index_lookups
from delivery.eligibility.live_messages import Live
from delivery.matching import sql
from delivery.matching.changes import CANDIDATES, HITS, Followed

# How many messages have a rule in common before it is evaluated for every candidate that a change of it concerns, also
# for those who fail another rule. How many such rules and how many conditions of reachability have columns at most;
# PostgreSQL limits a row to 1,664.
SHARED_FROM, MAX_SHARED, MAX_GATES = 4, 1_000, 600
# The records of a customer `h`: looked up for each message that matches; all at once if that is about as many.
RECORDS = " UNION ALL ".join(
    "SELECT r.message_id, r.company_id, r.status, r.reason FROM delivery_deliveryrecord r"
    f" WHERE r.customer_id = h.customer_id AND {which}"
    for which in (
        "r.message_id = ANY(h.messages) AND cardinality(h.messages) <= %(few)s::int",
        "cardinality(h.messages) > %(few)s::int",
    )
)


def store_hits(followed: Sequence[Followed], *, at: datetime) -> list[int]:
    """Judge the candidates for all messages, and store those who match and need a record.

    Return the messages with hits.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce(bit_or(bits), 0) FROM {CANDIDATES}")
        changed = cursor.fetchone()[0]
    by_company: dict[bool, list[Followed]] = {False: [], True: []}
    params: dict[str, Any] = {"now": at, "few": few_records()}
    for one in followed:
        if one.dependencies.bits & changed:
            by_company[sees_company(one.live)].append(one)
            params |= one.condition.params
    selects = [hits_select(asked, joins_company=joins) for joins, asked in by_company.items() if asked]
    if not selects:
        return []
    with transaction.atomic():
        with with_index_lookups():
            sql.execute(f"CREATE TEMPORARY TABLE {HITS} AS {' UNION '.join(selects)}", params)
        sql.execute(f"ANALYZE {HITS}", {})
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT message_id FROM {HITS} ORDER BY message_id")
        return [pk for (pk,) in cursor.fetchall()]


def few_records() -> int:
    """Return up to how many records of a customer are looked up one by one: half of the average, as estimated."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (r.reltuples / greatest(c.reltuples, 1) / 2)::int FROM pg_class r, pg_class c"
            " WHERE r.oid = 'delivery_deliveryrecord'::regclass AND c.oid = 'audiences_customer'::regclass"
        )
        return int(cursor.fetchone()[0])


def hits_select(asked: Sequence[Followed], *, joins_company: bool) -> str:
    """Return SQL for the pairs of message and customer that match and have no record, or a withdrawn one.

    The rules are one array, as PostgreSQL would prepare the rows of VALUES anew for each customer. The records of all
    messages that a customer matches are read by one index scan, as most of these pairs matched before.
    """
    gates: dict[str, str] = {}
    shared = shared_rules(asked)
    tests = ", ".join(
        f"CASE WHEN {column_of_gate(gate_sql(one), gates)} AND {match_expression(one, shared)}"
        f" THEN {one.live.pk}::bigint END"
        for one in asked
    )
    columns = [
        *(f"{expression} AS {name}" for expression, name in gates.items()),
        *(f"CASE WHEN n.bits & {bits}::bigint <> 0 THEN {rule} END AS {name}" for rule, bits, name in shared.values()),
    ]
    each = ", ".join(str(one.live.pk) for one in asked if one.live.per_company)
    company, join = ("k.id", COMPANY_OF_PAIR) if joins_company else ("NULL::bigint", "")
    pair = f"CASE WHEN r.message_id IN ({each}) THEN h.company_id END" if each else "NULL::bigint"
    return (
        "SELECT m.message_id, h.customer_id"
        f" FROM (SELECT c.id AS customer_id, {company} AS company_id, array_remove(ARRAY[{tests}], NULL) AS messages"
        f" FROM {CANDIDATES} n JOIN audiences_customer c ON c.id = n.customer_id{join}"
        # OFFSET keeps the planner from computing an expression again wherever it is used.
        f" CROSS JOIN LATERAL (SELECT {', '.join(columns)} OFFSET 0) AS s WHERE c.archived_at IS NULL OFFSET 0) AS h"
        f" CROSS JOIN LATERAL (SELECT array_agg(r.message_id) AS messages FROM ({RECORDS}) AS r"
        f" WHERE r.company_id IS NOT DISTINCT FROM {pair} AND NOT {sql.IS_WITHDRAWN}) AS d"
        " CROSS JOIN LATERAL unnest(h.messages) AS m (message_id)"
        " WHERE h.messages <> '{}' AND (m.message_id = ANY(d.messages)) IS NOT TRUE"
    )


def gate_sql(one: Followed) -> str:
    """Return SQL for whether a change concerns the message, and it can reach the current pair."""
    member = " AND k.id IS NOT NULL" if one.live.per_company else ""
    return f"(n.bits & {one.dependencies.bits}::bigint <> 0{member} AND {one.live.reachable})"


def column_of_gate(gate: str, gates: dict[str, str]) -> str:
    """Return the column that has the value of this condition, after adding it; the condition if there are too many."""
    if gate not in gates and len(gates) == MAX_GATES:
        return gate
    return f"s.{gates.setdefault(gate, f'g{len(gates)}')}"


def shared_rules(asked: Iterable[Followed]) -> dict[str, tuple[str, int, str]]:
    """Return the rules that several messages share: by meaning the SQL, the bits that concern it, and its column.

    A rule is evaluated for the customers whose changes concern one of its messages.
    """
    found: dict[str, str] = {}
    bits: defaultdict[str, int] = defaultdict(int)
    uses: Counter[str] = Counter()
    for one in asked:
        found |= one.dependencies.rules
        uses.update(one.dependencies.rules.keys())
        for meaning in one.dependencies.rules:
            bits[meaning] |= one.dependencies.bits
    common = [meaning for meaning, times in uses.most_common(MAX_SHARED) if times >= SHARED_FROM]
    return {meaning: (found[meaning], bits[meaning], f"r{number}") for number, meaning in enumerate(common)}


def match_expression(one: Followed, shared: Mapping[str, tuple[str, int, str]]) -> str:
    """Return SQL for whether the current pair matches, with the names of shared rules in place of their SQL."""
    expression = one.condition.match_expression
    for meaning, rule in one.dependencies.rules.items():
        if meaning in shared:
            expression = expression.replace(rule, f"s.{shared[meaning][2]}")
    return expression


def sees_company(live: Live) -> bool:
    return live.per_company or live.compiled.sees_company
