"""Upsert of a slice of customers with a few statements: copy to a temporary table, find, insert or update.

Rows find their customer as in behaviour 4.14: by id, else by user_id, then by email (the customer without user_id, else
the last seen; never a lead whose email is unproved). It changes the same columns as `intake.identify`.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any

from django.db import transaction

from audiences.intake.csv_import import companies_and_tags, effects, preview
from audiences.intake.identity_resolution import comparable_address
from audiences.models.suppression import COMPARABLE_FUNCTION, hash_sql, same_address_sql

MAX_ROUNDS = 50
ENCODER = json.JSONEncoder(ensure_ascii=False)

# Columns of the temporary table. NULL means not given.
COLUMNS: dict[str, str] = {
    "line": "bigint",
    "id": "bigint",
    "user_id": "text",
    "email": "text",
    "name": "text",
    "first_name": "text",
    "last_name": "text",
    "phone": "text",
    "signed_up_at": "timestamptz",
    "last_seen_at": "timestamptz",
    "country": "text",
    "city": "text",
    "timezone": "text",
    "language": "text",
    "unsubscribed_from_emails": "boolean",
    "attributes": "jsonb",
    "company_id": "text",
    "company": "text",
    "tags": "jsonb",
}
OUTBOUND_ID, USER_ID, EMAIL = map(list(COLUMNS).index, ("id", "user_id", "email"))
NAME, FIRST_NAME, LAST_NAME = map(list(COLUMNS).index, ("name", "first_name", "last_name"))
ATTRIBUTES = list(COLUMNS).index("attributes")
# The new value of each column, from the imported row `i` and the current customer `c`.
NEW_VALUES: dict[str, str] = {
    **{
        name: f"coalesce(i.{name}, c.{name})"
        for name in (
            *("user_id", "email", "phone", "signed_up_at", "last_seen_at"),
            *("country", "city", "timezone", "language"),
        )
    },
    "name": preview.name_sql("c.name"),
    # An address that only identifies the customer does not prove that it is theirs.
    "email_is_said": "c.email_is_said AND (i.email IS NULL OR i.by_email)",
    "role": "CASE WHEN i.user_id IS NOT NULL OR i.by_email THEN 'user' ELSE c.role END",
    "first_seen_at": "coalesce(c.first_seen_at, i.last_seen_at)",
    "unsubscribed_from_emails": (
        "CASE WHEN NOT i.unsubscribed_from_emails AND c.unsubscribed_by_customer_at IS NULL"
        " AND NOT c.opt_out_is_of_address THEN FALSE"
        " ELSE c.unsubscribed_from_emails OR coalesce(i.unsubscribed_from_emails, FALSE) END"
    ),
    "opt_out_is_of_address": "c.opt_out_is_of_address AND i.unsubscribed_from_emails IS NOT TRUE",
    "attributes": "c.attributes || coalesce(i.attributes, '{}')",
    "archived_at": "NULL",
}
CHANGES = (
    f"({', '.join(f'c.{name}' for name in NEW_VALUES if name != 'archived_at')}, c.archived_at IS NULL)"
    f" IS DISTINCT FROM ({', '.join(sql for name, sql in NEW_VALUES.items() if name != 'archived_at')}, TRUE)"
)

FIND_CUSTOMER = """
    CASE WHEN i.id IS NOT NULL THEN (SELECT c.id FROM audiences_customer c WHERE c.id = i.id)
    ELSE coalesce(
        (SELECT c.id FROM audiences_customer c WHERE c.user_id = i.user_id),
        (SELECT c.id FROM audiences_customer c WHERE c.email = i.email AND (i.user_id IS NULL OR c.user_id IS NULL)
         AND (c.user_id IS NOT NULL OR NOT c.email_is_said)
         ORDER BY c.archived_at IS NOT NULL, c.email_is_said, c.user_id IS NOT NULL,
             c.last_seen_at DESC NULLS LAST, c.id LIMIT 1)
    ) END
"""
# Of rows about the same customer only the first is `now`; the others wait for the next round and find its result.
WITH_FOUND = f"""
CREATE TEMPORARY TABLE resolved ON COMMIT DROP AS
WITH found AS (SELECT i.*, {FIND_CUSTOMER} AS customer_id FROM incoming i)
"""
BY_EMAIL = """
    id IS NULL AND customer_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM audiences_customer c WHERE c.user_id = turns.user_id) AS by_email
FROM turns
"""
RESOLVE = f"""{WITH_FOUND},
turns AS (
    SELECT *,
        CASE WHEN user_id IS NULL THEN 1 ELSE row_number() OVER (PARTITION BY user_id ORDER BY line) END AS by_user,
        CASE WHEN customer_id IS NULL THEN 1
             ELSE row_number() OVER (PARTITION BY customer_id ORDER BY line) END AS by_customer,
        CASE WHEN email IS NULL OR count(*) FILTER (WHERE user_id IS NULL) OVER (PARTITION BY email) = 0 THEN 1
             ELSE row_number() OVER (PARTITION BY email ORDER BY line) END AS by_address
    FROM found
)
SELECT turns.*, greatest(by_user, by_customer, by_address) = 1 AS now, {BY_EMAIL}
"""
# A faster version for slices without repeated user IDs and emails, which most are: sorting is most of the work.
RESOLVE_WITHOUT_DUPLICATES = f"""{WITH_FOUND},
turns AS (SELECT *, row_number() OVER (PARTITION BY customer_id ORDER BY line) AS by_customer FROM found)
SELECT turns.*, customer_id IS NULL OR by_customer = 1 AS now, {BY_EMAIL}
"""
CONFLICTS = """
DELETE FROM resolved i WHERE i.id IS NOT NULL AND (
    i.customer_id IS NULL
    OR EXISTS (SELECT FROM audiences_customer o WHERE o.user_id = i.user_id AND o.id <> i.customer_id)
    OR (i.user_id IS NULL AND EXISTS (
        SELECT FROM audiences_customer c JOIN audiences_customer o ON o.email = i.email AND o.user_id IS NULL
        AND NOT o.email_is_said AND o.id <> c.id WHERE c.id = i.customer_id AND c.user_id IS NULL)))
RETURNING line, id, customer_id
"""
COUNT_ROWS = """
SELECT count(*) FILTER (WHERE now), count(*) FILTER (WHERE now AND customer_id IS NULL), count(*), count(customer_id)
FROM resolved
"""
LOCK_CUSTOMERS = """
SELECT FROM audiences_customer WHERE id IN (SELECT customer_id FROM resolved) ORDER BY id FOR NO KEY UPDATE
"""
# While the lock was waited for, a customer may have been erased, merged or given another address: the row is not theirs
# any more, so it waits for the next round, which looks again.
LOOK_AGAIN = """
UPDATE resolved i SET now = FALSE FROM audiences_customer c
WHERE c.id = i.customer_id AND i.now AND i.id IS NULL
AND (c.user_id = i.user_id) IS NOT TRUE AND (c.email = i.email) IS NOT TRUE
"""
UPDATE_CUSTOMERS = f"""
WITH i AS MATERIALIZED (SELECT * FROM resolved WHERE now AND customer_id IS NOT NULL),
changed AS (
    UPDATE audiences_customer c SET {", ".join(f"{name} = {sql}" for name, sql in NEW_VALUES.items())},
        updated_at = %(at)s
    FROM i JOIN audiences_customer o ON o.id = i.customer_id WHERE c.id = i.customer_id AND {CHANGES}
    RETURNING i.line, {effects.CHANGES})
INSERT INTO changed_rows SELECT * FROM changed
"""
WOULD_CHANGE = f"""
SELECT count(*) FROM resolved i JOIN audiences_customer c ON c.id = i.customer_id
WHERE i.now AND i.preview IS NULL AND {CHANGES}
"""
INSERT_CUSTOMERS = """
INSERT INTO audiences_customer (user_id, email, role, name, phone, created_at, updated_at, signed_up_at, first_seen_at,
    last_seen_at, session_count, unsubscribed_from_emails, has_hard_bounced, marked_email_as_spam, timezone, country,
    city, language, browser, os, user_agent, last_seen_ip, details, attributes)
SELECT user_id, email, 'user', coalesce(name, first_name, last_name, ''), coalesce(phone, ''), %(at)s, %(at)s,
    signed_up_at, last_seen_at, last_seen_at, 0, coalesce(unsubscribed_from_emails, FALSE), FALSE, FALSE,
    coalesce(timezone, ''), coalesce(country, ''), coalesce(city, ''), coalesce(language, ''), '', '', '', '', '{}',
    coalesce(attributes, '{}')
FROM resolved WHERE now AND customer_id IS NULL ORDER BY line
"""
ADD_TAG = """
INSERT INTO audiences_customertag (customer_id, tag_id, created_at)
SELECT id, %(tag)s::bigint, %(at)s::timestamptz FROM ({of}) AS tagged (id) ORDER BY id ON CONFLICT DO NOTHING
"""
TAG_CREATED = ADD_TAG.format(of="SELECT id FROM made")
TAG_FOUND = f"""
WITH added AS (
    {ADD_TAG.format(of="SELECT customer_id FROM resolved WHERE now AND customer_id IS NOT NULL")} RETURNING customer_id)
INSERT INTO added_relations SELECT customer_id, %(tag)s::bigint, NULL FROM added
"""


def as_json(attributes: dict[str, Any]) -> str:
    # Most values are texts. An encoder of its own for each row takes five times as long.
    pairs = [
        f"{encode_basestring(name)}: {encode_basestring(value) if isinstance(value, str) else ENCODER.encode(value)}"
        for name, value in attributes.items()
    ]
    return f"{{{', '.join(pairs)}}}"


@dataclass(slots=True)
class SliceResult:
    """Counts and problems of a slice that was written or checked."""

    made: int = 0
    changed: int = 0
    unchanged: int = 0
    unmatched: int = 0
    # Of a dry run: rows about a customer of an earlier row, and those of them that change it again.
    repeated: int = 0
    repeated_changes: int = 0
    replaced: list[preview.Replaced] = field(default_factory=list)
    problems: list[tuple[int, str, str]] = field(default_factory=list)


def upsert_slice(
    cursor: Any,
    rows: Sequence[Sequence[Any]],
    *,
    tag: int | None,
    at: datetime,
    with_relations: bool = False,
    job: int | None = None,
    begins: int = 0,
) -> SliceResult:
    """Write a slice, in several rounds if it repeats a customer. `with_relations`: it has companies or tags.

    The effects of its lines are recorded if it belongs to the import `job`; `begins` is the number of lines before it.
    """
    given = {"tag": tag, "job": job, "begins": begins, "at": at}

    def write_now(new: int, found: int) -> tuple[int, int]:
        relations = companies_and_tags.count_new_relations(cursor, changes=CHANGES) if with_relations else 0
        if found or with_relations:
            effects.create_tables(cursor)
        changed = write_round(cursor, given, new=new, found=found)
        if with_relations:
            companies_and_tags.write_relations(cursor, at=at)
        if found and job is not None:
            effects.record_changed(cursor, job=job, at=at)
        return new, changed + relations

    return run_rounds(cursor, rows, do=write_now)


def dry_run_slice(cursor: Any, rows: Sequence[Sequence[Any]], *, job: int, with_relations: bool = False) -> SliceResult:
    """Return the result a slice would have, and write no customer. Later slices see the effect it would have."""
    repeats = SliceResult()

    def count_now(_new: int, _found: int) -> tuple[int, int]:
        changed_again = 0
        if repeated := preview.match_earlier_lines(cursor, job=job):
            repeats.replaced += preview.replaced_values(cursor)
            changed_again = preview.update_earlier(cursor)
        repeats.repeated += repeated
        repeats.repeated_changes += changed_again
        changed = changed_again + count_changes(cursor)
        if with_relations:
            changed += companies_and_tags.count_new_relations(cursor, changes=CHANGES, among="i.preview IS NULL")
        return preview.store_previews(cursor, job=job), changed

    result = run_rounds(cursor, rows, do=count_now)
    result.repeated, result.repeated_changes = repeats.repeated, repeats.repeated_changes
    result.replaced = repeats.replaced
    return result


def run_rounds(cursor: Any, rows: Sequence[Sequence[Any]], *, do: Callable[[int, int], tuple[int, int]]) -> SliceResult:
    """Find the customers of a slice and call `do`, again for each round of rows that repeat a customer.

    `do` gets the numbers of new customers and of rows that found theirs, and returns how many it created and how many
    it changed.
    """
    outcome = SliceResult()
    if not rows:
        return outcome
    stage_rows(cursor, rows)
    first = RESOLVE_WITHOUT_DUPLICATES if has_no_duplicates(rows) else RESOLVE
    has_ids = any(row[OUTBOUND_ID] is not None for row in rows)
    for _ in range(MAX_ROUNDS):
        cursor.execute(first)
        if has_ids:
            cursor.execute(CONFLICTS)
            for line, key, found in cursor.fetchall():
                reason = (
                    "The Outbound ID and the user ID or email belong to different customers."
                    if found
                    else f"No customer has the Outbound ID {key}."
                )
                outcome.problems.append((line, "", reason))
        cursor.execute(COUNT_ROWS)
        _, new, _, found = cursor.fetchone()
        made, changed = do(new, found)
        cursor.execute(COUNT_ROWS)
        now, _, left, _ = cursor.fetchone()
        outcome.made += made
        outcome.changed += changed
        outcome.unchanged += now - made - changed
        if now == left:
            break
        first = RESOLVE
        cursor.execute("TRUNCATE incoming")
        cursor.execute(f"INSERT INTO incoming SELECT {', '.join(COLUMNS)} FROM resolved WHERE NOT now")
        cursor.execute("DROP TABLE resolved")
    else:
        cursor.execute("SELECT line FROM incoming")
        reason = f"This customer appears more than {MAX_ROUNDS} times close together in the file."
        outcome.problems += [(line, "", reason) for (line,) in cursor.fetchall()]
    cursor.execute("DROP TABLE IF EXISTS resolved")
    cursor.execute("DROP TABLE incoming")
    return outcome


def has_no_duplicates(rows: Sequence[Sequence[Any]]) -> bool:
    """Return whether no user ID and no email appears twice."""
    for place in (USER_ID, EMAIL):
        given = [row[place] for row in rows if row[place] is not None]
        if len(set(given)) < len(given):
            return False
    return True


def stage_rows(cursor: Any, rows: Sequence[Sequence[Any]]) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    cursor.execute(f"CREATE TEMPORARY TABLE incoming ({columns}) ON COMMIT DROP")
    # Python writes CSV in C, and the driver each value in Python. No value is an empty text: such a cell is not given.
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with cursor.copy("COPY incoming FROM STDIN (FORMAT csv)") as copy:
        copy.write(text.getvalue())


def count_changes(cursor: Any) -> int:
    """Return how many existing customers the round would change."""
    cursor.execute(WOULD_CHANGE)
    return int(cursor.fetchone()[0])


def write_round(cursor: Any, given: Mapping[str, Any], *, new: int, found: int) -> int:
    """Insert new customers, update existing ones and tag all of them; return how many were changed."""
    changed = 0
    # A savepoint: if another request creates one of these customers now, the next attempt finds it.
    with transaction.atomic():
        if found:
            cursor.execute(LOCK_CUSTOMERS)
            cursor.execute(LOOK_AGAIN)
            cursor.execute(UPDATE_CUSTOMERS, given)
            changed = int(cursor.rowcount)
            if given["tag"] is not None:
                cursor.execute(TAG_FOUND, given)
        if new:
            tagged = f", tagged AS ({TAG_CREATED})" if given["tag"] is not None else ""
            record = effects.RECORD_CREATED if given["job"] is not None else "SELECT"
            cursor.execute(f"WITH made AS ({INSERT_CUSTOMERS} RETURNING id){tagged} {record}", given)
    return changed


COUNT_ADDRESSES = """
SELECT count(*) FILTER (WHERE NOT known AND NOT listed), count(*) FILTER (WHERE listed),
    count(*) FILTER (WHERE known AND NOT listed)
FROM (SELECT EXISTS (SELECT FROM audiences_customer c WHERE {same_address}) AS known,
        EXISTS (SELECT FROM audiences_suppression s WHERE s.address_hash = {hash} AND s.lifted_at IS NULL
            AND s.reason = 'opt_out') AS listed
      FROM unnest(%(addresses)s::text[]) AS a (address)) AS judged
""".format(hash=hash_sql("a.address"), same_address=same_address_sql("c.email", "a.address"))
LOCK_OWNERS = f"""
SELECT FROM audiences_customer WHERE id IN (
    SELECT c.id FROM audiences_customer c, unnest(%(addresses)s::text[]) AS a (address)
    WHERE {same_address_sql("c.email", "a.address")})
ORDER BY id FOR NO KEY UPDATE
"""
# Triggers set the flags of the customers.
OPT_OUT = f"""
INSERT INTO audiences_suppression (address, reason, source, detail, added_by_id, created_at)
SELECT address, 'opt_out', 'import', %(file)s, %(by)s, %(at)s FROM unnest(%(addresses)s::text[]) AS a (address)
ORDER BY {COMPARABLE_FUNCTION}(address) ON CONFLICT DO NOTHING
"""


def suppress_addresses(
    cursor: Any, addresses: Sequence[str], *, file: str, by: int | None, at: datetime, dry: bool
) -> SliceResult:
    """Opt out addresses, also those that no customer has yet, as if their owners did it: no sync undoes it."""
    given = {comparable_address(address): address for address in addresses}
    params = {"addresses": list(given.values()), "file": file, "by": by, "at": at}
    cursor.execute(COUNT_ADDRESSES, params)
    unmatched, unchanged, changed = cursor.fetchone()
    if not dry:
        cursor.execute(LOCK_OWNERS, params)
        cursor.execute(OPT_OUT, params)
    repeated = len(addresses) - len(given)
    return SliceResult(unmatched=unmatched, unchanged=unchanged + repeated, changed=changed)
