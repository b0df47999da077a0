"""Undo of an import where nothing has changed since, in slices like the import itself.

First the customers that the import created: those to whom nothing has happened since are archived, as by a teammate.
Then the other lines, last line first: a changed field gets its old value back if it still has the imported one, and
added tags and companies are removed. A line that is not undone, or not completely, gets the reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet

from audiences.attributes import CUSTOM
from audiences.intake.csv_import.columns import field_label
from audiences.intake.csv_import.effects import FIELDS
from audiences.models import Customer, CustomerTag, Import, ImportCreation, ImportLine, Membership, Notification
from audiences.models.imports import UndoResult

UNDO_SLICE_SIZE = 1_000
ERASED, GONE = "The customer was erased.", "The customer no longer exists."
ARCHIVED = "The customer was archived since the import."
TAKEN = "Another customer has this email or user ID now."
CHANGED_SINCE = "The customer has changed since the import."
# Tables whose rows about a customer say nothing about activity, or are looked at separately.
IGNORED = (ImportLine, Membership, CustomerTag, Notification)
IDENTITY = ("user_id", "email", "email_is_said", "role")
OPT_OUT = ("unsubscribed_from_emails", "opt_out_is_of_address")
# Fields that only accompany the others.
ACCOMPANYING = {"email_is_said", "role", "first_seen_at", "opt_out_is_of_address"}
LABELS = {"archived_at": "Archived"}


def is_unchanged(name: str) -> str:
    """Return SQL for: the customer `c` still has the value of a field that the line `l` imported."""
    return f"coalesce(to_jsonb(c.{name}), 'null') = l.changes -> '{name}' -> 1"


def may_restore(name: str) -> str:
    """Return SQL for: a field gets its old value back. Identity and role belong together; an opt-out is theirs."""
    if name in IDENTITY:
        others = (f"(NOT l.changes ? '{other}' OR {is_unchanged(other)})" for other in ("user_id", "email"))
        return " AND ".join((is_unchanged(name), *others))
    if name in OPT_OUT:
        return f"{is_unchanged(name)} AND c.unsubscribed_by_customer_at IS NULL"
    return is_unchanged(name)


LINES = "l.of_id = %(job)s AND l.line = ANY(%(lines)s)"
ATTRIBUTE = f"substr(e.key, {len(CUSTOM) + 1})"
RESTORED = f"""
FROM jsonb_each(l.changes) AS e
WHERE starts_with(e.key, '{CUSTOM}') AND coalesce(c.attributes -> {ATTRIBUTE}, 'null') = e.value -> 1
"""
SETS = ", ".join(
    f"{name} = CASE WHEN {may_restore(name)} THEN (l.changes -> '{name}' ->> 0)::{kind} ELSE c.{name} END"
    for name, kind in FIELDS.items()
)
RESTORE = f"""
UPDATE audiences_customer c SET {SETS}, updated_at = %(at)s,
    attributes = (c.attributes - coalesce((SELECT array_agg({ATTRIBUTE}) {RESTORED}), '{{}}'))
        || coalesce((SELECT jsonb_object_agg({ATTRIBUTE}, e.value -> 0) {RESTORED} AND e.value -> 0 <> 'null'), '{{}}')
FROM audiences_importline l WHERE c.id = l.customer_id AND {LINES}
"""
REMOVE_RELATIONS = tuple(
    f"DELETE FROM {table} r USING audiences_importline l WHERE {LINES} AND r.customer_id = l.customer_id"
    f" AND r.created_at = l.written_at AND l.changes -> '{key}' @> to_jsonb(r.{column})"
    for table, key, column in (
        ("audiences_customertag", "tags", "tag_id"),
        ("audiences_membership", "companies", "company_id"),
    )
)
# The fields that the next statement will not restore, although they do not have their old value either.
MAY_RESTORE = " ".join(f"WHEN '{name}' THEN {may_restore(name)}" for name in FIELDS)
CURRENT = ", ".join(f"'{name}', c.{name}" for name in FIELDS)
NOT_RESTORED = f"""
SELECT l.line, array_agg(e.key ORDER BY e.key)
FROM audiences_importline l JOIN audiences_customer c ON c.id = l.customer_id
CROSS JOIN LATERAL jsonb_each(l.changes) AS e
CROSS JOIN LATERAL (SELECT coalesce(CASE WHEN starts_with(e.key, '{CUSTOM}') THEN c.attributes -> {ATTRIBUTE}
    ELSE jsonb_build_object({CURRENT}) -> e.key END, 'null') AS value) AS current
WHERE {LINES} AND e.key NOT IN ('tags', 'companies') AND current.value <> e.value -> 0
    AND NOT (CASE e.key {MAY_RESTORE} ELSE current.value = e.value -> 1 END)
GROUP BY l.line
"""
# The lines of this import about customers that it created, with the time at which each was last written.
LAST_WRITTEN = """
WITH last AS (
    SELECT a.id, greatest(%(written)s, max(l.written_at)) AS at FROM unnest(%(customers)s::bigint[]) AS a (id)
    LEFT JOIN audiences_importline l ON l.customer_id = a.id AND l.of_id = %(job)s GROUP BY a.id)
"""
CHANGED_CREATED = f"""
{LAST_WRITTEN}
SELECT c.id FROM last JOIN audiences_customer c USING (id) WHERE
    c.session_count > 0 OR c.last_contacted_at IS NOT NULL OR c.owner_id IS NOT NULL OR c.updated_at > last.at
    OR EXISTS (SELECT FROM audiences_customertag r WHERE r.customer_id = c.id AND r.created_at > last.at)
    OR EXISTS (SELECT FROM audiences_membership r WHERE r.customer_id = c.id AND r.created_at > last.at)
"""


def undo_slice(job: Import, *, at: datetime) -> bool:
    """Undo the next slice, in the caller's transaction, which locked the import; return whether there was one."""
    creation = job.creations.filter(is_undone=False).order_by("-begins").first()
    if creation is not None:
        undo_creation(job, creation, at=at)
    else:
        rows = job.effects.filter(created=False, undo=UndoResult.NONE, line__lt=job.position)
        lines = list(rows.order_by("-line")[:UNDO_SLICE_SIZE])
        if not lines:
            return False
        undo_lines(job, lines, at=at)
        job.position = lines[-1].line
    job.updated_at = at
    job.save(update_fields=["undone", "kept", "position", "updated_at"])
    return True


def undo_creation(job: Import, creation: ImportCreation, *, at: datetime) -> None:
    """Archive the customers that a slice created, except those to whom something has happened since."""
    reasons = reasons_to_keep(job, creation)
    undone = [key for key in creation.customers if key not in reasons]
    Customer.objects.filter(pk__in=undone).archive(at=at)
    # Later lines about these customers share their result.
    later = job.effects.filter(created=False)
    job.undone += len(undone) + later.filter(customer__in=undone).update(undo=UndoResult.UNDONE)
    job.kept += len(reasons) + mark_kept(later, "customer", reasons)
    ImportLine.objects.bulk_create(
        ImportLine(
            of=job,
            line=line,
            customer_id=key,
            created=True,
            written_at=creation.written_at,
            undo=UndoResult.KEPT,
            reason=reasons[key],
        )
        for line, key in zip(creation.lines, creation.customers, strict=True)
        if key in reasons
    )
    creation.is_undone = True
    creation.save(update_fields=["is_undone"])


def reasons_to_keep(job: Import, creation: ImportCreation) -> dict[int, str]:
    """Lock the customers of a slice; return the reasons of those who stay as they are."""
    keys = creation.customers
    present = set(Customer.objects.filter(pk__in=keys).lock())
    reasons = {key: GONE for key in keys if key not in present}
    archived = Customer.objects.filter(pk__in=keys).exclude(archived_at=None)
    for customer in archived.only("pk", "archived_at", "email", "user_id", "name"):
        reasons[customer.pk] = ERASED if customer.is_erased else ARCHIVED
    for relation in Customer._meta.get_fields(include_hidden=True):
        model: Any = relation.related_model
        if relation.concrete or not relation.one_to_many or model in IGNORED:
            continue
        way = relation.field.name  # type: ignore[union-attr]
        active: QuerySet[Any, Any] = (
            QuerySet(model).filter(**{f"{way}__in": keys}).values_list(way, flat=True).distinct()
        )
        for key in active:
            reasons.setdefault(key, f"The customer has {model._meta.verbose_name_plural} since the import.")
    with connection.cursor() as cursor:
        cursor.execute(CHANGED_CREATED, {"customers": keys, "job": job.pk, "written": creation.written_at})
        for (key,) in cursor.fetchall():
            reasons.setdefault(key, CHANGED_SINCE)
    return reasons


def undo_lines(job: Import, lines: Sequence[ImportLine], *, at: datetime) -> None:
    """Restore the values before these lines, which are in descending order."""
    present = set(Customer.objects.filter(pk__in={line.customer_id for line in lines}).lock())
    kept = {line.line: GONE for line in lines if line.customer_id not in present}
    kept |= {line.line: ERASED for line in lines if line.changes is None}
    for batch in batches_of_different_customers([line for line in lines if line.line not in kept]):
        kept |= undo_changed(job, batch, at=at)
    rows = job.effects.filter(created=False)
    rows.filter(line__in=[line.line for line in lines]).update(undo=UndoResult.UNDONE)
    mark_kept(rows, "line", kept)
    job.undone += len(lines) - len(kept)
    job.kept += len(kept)


def mark_kept(rows: QuerySet[ImportLine], key: str, reasons: Mapping[int, str]) -> int:
    """Mark rows as not undone, each with the reason of its line or customer, as `key` says; return their number."""
    by_reason: dict[str, list[int]] = {}
    for value, reason in reasons.items():
        by_reason.setdefault(reason, []).append(value)
    return sum(
        rows.filter(**{f"{key}__in": values}).update(undo=UndoResult.KEPT, reason=reason)
        for reason, values in by_reason.items()
    )


def batches_of_different_customers(lines: Sequence[ImportLine]) -> Iterator[list[ImportLine]]:
    """Yield the lines in order, in batches that have each customer once."""
    batch: list[ImportLine] = []
    seen: set[int] = set()
    for line in lines:
        if line.customer_id in seen:
            yield batch
            batch, seen = [], set()
        batch.append(line)
        seen.add(line.customer_id)
    if batch:
        yield batch


def undo_changed(job: Import, lines: Sequence[ImportLine], *, at: datetime) -> Mapping[int, str]:
    """Restore the values before these lines; return the reasons of those not undone, or not completely."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            return restore_lines(cursor, job, [line.line for line in lines], at=at)
    except IntegrityError:
        if len(lines) == 1:
            return {lines[0].line: TAKEN}
        half = len(lines) // 2
        return {**undo_changed(job, lines[:half], at=at), **undo_changed(job, lines[half:], at=at)}


def restore_lines(cursor: Any, job: Import, lines: Sequence[int], *, at: datetime) -> dict[int, str]:
    given = {"job": job.pk, "lines": list(lines), "at": at}
    cursor.execute(NOT_RESTORED, given)
    kept = {}
    for line, names in cursor.fetchall():
        if labels := [LABELS.get(name) or field_label(name) for name in names if name not in ACCOMPANYING]:
            kept[line] = f"Changed since the import, so not undone: {', '.join(sorted(labels))}."
    for statement in (RESTORE, *REMOVE_RELATIONS):
        cursor.execute(statement, given)
    return kept
