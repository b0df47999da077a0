"""People as a file: whom a list shows, streamed, and safe to open in a spreadsheet.

Importing such a file again changes nothing.
"""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from audiences.attributes import CUSTOM
from audiences.intake import csv_import
from audiences.models import CustomAttribute, Customer
from audiences.rules import Kind
from outbound.console.timeouts import longer_statements

COLUMNS = (
    *("id", "user_id", "email", "name", "phone", "role", "signed_up_at", "first_seen_at", "last_seen_at"),
    *("session_count", "country", "city", "timezone", "language", "unsubscribed_from_emails", "has_hard_bounced"),
    "marked_email_as_spam",
)
AT_ONCE = 2000


class Echo:
    """What the CSV writer writes to: it gives each line back."""

    def write(self, line: str) -> str:
        """Give it back."""
        return line


def export(customers: QuerySet[Customer], *, at: datetime) -> StreamingHttpResponse:
    """Answer with a file of these customers; those archived are left out, as importing would bring them back."""
    kinds = CustomAttribute.objects.catalogue().customer
    rows = customers.filter(archived_at=None).order_by("pk")
    answer = StreamingHttpResponse(lines(rows, kinds), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="people-{at:%Y-%m-%d}.csv"'
    return answer


def lines(customers: QuerySet[Customer], kinds: Any) -> Iterator[str]:
    """The header, and a line for each customer."""
    names = sorted(kinds)
    writer: Any = csv.writer(Echo())
    yield "\ufeff" + writer.writerow([*COLUMNS, *(f"{CUSTOM}{name}" for name in names)])
    with longer_statements():
        for row in customers.values_list(*COLUMNS, "attributes").iterator(chunk_size=AT_ONCE):
            attributes = row[-1]
            yield writer.writerow(
                [
                    *(cell(value) for value in row[:-1]),
                    *(cell(as_kind(attributes.get(name), kinds[name])) for name in names),
                ]
            )


def as_kind(value: Any, kind: Kind) -> Any:
    """A stored attribute as it reads: a date is stored as seconds."""
    if kind is Kind.DATE and isinstance(value, int):
        try:
            return datetime.fromtimestamp(value, tz=UTC)
        except (ValueError, OverflowError, OSError):
            return value
    return value


def cell(value: Any) -> str:
    """One cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return csv_import.safe_cell(str(value))
