"""Autocompletion of values in the rule builder."""

from datetime import timedelta
from typing import Any

from django.db.utils import OperationalError

from audiences import attributes
from audiences.attributes import About
from audiences.models import CustomAttribute
from audiences.rules import Kind
from audiences.transactions import time_limit

RESULT_LIMIT = 12
# Rows to search for values; staff can still type a rare value.
ROWS_SEARCHED = 50_000
TIME_LIMIT = timedelta(milliseconds=800)
TABLES = {
    About.CUSTOMER: ("audiences_customer", "c"),
    About.COMPANY: ("audiences_company", "k"),
}


def known_values(name: str, *, words: str) -> list[str]:
    """Return stored values of a text attribute that contain the words, the most frequent first."""
    return find_values(name, pattern=f"%{escape_pattern(words.strip())}%")


def meant_value(name: str, *, value: str) -> str:
    """Return the most frequent stored value that differs only in capitals and outer spaces; "" if it has this one."""
    found = find_values(name, pattern=escape_pattern(value.strip()), trimmed="btrim({value})")
    return "" if value in found or not found else found[0]


def escape_pattern(words: str) -> str:
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def find_values(name: str, *, pattern: str, trimmed: str = "{value}") -> list[str]:
    """Return the stored values that match a pattern, regardless of capitals, the most frequent first."""
    try:
        attribute = attributes.find_attribute(name, catalogue=CustomAttribute.objects.catalogue())
    except LookupError:
        return []
    if attribute.kind is not Kind.TEXT or attribute.about not in TABLES:
        return []
    table, row = TABLES[attribute.about]
    value = attribute.sql.format(key="%(key)s::text") if attribute.key else attribute.sql.format()
    params: dict[str, Any] = {
        "key": attribute.key,
        "words": pattern,
        "most": RESULT_LIMIT,
        "rows": ROWS_SEARCHED,
    }
    # The column is a constant of the attribute table; staff's input is passed as parameters.
    sql = (
        f"SELECT value FROM (SELECT {value} AS value FROM {table} {row} WHERE {row}.archived_at IS NULL"  # noqa: S608
        f" AND {trimmed.format(value=value)} ILIKE %(words)s AND {value} <> '' LIMIT %(rows)s) AS rows_asked"
        " GROUP BY value ORDER BY count(*) DESC, value LIMIT %(most)s"
    )
    try:
        with time_limit(TIME_LIMIT) as cursor:
            cursor.execute(sql, params)
            found = [row[0] for row in cursor.fetchall()]
    except OperationalError:
        return []
    return found
