"""A custom attribute's kind changed by staff: what would become of its values, and the change itself (behaviour 3)."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from psycopg.types.json import Jsonb

from audiences.intake.attributes.coercion import READ_AS, ConversionError, cached_zone
from audiences.intake.attributes.fields import Refused
from audiences.models import Company, CustomAttribute, Customer
from audiences.models.catalogue import Scope
from audiences.rules import Kind
from audiences.transactions import retried

SLICE_SIZE = 10_000
MAX_EXAMPLES = 10
TABLES: dict[Scope, str] = {Scope.CUSTOMER: Customer._meta.db_table, Scope.COMPANY: Company._meta.db_table}
STORED_AS: dict[Kind, str] = {
    Kind.TEXT: "string",
    Kind.NUMBER: "number",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "number",
}


def date_as_text(value: object) -> str:
    """A date as people write it; read again it is the same moment."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConversionError
    try:
        return datetime.fromtimestamp(value, tz=UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        raise ConversionError from None


# Where a stored value is not simply read as one that just came in.
CONVERT: dict[tuple[Kind, Kind], Callable[[Any], Any]] = {(Kind.DATE, Kind.TEXT): date_as_text}


@dataclass(slots=True)
class ConversionResult:
    """How many values are kept, how many become unknown, and which, the most frequent first."""

    kept: int = 0
    lost: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)


@cached_zone()
def dry_run(attribute: CustomAttribute, *, to: Kind) -> ConversionResult:
    """Say what a change of kind would do, and do nothing. Memory does not grow with the values there are."""
    found, read = ConversionResult(), value_converter(attribute, to=to)
    for value, count in distinct_values(attribute):
        if read(value) is not None:
            found.kept += count
            continue
        found.lost += count
        found.examples.append((str(value).lower() if isinstance(value, bool) else str(value), count))
        if len(found.examples) > 10 * MAX_EXAMPLES:
            found.examples = most_frequent(found.examples)
    found.examples = most_frequent(found.examples)
    return found


def has_more_than(number: int, attribute: CustomAttribute) -> bool:
    """Whether more than so many have a value."""
    sql = f"""
        SELECT count(*) FROM (
            SELECT FROM {TABLES[Scope(attribute.scope)]} WHERE attributes ? %(key)s LIMIT %(enough)s) AS first_of_them
    """  # noqa: S608 - the table is one of two constants
    with connection.cursor() as cursor:
        cursor.execute(sql, {"key": attribute.name, "enough": number + 1})
        return int(cursor.fetchone()[0]) > number


def most_frequent(examples: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the few that stand for most."""
    return sorted(examples, key=lambda pair: (-pair[1], pair[0]))[:MAX_EXAMPLES]


class TooMuchLost(Exception):
    """More would become unknown than whoever asked for the change was shown; `lost` says how much."""

    def __init__(self, lost: int) -> None:
        super().__init__(f"{lost:,} values would become unknown.")
        self.lost = lost


@cached_zone()
@retried
def convert_attribute(attribute: CustomAttribute, *, to: Kind, lose_at_most: int) -> ConversionResult:
    """Change the kind and every value in one transaction, a slice at a time: no rule ever sees a half of it."""
    done = ConversionResult()
    held = CustomAttribute.objects.select_for_update().get(pk=attribute.pk)
    read = value_converter(held, to=to)
    for rows in locked_slices(held):
        write_slice(held, rows, read=read, done=done)
    if done.lost > lose_at_most:
        raise TooMuchLost(done.lost)
    # Last, because it holds the workspace's row from then on.
    held.kind = to
    held.save(update_fields=["kind"])
    return done


@cached_zone()
def convert_late_writes(attribute: CustomAttribute, *, was: Kind) -> None:
    """Convert what an intake that still knew the old kind wrote meanwhile; for after the change is committed."""
    held = CustomAttribute.objects.get(pk=attribute.pk)
    to, held.kind = Kind(held.kind), was
    read = value_converter(held, to=to)
    for rows in locked_slices(held, besides=STORED_AS[to]):
        write_slice(held, rows, read=read, done=ConversionResult())


def value_converter(attribute: CustomAttribute, *, to: Kind) -> Callable[[Any], Any]:
    """Return what reads one stored value as the new kind: None where something would be lost."""
    convert_one = CONVERT.get((Kind(attribute.kind), to), READ_AS[to])
    seen: dict[Any, Any] = {}

    def read(value: Any) -> Any:
        key = (type(value), value)
        if key not in seen:
            if len(seen) >= SLICE_SIZE:
                seen.clear()
            try:
                seen[key] = convert_one(value)
            except (ConversionError, Refused, ArithmeticError):
                seen[key] = None
        return seen[key]

    return read


def distinct_values(attribute: CustomAttribute) -> Iterator[tuple[Any, int]]:
    """Every value there is, and how many have it, read as they come."""
    sql = f"""
        SELECT attributes -> %(key)s, count(*) FROM {TABLES[Scope(attribute.scope)]}
        WHERE attributes ? %(key)s GROUP BY 1
    """  # noqa: S608 - the table is one of two constants
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(sql, {"key": attribute.name})
        for value, count in cursor:
            yield load_json(value), count


def locked_slices(attribute: CustomAttribute, *, besides: str = "") -> Iterator[list[tuple[int, Any]]]:
    """Rows that have the attribute, locked, in slices; with `besides`, only those stored as another type."""
    sql = f"""
        SELECT id, attributes -> %(key)s FROM {TABLES[Scope(attribute.scope)]}
        WHERE attributes ? %(key)s AND id > %(after)s AND jsonb_typeof(attributes -> %(key)s) <> %(besides)s
        ORDER BY id LIMIT {SLICE_SIZE} FOR NO KEY UPDATE
    """  # noqa: S608 - as above
    after = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql, {"key": attribute.name, "after": after, "besides": besides})
            rows = [(pk, load_json(value)) for pk, value in cursor.fetchall()]
            if rows:
                yield rows
        if not rows:
            return
        after = rows[-1][0]


def load_json(value: Any) -> Any:
    """Return a value of JSON: Django's connections leave JSONB as text."""
    return json.loads(value) if isinstance(value, str) else value


def write_slice(
    attribute: CustomAttribute, rows: list[tuple[int, Any]], *, read: Callable[[Any], Any], done: ConversionResult
) -> None:
    """Write one slice in one statement; what would lose something is taken out, which is unknown."""
    values = [read(value) for _, value in rows]
    sql = f"""
        UPDATE {TABLES[Scope(attribute.scope)]} AS held SET attributes = CASE WHEN new.value IS NULL
            THEN held.attributes - %(key)s::text
            ELSE jsonb_set(held.attributes, ARRAY[%(key)s::text], new.value) END
        FROM unnest(%(ids)s::bigint[], %(values)s::jsonb[]) AS new(id, value) WHERE held.id = new.id
    """  # noqa: S608 - as above
    stored = [None if value is None else Jsonb(value) for value in values]
    with connection.cursor() as cursor:
        cursor.execute(sql, {"key": attribute.name, "ids": [pk for pk, _ in rows], "values": stored})
    lost = values.count(None)
    done.lost += lost
    done.kept += len(values) - lost
