"""The recipients of a message: a list with status and reason, a search, and a CSV export."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from django.utils.text import slugify

from audiences.intake.csv_import import safe_cell
from audiences.models import Customer
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import Message
from outbound.console.idempotency import RefusedForm
from outbound.console.search import TOO_LONG, is_too_long
from outbound.console.timeouts import longer_statements

PAGE_SIZE = 10
# Customers with the same address that are looked up by primary key.
EXACT_MATCH_LIMIT = 100
BOM = "\ufeff"  # Without it, spreadsheets read é as Ã©.
MOMENTS = ("matched", "sent", "opened", "clicked", "replied", "bounced", "complained", "unsubscribed")
COLUMNS = ("Name", "Email", "User ID", "Company", "Status", "Reason", *(name.capitalize() for name in MOMENTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of recipients with the positions of its neighbours."""

    records: list[DeliveryRecord]
    status: str
    reason: str
    search: str
    newer: str
    older: str


def search_text(request: HttpRequest) -> str:
    """Return the search; stored text has no null characters, so they are removed."""
    search = request.GET.get("q", "").replace("\0", "").strip()
    if is_too_long(search):
        raise RefusedForm(TOO_LONG)
    return search


def filtered_records(message: Message, *, status: str, search: str, reason: str = "") -> QuerySet[DeliveryRecord]:
    records = message.records.select_related("customer", "company", "message__topic")
    if status in Status.values:
        records = records.filter(status=status)
    if reason and reason in Reason.values:
        records = records.filter(reason=reason)
    if search and (pks := customer_ids_matching(search)):
        return records.filter(customer__in=pks)
    if search:
        # Addresses are stored in lower case: folding a million of them takes a third of the search time.
        records = records.filter(
            Q(customer__name__icontains=search)
            | Q(customer__email__contains=search.lower())
            | Q(customer__user_id__icontains=search)
        )
    return records


def customer_ids_matching(search: str) -> list[int]:
    """Return the customers with exactly this email or user ID, which an index finds at any size."""
    by_id = Customer.objects.filter(user_id=search).values("pk")
    by_email = Customer.objects.filter(email=search.lower()).values("pk")
    return [row["pk"] for row in by_id.union(by_email)[:EXACT_MATCH_LIMIT]]


def recipient_page(message: Message, request: HttpRequest) -> Page:
    """Return one page in the order of customers; keyset pagination makes the last page as fast as the first."""
    status, reason, search = request.GET.get("status", ""), request.GET.get("reason", ""), search_text(request)
    records = filtered_records(message, status=status, reason=reason, search=search)
    before, after = parse_position(request.GET.get("before", "")), parse_position(request.GET.get("after", ""))
    order = ("customer_id", "company_id")
    if before:
        # PostgreSQL sorts a record without a company after the customer's records with one.
        same = Q(company_id__lt=before[1]) if before[1] else Q(company_id__isnull=False)
        beyond = records.filter(Q(customer_id__lt=before[0]) | (Q(customer_id=before[0]) & same))
        found = list(reversed(beyond.order_by("-customer_id", "-company_id")[: PAGE_SIZE + 1]))
        more_before, more_after = len(found) > PAGE_SIZE, True
        found = found[-PAGE_SIZE:]
    else:
        if after:
            same = Q(company_id__gt=after[1]) | Q(company_id=None) if after[1] else Q(pk__in=[])
            records = records.filter(Q(customer_id__gt=after[0]) | (Q(customer_id=after[0]) & same))
        found = list(records.order_by(*order)[: PAGE_SIZE + 1])
        more_before, more_after = bool(after), len(found) > PAGE_SIZE
        found = found[:PAGE_SIZE]
    return Page(
        records=found,
        status=status if status in Status.values else "",
        reason=reason if reason in Reason.values else "",
        search=search,
        newer=page_position(found[0]) if found and more_before else "",
        older=page_position(found[-1]) if found and more_after else "",
    )


def page_position(record: DeliveryRecord) -> str:
    """Return the position of a record as a URL parameter."""
    return f"{record.customer_id}-{record.company_id or 0}"


def parse_position(given: str) -> tuple[int, int] | None:
    """Parse a position; return None if it is invalid."""
    customer, _, company = given.partition("-")
    if not (customer.isdecimal() and company.isdecimal() and len(customer) < 19 and len(company) < 19):
        return None
    return int(customer), int(company)


def csv_response(message: Message, *, status: str, reason: str, search: str) -> StreamingHttpResponse:
    """Return the recipients as a streamed CSV file, so that memory does not grow with their number."""
    answer = StreamingHttpResponse(
        csv_lines(message, status=status, reason=reason, search=search), content_type="text/csv; charset=utf-8"
    )
    answer["Content-Disposition"] = f'attachment; filename="{slugify(message.title)[:60] or message.pk}.csv"'
    return answer


class Echo:
    """A file for the CSV writer: `write` returns the line."""

    def write(self, text: str) -> str:
        return text


def csv_lines(message: Message, *, status: str, reason: str, search: str) -> Iterator[str]:
    writer: Any = csv.writer(Echo())
    yield BOM + writer.writerow(COLUMNS)
    records = filtered_records(message, status=status, reason=reason, search=search).order_by("customer_id")
    with longer_statements():
        for record in records.iterator(chunk_size=2000):
            yield writer.writerow([safe_cell(cell) for cell in csv_row(record)])


def csv_row(record: DeliveryRecord) -> list[str]:
    who = record.customer
    moments = [getattr(record, f"{name}_at") for name in MOMENTS]
    return [
        who.name,
        who.email or "",
        who.user_id or "",
        str(record.company) if record.company else "",
        record.get_status_display(),
        record.why,
        *(timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S") if moment else "" for moment in moments),
    ]
