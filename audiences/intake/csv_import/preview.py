"""Customers as a dry run would leave them, stored apart so that later lines of the file find them.

A line about a customer of an earlier line repeats them. The rows are deleted at the end of the dry run.
"""

import json
from typing import Any

from audiences.attributes import CUSTOM

STORED_COLUMNS = (
    *("phone", "signed_up_at", "last_seen_at", "country", "city", "timezone", "language"),
    "unsubscribed_from_emails",
)
# Values that a line adds to those of the customer.
ADDED_COLUMNS = ("company_id", "company", "tags")
PAIRS = ", ".join(f"'{name}', i.{name}" for name in (*STORED_COLUMNS, *ADDED_COLUMNS))
STORED_PAIRS = ", ".join(f"'{name}', c.{name}" for name in STORED_COLUMNS)


def name_sql(current: str) -> str:
    """Return the SQL for the name that a row `i` leaves a customer with.

    A row has a first or a last name only if it has not both; the customer keeps the other part.
    """
    return f"""CASE WHEN i.first_name IS NULL AND i.last_name IS NULL THEN coalesce(i.name, {current})
    ELSE btrim(coalesce(i.first_name, split_part({current}, ' ', 1)) || ' '
        || coalesce(i.last_name, ltrim(substr({current}, strpos({current} || ' ', ' '))))) END"""


def facts_sql(current_name: str) -> str:
    """Return the SQL for the facts in a row `i` about a customer who has this name now."""
    return f"jsonb_strip_nulls(jsonb_build_object('name', {name_sql(current_name)}, {PAIRS}))"


FACTS = facts_sql("coalesce(n.facts ->> 'name', '')")
# Like `upsert.FIND_CUSTOMER`, for these rows. Of two lines about one of them the later waits for the next round.
FIND_EARLIER = """
ALTER TABLE resolved ADD COLUMN preview bigint;
UPDATE resolved i SET preview = CASE WHEN i.customer_id IS NOT NULL
    THEN (SELECT n.id FROM audiences_importpreview n WHERE n.of_id = {job} AND n.existing = i.customer_id)
    ELSE coalesce(
        (SELECT n.id FROM audiences_importpreview n WHERE n.of_id = {job} AND n.user_id = i.user_id),
        (SELECT n.id FROM audiences_importpreview n WHERE n.of_id = {job} AND n.email = i.email
         AND (i.user_id IS NULL OR n.user_id IS NULL) ORDER BY n.user_id IS NOT NULL, n.id LIMIT 1)) END
WHERE i.now;
UPDATE resolved i SET now = FALSE FROM (
    SELECT line, row_number() OVER (PARTITION BY preview ORDER BY line) AS turn FROM resolved
    WHERE now AND preview IS NOT NULL) AS turns
WHERE turns.line = i.line AND turns.turn > 1
"""
COUNT_REPEATED = "SELECT count(*) FROM resolved WHERE now AND preview IS NOT NULL"
# The values that this line changes, of the customer as earlier lines leave them.
REPLACED = f"""
SELECT i.line, n.line, f.name, f.before, f.after
FROM resolved i JOIN audiences_importpreview n ON n.id = i.preview
CROSS JOIN LATERAL (
    SELECT key AS name, n.facts -> key AS before, value AS after FROM jsonb_each({FACTS}) AS e (key, value)
    UNION ALL SELECT '{CUSTOM}' || key, n.attributes -> key, value
    FROM jsonb_each(coalesce(i.attributes, '{{}}')) AS a (key, value)
    UNION ALL SELECT 'user_id', to_jsonb(n.user_id), to_jsonb(i.user_id) WHERE i.user_id IS NOT NULL
    UNION ALL SELECT 'email', to_jsonb(n.email), to_jsonb(i.email) WHERE i.email IS NOT NULL
) AS f
WHERE i.now AND f.before IS DISTINCT FROM f.after ORDER BY i.line, f.name
"""
UPDATE_EARLIER = f"""
UPDATE audiences_importpreview n SET user_id = coalesce(i.user_id, n.user_id), email = coalesce(i.email, n.email),
    facts = n.facts || {FACTS}, attributes = n.attributes || coalesce(i.attributes, '{{}}')
FROM resolved i WHERE i.now AND n.id = i.preview AND (
    coalesce(i.user_id, n.user_id), coalesce(i.email, n.email), n.facts || {FACTS},
    n.attributes || coalesce(i.attributes, '{{}}')) IS DISTINCT FROM (n.user_id, n.email, n.facts, n.attributes)
"""
NOTE_LINES = "UPDATE audiences_importpreview n SET line = i.line FROM resolved i WHERE i.now AND n.id = i.preview"
COUNT_NEW = "SELECT count(*) FROM resolved WHERE now AND preview IS NULL AND customer_id IS NULL"
INSERT_PREVIEWS = f"""
INSERT INTO audiences_importpreview (of_id, line, existing, user_id, email, facts, attributes)
SELECT %(job)s, i.line, i.customer_id, coalesce(i.user_id, c.user_id), coalesce(i.email, c.email),
    jsonb_strip_nulls(jsonb_build_object({STORED_PAIRS})) || {facts_sql("coalesce(c.name, '')")},
    coalesce(c.attributes, '{{}}') || coalesce(i.attributes, '{{}}')
FROM resolved i LEFT JOIN audiences_customer c ON c.id = i.customer_id
WHERE i.now AND i.preview IS NULL ORDER BY i.line
"""

# Line, earlier line, field, old value (None if there was none) and new value.
Replaced = tuple[int, int, str, Any, Any]


def match_earlier_lines(cursor: Any, *, job: int) -> int:
    """Match rows to the customers of earlier lines; return how many rows repeat one."""
    cursor.execute(FIND_EARLIER.format(job=int(job)))
    cursor.execute(COUNT_REPEATED)
    return int(cursor.fetchone()[0])


def replaced_values(cursor: Any) -> list[Replaced]:
    """Return the values of earlier lines that this round changes."""
    cursor.execute(REPLACED)
    return [
        (line, earlier, name, None if before is None else json.loads(before), json.loads(after))
        for line, earlier, name, before, after in cursor.fetchall()
    ]


def update_earlier(cursor: Any) -> int:
    """Write the rows that repeat a customer to the stored ones; return how many change them."""
    cursor.execute(UPDATE_EARLIER)
    changed = int(cursor.rowcount)
    cursor.execute(NOTE_LINES)
    return changed


def store_previews(cursor: Any, *, job: int) -> int:
    """Store the customers of this round that no earlier line is about; return how many of them are new."""
    cursor.execute(COUNT_NEW)
    new = int(cursor.fetchone()[0])
    cursor.execute(INSERT_PREVIEWS, {"job": job})
    return new
