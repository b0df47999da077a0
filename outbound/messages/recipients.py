"""The people of a message: listed by status with the reason, found by name, and as a file."""

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
from delivery.models import DeliveryRecord, Status
from messaging.models import Message
from outbound.console.idempotency import NotThisForm
from outbound.console.search import TOO_LONG, is_too_long
from outbound.console.timeouts import longer_statements

A_PAGE = 10
# So many who share an address are looked up one by one.
MOST_ALIKE = 100
BOM = "\ufeff"  # Without it a spreadsheet takes é for Ã©.
MOMENTS = ("matched", "sent", "opened", "clicked", "replied", "bounced", "complained", "unsubscribed")
COLUMNS = ("Name", "Email", "User ID", "Company", "Status", "Reason", *(name.capitalize() for name in MOMENTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of the people, and the way to those before and after."""

    records: list[DeliveryRecord]
    status: str
    search: str
    newer: str
    older: str


def searched(request: HttpRequest) -> str:
    """What is searched for; nothing that is stored holds a null character."""
    search = request.GET.get("q", "").replace("\0", "").strip()
    if is_too_long(search):
        raise NotThisForm(TOO_LONG)
    return search


def asked_for(message: Message, *, status: str, search: str) -> QuerySet[DeliveryRecord]:
    """The records of a message that are asked for."""
    records = message.records.select_related("customer", "company", "message")
    if status in Status.values:
        records = records.filter(status=status)
    if search and (pks := customer_ids_matching(search)):
        return records.filter(customer__in=pks)
    if search:
        # Addresses are kept in lower case: folding a million of them again takes a third of the search.
        records = records.filter(
            Q(customer__name__icontains=search)
            | Q(customer__email__contains=search.lower())
            | Q(customer__user_id__icontains=search)
        )
    return records


def customer_ids_matching(search: str) -> list[int]:
    """Who has just this email or user ID: found by index, however many people there are; nobody where it is neither."""
    by_id = Customer.objects.filter(user_id=search).values("pk")
    by_email = Customer.objects.filter(email=search.lower()).values("pk")
    return [row["pk"] for row in by_id.union(by_email)[:MOST_ALIKE]]


def page(message: Message, request: HttpRequest) -> Page:
    """One page, in the order of customers; a page is found by who is on it, so the last is as quick as the first."""
    status, search = request.GET.get("status", ""), searched(request)
    records = asked_for(message, status=status, search=search)
    before, after = place(request.GET.get("before", "")), place(request.GET.get("after", ""))
    order = ("customer_id", "company_id")
    if before:
        # The database puts the record without a company after those of the same customer with one.
        same = Q(company_id__lt=before[1]) if before[1] else Q(company_id__isnull=False)
        beyond = records.filter(Q(customer_id__lt=before[0]) | (Q(customer_id=before[0]) & same))
        found = list(reversed(beyond.order_by("-customer_id", "-company_id")[: A_PAGE + 1]))
        more_before, more_after = len(found) > A_PAGE, True
        found = found[-A_PAGE:]
    else:
        if after:
            same = Q(company_id__gt=after[1]) | Q(company_id=None) if after[1] else Q(pk__in=[])
            records = records.filter(Q(customer_id__gt=after[0]) | (Q(customer_id=after[0]) & same))
        found = list(records.order_by(*order)[: A_PAGE + 1])
        more_before, more_after = bool(after), len(found) > A_PAGE
        found = found[:A_PAGE]
    return Page(
        records=found,
        status=status if status in Status.values else "",
        search=search,
        newer=mark(found[0]) if found and more_before else "",
        older=mark(found[-1]) if found and more_after else "",
    )


def mark(record: DeliveryRecord) -> str:
    """Where a page begins or ends."""
    return f"{record.customer_id}-{record.company_id or 0}"


def place(given: str) -> tuple[int, int] | None:
    """What a mark says; None where it is none."""
    customer, _, company = given.partition("-")
    if not (customer.isdecimal() and company.isdecimal() and len(customer) < 19 and len(company) < 19):
        return None
    return int(customer), int(company)


def as_file(message: Message, *, status: str, search: str) -> StreamingHttpResponse:
    """The people asked for as CSV, written as it is read, so that memory does not grow with them."""
    answer = StreamingHttpResponse(lines(message, status=status, search=search), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{slugify(message.title)[:60] or message.pk}.csv"'
    return answer


class Line:
    """A file of one line: what is written is handed on."""

    def write(self, text: str) -> str:
        """Return what was to be written."""
        return text


def lines(message: Message, *, status: str, search: str) -> Iterator[str]:
    """The lines of the file."""
    writer: Any = csv.writer(Line())
    yield BOM + writer.writerow(COLUMNS)
    records = asked_for(message, status=status, search=search).order_by("customer_id")
    with longer_statements():
        for record in records.iterator(chunk_size=2000):
            yield writer.writerow([safe_cell(cell) for cell in cells(record)])


def cells(record: DeliveryRecord) -> list[str]:
    """One person as a row."""
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
