"""What customers are known by: the values a rule's field completes as one types."""

from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.utils import OperationalError

from audiences import attributes
from audiences.attributes import About
from audiences.models import CustomAttribute
from audiences.rules import Kind

MOST = 12
# Values are learnt from about so many rows; a rare one can still be typed.
ROWS = 50_000
WITHIN = timedelta(milliseconds=800)
TABLES = {
    About.CUSTOMER: ("audiences_customer", "c"),
    About.COMPANY: ("audiences_company", "k"),
}


def known_values(name: str, *, words: str) -> list[str]:
    """The values of a text attribute that hold these words, the commonest first."""
    try:
        attribute = attributes.find_attribute(name, catalogue=CustomAttribute.objects.catalogue())
    except LookupError:
        return []
    if attribute.kind is not Kind.TEXT or attribute.about not in TABLES:
        return []
    table, row = TABLES[attribute.about]
    value = attribute.sql.format(key="%(key)s::text") if attribute.key else attribute.sql.format()
    literal = words.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    params: dict[str, Any] = {"key": attribute.key, "words": f"%{literal}%", "most": MOST, "rows": ROWS}
    # The value is a constant of the attribute table; what staff typed has places of its own.
    sql = (
        f"SELECT value FROM (SELECT {value} AS value FROM {table} {row} WHERE {row}.archived_at IS NULL"  # noqa: S608
        f" AND {value} ILIKE %(words)s AND {value} <> '' LIMIT %(rows)s) AS rows_asked"
        " GROUP BY value ORDER BY count(*) DESC, value LIMIT %(most)s"
    )
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, true)", [str(WITHIN // timedelta(milliseconds=1))]
            )
            cursor.execute(sql, params)
            found = [row[0] for row in cursor.fetchall()]
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError:
        return []
    return found
