"""Change log: an append-only table of the customers and companies whose data changed, written by triggers.

Matching rounds judge only these customers again (behaviour 4.20). An entry names a customer, a company, or a range of
delivery records; its bits say which kinds of data changed. Statement-level triggers on every table that rules or
reachability depend on write it, so no code path can bypass it. The table has no unique key, so no writer waits for
another. An entry is safely read once its transaction is below `pg_snapshot_xmin`.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta

import pgtrigger
from django.db import connection, transaction
from django.db.utils import OperationalError
from psycopg.errors import LockNotAvailable

from audiences.attributes import About, Attribute
from audiences.rules import Kind

TABLE = "audiences_change"
# Slots by the hour of the day, so that the slots of past hours can be truncated.
SLOTS = 3
TRUNCATE_LOCK_TIMEOUT = "100ms"

# Customer columns that rules and reachability depend on; each has a bit.
CUSTOMER_COLUMNS = (
    *("role", "archived_at", "email", "unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam"),
    *("name", "phone", "user_id", "first_seen_at", "signed_up_at", "last_seen_at", "last_contacted_at"),
    *("last_heard_from_at", "last_opened_email_at", "last_clicked_email_at", "session_count", "country", "city"),
    *("timezone", "browser", "os", "language", "owner_id", "details"),
)
# Columns that have the bit of another one: a confirmation or a proof is about the address.
SHARED_BITS = {"opted_in_at": "email", "email_is_said": "email"}
# The columns that nearly every visit changes, and few other updates.
VISIT_COLUMNS = ("last_seen_at", "session_count", "first_seen_at", "last_contacted_at")
# Columns of which only matters whether they have a value.
TIMES_OF_STATES = ("archived_at", "retired_at", "opted_in_at")
# Company columns, by the name of their bit.
COMPANY_COLUMNS = {
    "company.archived_at": ("archived_at",),
    "company.facts": (
        *("company_id", "name", "plan", "monthly_spend", "size", "industry", "website", "remote_created_at"),
    ),
    "company.last_seen_at": ("last_seen_at",),
    "company.session_count": ("session_count",),
    "company.attributes": ("attributes",),
}
# Custom attributes and events share bits by a hash of their name.
ATTRIBUTE_BITS, EVENT_BITS = 16, 8
NAMES = (
    *(*CUSTOMER_COLUMNS, "device", "tag", "record", "withdrawn", "membership"),
    *(*COMPANY_COLUMNS, "company.tag", "company.user_count"),
    *(*(f"attributes.{place}" for place in range(ATTRIBUTE_BITS)), *(f"events.{place}" for place in range(EVENT_BITS))),
    # Last, so that the other bits stay the same.
    "topic",
)
BIT: dict[str, int] = {name: 1 << place for place, name in enumerate(NAMES)}
ALL = (1 << len(NAMES)) - 1
# A change of these bits of a company is a change of each of its members.
OF_COMPANY = sum(bit for name, bit in BIT.items() if name.startswith("company."))
# Entries that were written with other bits cannot be read.
LAYOUT = hashlib.md5(repr(NAMES).encode(), usedforsecurity=False).hexdigest()[:8]

COLUMN_OF = {"c": re.compile(r"\bc\.(\w+)"), "k": re.compile(r"\bk\.(\w+)")}


def name_hash(name: str, *, bits: int) -> int:
    """Return the same number as `NAME_HASH` in SQL."""
    return hashlib.md5(name.encode(), usedforsecurity=False).digest()[0] % bits


NAME_HASH = "(get_byte(decode(md5({name}), 'hex'), 0) % {bits})"


def attribute_bits(attribute: Attribute) -> int:
    """Return the bits of the changes that can change the result of a rule on this attribute; all bits if unknown."""
    if attribute.kind is Kind.TAG:
        return BIT["company.tag" if attribute.about is About.COMPANY else "tag"]
    if attribute.about is About.MESSAGE:
        return BIT["record"]
    if attribute.about is About.EVENT:
        return BIT[f"events.{name_hash(attribute.key, bits=EVENT_BITS)}"]
    if attribute.key and attribute.about is About.CUSTOMER:
        return BIT[f"attributes.{name_hash(attribute.key, bits=ATTRIBUTE_BITS)}"]
    if attribute.name == "company.user_count":
        return BIT["company.user_count"]
    sql = attribute.sql.replace("{last_seen}", "c.last_seen_at").replace("{company_last_seen}", "k.last_seen_at")
    return columns_bits(sql) or ALL


def columns_bits(sql: str) -> int:
    """Return the bits of the columns of the customer `c` and the company `k` in an SQL expression."""
    of_company = {column: BIT[name] for name, columns in COMPANY_COLUMNS.items() for column in columns}
    found = 0
    for column in COLUMN_OF["c"].findall(sql):
        found |= BIT.get(SHARED_BITS.get(column, column), 0 if column == "id" else ALL)
    for column in COLUMN_OF["k"].findall(sql):
        found |= of_company.get(column, 0 if column == "id" else ALL)
    return found


# Triggers


def compared_sql(row: str, column: str) -> str:
    """Return SQL for the part of a column that matters: of an end or a confirmation, only whether there is one."""
    return f"({row}.{column} IS NULL)" if column in TIMES_OF_STATES else f"{row}.{column}"


def differs_sql(*columns: str) -> str:
    """Return SQL for whether the rows `o` and `n` differ in one of these columns. It is never strict (see PAIRS)."""
    old, new = (", ".join(compared_sql(row, column) for column in columns) for row in "on")
    return f"({old}) IS DISTINCT FROM ({new})"


# A full join is never planned as a nested loop. A session plans the statement once, maybe for a single row, and later
# updates many rows. Conditions on it must not be strict, because that would make it an inner join.
PAIRS = "old_rows o FULL JOIN new_rows n ON n.id = o.id"
# Sets of keys that differ between the two versions of a JSON column.
CHANGED_ATTRIBUTES = (
    "(SELECT coalesce(bit_or({first}::bigint << {hash}), 0) FROM jsonb_each(coalesce(o.attributes, '{{}}')) a"
    " FULL JOIN jsonb_each(coalesce(n.attributes, '{{}}')) b ON b.key = a.key WHERE a.value IS DISTINCT FROM b.value)"
).format(
    first=BIT["attributes.0"],
    hash=NAME_HASH.format(name="coalesce(a.key, b.key)", bits=ATTRIBUTE_BITS),
)


def bits_sql(parts: dict[str, tuple[str, ...]]) -> str:
    """Return SQL for the bits of the parts in which `o` and `n` differ."""
    return " | ".join(
        f"CASE WHEN {differs_sql(*columns)} THEN {BIT[name]}::bigint ELSE 0 END" for name, columns in parts.items()
    )


def trigger(name: str, operation: pgtrigger.Operation, sql: str) -> pgtrigger.Trigger:
    """Return a statement-level trigger that runs `sql` on old_rows and new_rows, if there are any."""
    old = None if operation is pgtrigger.Insert else "old_rows"
    new = None if operation is pgtrigger.Delete else "new_rows"
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=operation,
        referencing=pgtrigger.Referencing(old=old, new=new),
        # Many statements change no row, such as parts of the statement of a visit.
        func=f"""
        IF EXISTS (SELECT FROM {new or old}) THEN
            {sql};
        END IF;
        RETURN NULL;
        """,
    )


def insert_sql(rows: str, *, columns: str = "customer_id, bits") -> str:
    return f"INSERT INTO {TABLE} ({columns}) {rows}"


def changes_sql(bits: str) -> str:
    """Return SQL for the keys and bits of the changed rows. OFFSET keeps the planner from computing bits twice."""
    changes = f"SELECT n.id AS id, {bits} AS bits FROM {PAIRS} OFFSET 0"
    return f"SELECT id, bits FROM ({changes}) AS changes WHERE bits <> 0"


def customer_triggers() -> list[pgtrigger.Trigger]:
    """Return the triggers of the customers' own table. A new customer is a change of everything.

    To compare all columns takes longer than most updates, so they are compared only if the image of the row without the
    columns of visits has changed.
    """
    columns_of = {one: (one, *(name for name, bit in SHARED_BITS.items() if bit == one)) for one in CUSTOMER_COLUMNS}
    others = [one for one in (*CUSTOMER_COLUMNS, *SHARED_BITS, "attributes") if one not in VISIT_COLUMNS]
    old, new = (f"ROW({', '.join(compared_sql(row, column) for column in others)})" for row in "on")
    attributes = f"CASE WHEN {differs_sql('attributes')} THEN {CHANGED_ATTRIBUTES} ELSE 0 END"
    of_visit, of_all = (
        bits_sql({one: columns_of[one] for one in columns}) for columns in (VISIT_COLUMNS, CUSTOMER_COLUMNS)
    )
    update = f"""IF EXISTS (SELECT FROM {PAIRS} WHERE record_image_ne({old}, {new})) THEN
                {insert_sql(changes_sql(f"{of_all} | {attributes}"))};
            ELSE
                {insert_sql(changes_sql(of_visit))};
            END IF"""
    return [
        trigger("new_is_logged", pgtrigger.Insert, insert_sql(f"SELECT id, {ALL} FROM new_rows")),
        trigger("change_is_logged", pgtrigger.Update, update),
    ]


def company_triggers() -> list[pgtrigger.Trigger]:
    """Return the trigger of the companies' own table. A new company has no members, so it is not logged."""
    rows = insert_sql(changes_sql(bits_sql(COMPANY_COLUMNS)), columns="company_id, bits")
    return [trigger("change_is_logged", pgtrigger.Update, rows)]


def row_triggers(*columns: str, bits: str, of: tuple[str, ...] = ("customer_id",)) -> list[pgtrigger.Trigger]:
    """Return the triggers of a table whose rows belong to a customer, a company or both (`of`).

    An update is logged for the old and the new owner if it changes one of `columns` or the owner.
    """
    logged = ", ".join((*of, "bits"))

    def rows(source: str, *, row: str) -> str:
        return insert_sql(f"SELECT DISTINCT {', '.join((*of, bits.format(row=row)))} FROM {source}", columns=logged)

    both = " UNION ALL ".join(
        f"SELECT {', '.join((*(f'{row}.{one}' for one in of), bits.format(row=row)))}" for row in "on"
    )
    changed = (
        f"SELECT DISTINCT changes.* FROM {PAIRS} CROSS JOIN LATERAL ({both}) AS changes"
        f" WHERE {differs_sql(*of, *columns)}"
    )
    return [
        trigger("new_is_logged", pgtrigger.Insert, rows("new_rows", row="new_rows")),
        trigger("change_is_logged", pgtrigger.Update, insert_sql(changed, columns=logged)),
        trigger("deletion_is_logged", pgtrigger.Delete, rows("old_rows", row="old_rows")),
    ]


EVENT_BIT = f"({BIT['events.0']}::bigint << {NAME_HASH.format(name='{row}.name', bits=EVENT_BITS)})"


# Reading


def current_horizon() -> int:
    """Return the horizon of a read that follows: entries of transactions below it are complete and visible."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        return int(cursor.fetchone()[0])


def cluster_id() -> str:
    """Return the id of the database cluster, which counts the transactions; "" if this user may not read it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
        if not cursor.fetchone()[0]:
            return ""
        cursor.execute("SELECT system_identifier FROM pg_control_system()")
        return str(cursor.fetchone()[0])


def delete_foreign_entries() -> int:
    """Delete the entries of transactions still to come: a dump of another cluster was restored."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {TABLE} WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
            # The entries of this transaction, which the snapshot does not count as begun.
            " AND xid IS DISTINCT FROM pg_current_xact_id_if_assigned()::text::bigint"
        )
        return int(cursor.rowcount)


def has_entries(*, since: int, older_than: timedelta) -> bool:
    """Return whether there are entries at or above a horizon that were written so long ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT EXISTS (SELECT FROM {TABLE}"
            " WHERE xid >= %s AND at <= clock_timestamp() - make_interval(secs => %s))",
            [since, older_than.total_seconds()],
        )
        return bool(cursor.fetchone()[0])


def size_in_bytes() -> int:
    """Return the size of the log on disk."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(pg_relation_size(relid))::bigint FROM pg_partition_tree(%s)", [TABLE])
        return int(cursor.fetchone()[0])


def truncatable_slots() -> Iterator[int]:
    """Yield the slots with entries that new transactions do not write to."""
    filled = ", ".join(f"EXISTS (SELECT FROM {TABLE}_{slot})" for slot in range(SLOTS))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT date_part('hour', now())::int % {SLOTS}, {filled}")
        current, *found = cursor.fetchone()
    yield from (slot for slot in range(SLOTS) if slot != current and found[slot])


def truncate_slot(slot: int, *, below: int | None) -> bool:
    """Truncate a slot if all its entries are below this horizon (None: in any case). Return whether it was done.

    Call it in a transaction. It does nothing if a transaction that wrote to the slot is still open.
    """
    older = f"NOT EXISTS (SELECT FROM {TABLE}_{slot} WHERE xid >= %s)" if below is not None else "TRUE"
    check = f"SELECT EXISTS (SELECT FROM {TABLE}_{slot}) AND {older}"
    values = [below] if below is not None else []
    with connection.cursor() as cursor:
        cursor.execute(check, values)
        if not cursor.fetchone()[0]:
            return False
        try:
            with transaction.atomic():
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [TRUNCATE_LOCK_TIMEOUT])
                cursor.execute(f"LOCK TABLE {TABLE}_{slot} IN ACCESS EXCLUSIVE MODE")
        except OperationalError as wrong:
            if not isinstance(wrong.__cause__, LockNotAvailable):
                raise
            return False
        cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
        # An entry may have been written while this waited.
        cursor.execute(check, values)
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(f"TRUNCATE {TABLE}_{slot}")
        return True
