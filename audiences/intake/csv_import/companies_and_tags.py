"""Companies and tags of the customers in a file: missing ones are created, and the customers added to them.

A company is identified by its ID. If the file has only a name, it means the one company with this name; if there is no
such company or more than one, the name becomes the ID.
"""

from datetime import datetime
from typing import Any

# The rows of this round with their customers, which exist by now.
CREATE_MEANT = """
CREATE TEMPORARY TABLE meant ON COMMIT DROP AS
WITH called AS (
    SELECT k.name, min(k.company_id) AS company_id FROM audiences_company k
    WHERE k.name IN (SELECT company FROM resolved WHERE now AND company_id IS NULL AND company <> '')
    GROUP BY k.name HAVING count(*) = 1)
SELECT i.line, i.tags, nullif(i.company, '') AS company,
    coalesce(i.company_id, called.company_id, nullif(i.company, '')) AS company_id,
    coalesce(i.customer_id, (SELECT c.id FROM audiences_customer c WHERE c.user_id = i.user_id), (
        SELECT c.id FROM audiences_customer c WHERE c.email = i.email AND i.user_id IS NULL AND c.user_id IS NULL
        AND NOT c.email_is_said ORDER BY c.id DESC LIMIT 1)) AS customer_id
FROM resolved i LEFT JOIN called ON called.name = i.company
WHERE now AND (i.company_id IS NOT NULL OR i.company <> '' OR i.tags IS NOT NULL)
"""
INSERT_COMPANIES = """
INSERT INTO audiences_company (company_id, name, plan, industry, website, created_at, updated_at, session_count,
    attributes)
SELECT DISTINCT ON (company_id) company_id, coalesce(company, ''), '', '', '', %(at)s, %(at)s, 0, '{}'
FROM meant WHERE company_id IS NOT NULL ORDER BY company_id, company IS NULL, line DESC
ON CONFLICT DO NOTHING
"""
UPDATE_NAMES = """
WITH called AS (
    SELECT DISTINCT ON (company_id) company_id, company FROM meant WHERE company_id IS NOT NULL
    ORDER BY company_id, company IS NULL, line DESC),
held AS MATERIALIZED (
    SELECT k.id, coalesce(called.company, k.name) AS name FROM audiences_company k JOIN called USING (company_id)
    WHERE k.archived_at IS NOT NULL OR k.name IS DISTINCT FROM coalesce(called.company, k.name)
    ORDER BY k.company_id FOR NO KEY UPDATE OF k)
UPDATE audiences_company k SET name = held.name, archived_at = NULL, updated_at = %(at)s FROM held WHERE k.id = held.id
"""
INSERT_MEMBERSHIPS = """
WITH added AS (
    INSERT INTO audiences_membership (customer_id, company_id, created_at)
    SELECT DISTINCT m.customer_id, k.id, %(at)s::timestamptz FROM meant m JOIN audiences_company k USING (company_id)
    WHERE m.customer_id IS NOT NULL ORDER BY 1, 2 ON CONFLICT DO NOTHING RETURNING customer_id, company_id)
INSERT INTO added_relations SELECT customer_id, NULL, company_id FROM added
"""
INSERT_TAGS = """
INSERT INTO audiences_tag (name, created_at)
SELECT DISTINCT ON (lower(t.name)) t.name, %(at)s::timestamptz
FROM meant, jsonb_array_elements_text(tags) AS t (name) ORDER BY lower(t.name), t.name ON CONFLICT DO NOTHING
"""
INSERT_CUSTOMER_TAGS = """
WITH added AS (
    INSERT INTO audiences_customertag (customer_id, tag_id, created_at)
    SELECT DISTINCT m.customer_id, g.id, %(at)s::timestamptz FROM meant m
    CROSS JOIN jsonb_array_elements_text(m.tags) AS t (name) JOIN audiences_tag g ON lower(g.name) = lower(t.name)
    WHERE m.customer_id IS NOT NULL ORDER BY 1, 2 ON CONFLICT DO NOTHING RETURNING customer_id, tag_id)
INSERT INTO added_relations SELECT customer_id, tag_id, NULL FROM added
"""
# Existing customers who would get a new company or tag.
COUNT_NEW_RELATIONS = """
SELECT count(*) FROM resolved i JOIN audiences_customer c ON c.id = i.customer_id
WHERE i.now AND {among} AND NOT ({changes}) AND (
    EXISTS (SELECT FROM jsonb_array_elements_text(i.tags) AS t (name) WHERE NOT EXISTS (
        SELECT FROM audiences_customertag ct JOIN audiences_tag g ON g.id = ct.tag_id
        WHERE ct.customer_id = c.id AND lower(g.name) = lower(t.name)))
    OR (coalesce(i.company_id, nullif(i.company, '')) IS NOT NULL AND NOT EXISTS (
        SELECT FROM audiences_membership m JOIN audiences_company k ON k.id = m.company_id WHERE m.customer_id = c.id
        AND (k.company_id = i.company_id OR (i.company_id IS NULL AND i.company IN (k.name, k.company_id))))))
"""


def count_new_relations(cursor: Any, *, changes: str, among: str = "TRUE") -> int:
    """Return how many customers of this round, in rows that match `among`, would only get a new company or tag."""
    cursor.execute(COUNT_NEW_RELATIONS.format(changes=changes, among=among))
    return int(cursor.fetchone()[0])


def write_relations(cursor: Any, *, at: datetime) -> None:
    """Create missing companies and tags, and add this round's customers to them."""
    cursor.execute("DROP TABLE IF EXISTS meant")
    cursor.execute(CREATE_MEANT)
    for statement in (INSERT_COMPANIES, UPDATE_NAMES, INSERT_MEMBERSHIPS, INSERT_TAGS, INSERT_CUSTOMER_TAGS):
        cursor.execute(statement, {"at": at})
