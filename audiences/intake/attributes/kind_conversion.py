"""Change of a custom attribute's kind by staff: a dry run, and the conversion of all stored values (behaviour 3)."""

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
    """Return unix seconds as an ISO time; `as_seconds` reads it back without loss."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConversionError
    try:
        return datetime.fromtimestamp(value, tz=UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        raise ConversionError from None


# Conversions of stored values that differ from those of incoming ones (READ_AS).
CONVERT: dict[tuple[Kind, Kind], Callable[[Any], Any]] = {(Kind.DATE, Kind.TEXT): date_as_text}


@dataclass(slots=True)
class ConversionResult:
    """How many values are kept and how many become unknown, with the most frequent lost values as examples."""

    kept: int = 0
    lost: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)


@cached_zone()
def dry_run(attribute: CustomAttribute, *, to: Kind) -> ConversionResult:
    """Return the result that a change of kind would have. Memory does not grow with the number of values."""
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
    """Return whether more than `number` rows have a value of this attribute."""
    sql = f"""
        SELECT count(*) FROM (
            SELECT FROM {TABLES[Scope(attribute.scope)]} WHERE attributes ? %(key)s LIMIT %(enough)s) AS first_of_them
    """  # noqa: S608 - the table is one of two constants
    with connection.cursor() as cursor:
        cursor.execute(sql, {"key": attribute.name, "enough": number + 1})
        return int(cursor.fetchone()[0]) > number


def most_frequent(examples: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(examples, key=lambda pair: (-pair[1], pair[0]))[:MAX_EXAMPLES]


class TooMuchLost(Exception):
    """More values would become unknown than the teammate confirmed; `lost` is how many."""

    def __init__(self, lost: int) -> None:
        super().__init__(f"{lost:,} values would become unknown.")
        self.lost = lost


@cached_zone()
@retried
def convert_attribute(attribute: CustomAttribute, *, to: Kind, lose_at_most: int) -> ConversionResult:
    """Change the kind and every value in one transaction, so that rules never see a part of the change.

    Raises TooMuchLost if more than `lose_at_most` values would become unknown.
    """
    done = ConversionResult()
    held = CustomAttribute.objects.select_for_update().get(pk=attribute.pk)
    read = value_converter(held, to=to)
    for rows in locked_slices(held):
        write_slice(held, rows, read=read, done=done)
    if done.lost > lose_at_most:
        raise TooMuchLost(done.lost)
    # Last, because its trigger locks the workspace's row until the commit.
    held.kind = to
    held.save(update_fields=["kind"])
    return done


@cached_zone()
def convert_late_writes(attribute: CustomAttribute, *, was: Kind) -> None:
    """Convert values that requests wrote with the old kind during the change. Call it after the commit."""
    held = CustomAttribute.objects.get(pk=attribute.pk)
    to, held.kind = Kind(held.kind), was
    read = value_converter(held, to=to)
    for rows in locked_slices(held, besides=STORED_AS[to]):
        write_slice(held, rows, read=read, done=ConversionResult())


def value_converter(attribute: CustomAttribute, *, to: Kind) -> Callable[[Any], Any]:
    """Return a function that converts one stored value to `to`, or returns None if that would lose something."""
    convert_one = CONVERT.get((Kind(attribute.kind), to), READ_AS[to])
    seen: dict[Any, Any] = {}

    def convert_value(value: Any) -> Any:
        key = (type(value), value)
        if key not in seen:
            if len(seen) >= SLICE_SIZE:
                seen.clear()
            try:
                seen[key] = convert_one(value)
            except (ConversionError, Refused, ArithmeticError):
                seen[key] = None
        return seen[key]

    return convert_value


def distinct_values(attribute: CustomAttribute) -> Iterator[tuple[Any, int]]:
    """Yield every distinct value with the number of its rows, as the database streams them."""
    sql = f"""
        SELECT attributes -> %(key)s, count(*) FROM {TABLES[Scope(attribute.scope)]}
        WHERE attributes ? %(key)s GROUP BY 1
    """  # noqa: S608 - the table is one of two constants
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(sql, {"key": attribute.name})
        for value, count in cursor:
            yield load_json(value), count


def locked_slices(attribute: CustomAttribute, *, besides: str = "") -> Iterator[list[tuple[int, Any]]]:
    """Yield slices of locked rows (id, value) that have the attribute, except values of the JSON type `besides`."""
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
    """Return a parsed JSON value: Django's connections return JSONB as text."""
    return json.loads(value) if isinstance(value, str) else value


def write_slice(
    attribute: CustomAttribute, rows: list[tuple[int, Any]], *, read: Callable[[Any], Any], done: ConversionResult
) -> None:
    """Write one slice in one statement. A value that cannot be converted is removed, and so becomes unknown."""
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
