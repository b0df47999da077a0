"""Customers that a dry run would create, stored apart so that later lines of the file find them.

They are deleted at the end of the dry run.
"""

from typing import Any

FACT_COLUMNS = (
    *("phone", "signed_up_at", "last_seen_at", "country", "city", "timezone", "language"),
    *("unsubscribed_from_emails", "company_id", "company", "tags"),
)
PAIRS = ", ".join(f"'{name}', i.{name}" for name in FACT_COLUMNS)


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
NEW_FACTS = facts_sql("''")

# Like `upsert.FIND_CUSTOMER`, for these rows. Of two lines about one of them the later waits for the next round.
FIND_EARLIER = """
ALTER TABLE resolved ADD COLUMN newcomer bigint;
UPDATE resolved i SET newcomer = coalesce(
    (SELECT n.id FROM audiences_importnewcomer n WHERE n.of_id = {job} AND n.user_id = i.user_id),
    (SELECT n.id FROM audiences_importnewcomer n WHERE n.of_id = {job} AND n.email = i.email
     AND (i.user_id IS NULL OR n.user_id IS NULL) ORDER BY n.user_id IS NOT NULL, n.id LIMIT 1))
WHERE i.now AND i.customer_id IS NULL;
UPDATE resolved i SET now = FALSE FROM (
    SELECT line, row_number() OVER (PARTITION BY newcomer ORDER BY line) AS turn FROM resolved
    WHERE now AND newcomer IS NOT NULL) AS turns
WHERE turns.line = i.line AND turns.turn > 1
"""
UPDATE_EARLIER = f"""
UPDATE audiences_importnewcomer n SET user_id = coalesce(i.user_id, n.user_id), email = coalesce(i.email, n.email),
    facts = n.facts || {FACTS}, attributes = n.attributes || coalesce(i.attributes, '{{}}')
FROM resolved i WHERE i.now AND n.id = i.newcomer AND (
    coalesce(i.user_id, n.user_id), coalesce(i.email, n.email), n.facts || {FACTS},
    n.attributes || coalesce(i.attributes, '{{}}')) IS DISTINCT FROM (n.user_id, n.email, n.facts, n.attributes)
"""
INSERT_NEW = f"""
INSERT INTO audiences_importnewcomer (of_id, user_id, email, facts, attributes)
SELECT %(job)s, i.user_id, i.email, {NEW_FACTS}, coalesce(i.attributes, '{{}}') FROM resolved i
WHERE i.now AND i.customer_id IS NULL AND i.newcomer IS NULL ORDER BY i.line
"""


def match_earlier_lines(cursor: Any, *, job: int) -> int:
    """Match rows to customers that earlier lines would create; return how many of these the round would change."""
    cursor.execute(FIND_EARLIER.format(job=int(job)))
    cursor.execute(UPDATE_EARLIER)
    return int(cursor.rowcount)


def store_new_customers(cursor: Any, *, job: int) -> int:
    """Store the customers that this round would create; return how many."""
    cursor.execute(INSERT_NEW, {"job": job})
    return int(cursor.rowcount)
