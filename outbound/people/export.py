"""Export of people as a CSV file: streamed, and safe to open in a spreadsheet.

Importing an exported file again changes nothing.
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
CHUNK_SIZE = 2000


class Echo:
    """A file-like object for the CSV writer: `write` returns the line instead of storing it."""

    def write(self, line: str) -> str:
        return line


def export(customers: QuerySet[Customer], *, at: datetime) -> StreamingHttpResponse:
    """Return a response that streams these customers. Archived ones are left out: an import would restore them."""
    kinds = CustomAttribute.objects.catalogue().customer
    rows = customers.filter(archived_at=None).order_by("pk")
    answer = StreamingHttpResponse(csv_lines(rows, kinds), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="people-{at:%Y-%m-%d}.csv"'
    return answer


def csv_lines(customers: QuerySet[Customer], kinds: Any) -> Iterator[str]:
    """Yield the header and one line per customer."""
    names = sorted(kinds)
    writer: Any = csv.writer(Echo())
    yield "\ufeff" + writer.writerow([*COLUMNS, *(csv_import.safe_cell(f"{CUSTOM}{name}") for name in names)])
    with longer_statements():
        for row in customers.values_list(*COLUMNS, "attributes").iterator(chunk_size=CHUNK_SIZE):
            attributes = row[-1]
            yield writer.writerow(
                [
                    *(format_cell(value) for value in row[:-1]),
                    *(format_cell(convert_date(attributes.get(name), kinds[name])) for name in names),
                ]
            )


def convert_date(value: Any, kind: Kind) -> Any:
    """Convert a stored attribute for the file: dates are stored as seconds."""
    if kind is Kind.DATE and isinstance(value, int):
        try:
            return datetime.fromtimestamp(value, tz=UTC)
        except (ValueError, OverflowError, OSError):
            return value
    return value


def format_cell(value: Any) -> str:
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
