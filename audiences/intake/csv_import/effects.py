"""Effects of the lines of an import: recorded while it is written, so that it can be inspected and undone.

Created customers are recorded per slice, since most lines create one; changes are recorded per line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from audiences.attributes import CUSTOM
from audiences.models import Import, ImportLine
from audiences.models.imports import ProblemKind, UndoResult

# Columns that an import can change, with the type of a value that is read from JSON.
FIELDS: dict[str, str] = {
    "user_id": "text",
    "email": "text",
    "email_is_said": "boolean",
    "role": "text",
    "name": "text",
    "phone": "text",
    "signed_up_at": "timestamptz",
    "first_seen_at": "timestamptz",
    "last_seen_at": "timestamptz",
    "country": "text",
    "city": "text",
    "timezone": "text",
    "language": "text",
    "unsubscribed_from_emails": "boolean",
    "opt_out_is_of_address": "boolean",
    "archived_at": "timestamptz",
}
# The customers `o` before and `c` after a row `i` was written; for the clause RETURNING.
PAIRS = ", ".join(f"('{name}', to_jsonb(o.{name}), to_jsonb(c.{name}))" for name in FIELDS)
CHANGES = f"""
(SELECT coalesce(jsonb_object_agg(f.name, jsonb_build_array(f.before, f.after)), '{{}}')
 FROM (VALUES {PAIRS}) AS f (name, before, after) WHERE f.before IS DISTINCT FROM f.after)
|| (SELECT coalesce(jsonb_object_agg('{CUSTOM}' || a.key, jsonb_build_array(o.attributes -> a.key, a.value)), '{{}}')
    FROM jsonb_each(coalesce(i.attributes, '{{}}')) AS a WHERE o.attributes -> a.key IS DISTINCT FROM a.value)
"""
# Rows of the current round that changed their customers, and tags and companies that it added.
CREATE_TABLES = """
DROP TABLE IF EXISTS changed_rows, added_relations;
CREATE TEMPORARY TABLE changed_rows (line bigint, changes jsonb) ON COMMIT DROP;
CREATE TEMPORARY TABLE added_relations (customer_id bigint, tag_id bigint, company_id bigint) ON COMMIT DROP
"""
# The keys of customers are given out in the order of their lines.
RECORD_CREATED = """
INSERT INTO audiences_importcreation AS r (of_id, begins, written_at, lines, customers)
SELECT %(job)s, %(begins)s, %(at)s,
    (SELECT array_agg(line ORDER BY line) FROM resolved WHERE now AND customer_id IS NULL), array_agg(id ORDER BY id)
FROM made HAVING count(*) > 0
ON CONFLICT (of_id, begins) DO UPDATE
SET lines = r.lines || excluded.lines, customers = r.customers || excluded.customers
"""
RECORD_CHANGED = """
INSERT INTO audiences_importline (of_id, line, customer_id, written_at, changes)
SELECT %(job)s, r.line, r.customer_id, %(at)s, coalesce(w.changes, '{}') || coalesce(a.added, '{}')
FROM resolved r LEFT JOIN changed_rows w USING (line) LEFT JOIN (
    SELECT customer_id, jsonb_strip_nulls(jsonb_build_object(
        'tags', jsonb_agg(tag_id) FILTER (WHERE tag_id IS NOT NULL),
        'companies', jsonb_agg(company_id) FILTER (WHERE company_id IS NOT NULL))) AS added
    FROM added_relations GROUP BY customer_id) AS a ON a.customer_id = r.customer_id
WHERE r.now AND r.customer_id IS NOT NULL AND (w.line IS NOT NULL OR a.customer_id IS NOT NULL)
ORDER BY r.line
"""


def create_tables(cursor: Any) -> None:
    """Create the temporary tables of a round."""
    cursor.execute(CREATE_TABLES)


def record_changed(cursor: Any, *, job: int, at: datetime) -> None:
    """Record the effects of this round on customers who existed before."""
    cursor.execute(RECORD_CHANGED, {"job": job, "at": at})


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEffect:
    """The effect of a line: it created a customer, changed one, or was not imported for a reason.

    `changes` is None if it changed none, or the customer was erased since.
    """

    line: int
    customer: int | None = None
    created: bool = False
    changes: dict[str, Any] | None = None
    error: str = ""
    undo: str = ""
    kept_because: str = ""


def effects_of(job: Import, *, after: int, limit: int) -> list[LineEffect]:
    """Return the effects of lines after this one, in the order of the file. Lines without an effect are left out."""
    sources = (created_effects(job, after=after), changed_effects(job, after=after), errors(job, after=after))
    return list(islice(merge(*sources, key=lambda effect: effect.line), limit))


def created_effects(job: Import, *, after: int) -> Iterator[LineEffect]:
    slices = job.creations.order_by("begins")
    # The slice that contains the line began at or before it.
    first = slices.filter(begins__lte=after).values_list("begins", flat=True).last() or 0
    for found in slices.filter(begins__gte=first).iterator(chunk_size=2):
        undo = UndoResult.UNDONE if found.is_undone else UndoResult.NONE
        kept = dict(job.effects.filter(created=True, line__in=found.lines).values_list("line", "reason"))
        for line, customer in sorted(zip(found.lines, found.customers, strict=True)):
            if line > after:
                reason = kept.get(line, "")
                result = UndoResult.KEPT if reason else undo
                yield LineEffect(line=line, customer=customer, created=True, undo=result, kept_because=reason)


def changed_effects(job: Import, *, after: int) -> Iterator[LineEffect]:
    rows = job.effects.filter(created=False, line__gt=after).order_by("line")
    for row in rows.iterator(chunk_size=500):
        yield line_effect(row)


def line_effect(row: ImportLine) -> LineEffect:
    return LineEffect(
        line=row.line, customer=row.customer_id, changes=row.changes, undo=row.undo, kept_because=row.reason
    )


def errors(job: Import, *, after: int) -> Iterator[LineEffect]:
    rows = job.problems.filter(kind=ProblemKind.ERROR, line__gt=after).order_by("line", "pk")
    for row in rows.iterator(chunk_size=500):
        yield LineEffect(line=row.line, error=f"{row.column}: {row.reason}" if row.column else row.reason)
