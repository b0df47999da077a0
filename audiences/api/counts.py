"""Counts, and the teammates (wire 5.13)."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api import payloads
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.errors import CountTimeout
from audiences.api.base.lookups import admins
from audiences.api.base.openapi import asked, one_of
from audiences.api.base.query import refuse_without_effect
from audiences.api.segments import counts_before_timeout
from audiences.intake import Refused
from audiences.models import Audience, Company, Customer, Tag
from audiences.models.customers import Role

NameCounts = list[dict[str, int]]
# A count by something lists so many: of tags and companies the largest, of segments the first by name.
MAX_LISTED = 1_000
TOTAL_COUNTS: dict[str, Callable[[], int]] = {
    "company": lambda: Company.objects.present().count(),
    "user": lambda: Customer.objects.present().users().count(),
    "lead": lambda: Customer.objects.present().filter(role=Role.LEAD).count(),
    "tag": lambda: Tag.objects.count(),
    "segment": lambda: Audience.objects.segments().count(),
}


def name_counts(rows: Iterable[tuple[str, int]]) -> NameCounts:
    """Return counts as the clients read them: a list of single pairs."""
    return [{name: number} for name, number in rows]


def users_by_segment(at: datetime) -> NameCounts:
    """How many users are in each segment."""
    rows = list(Audience.objects.segments().order_by("name")[:MAX_LISTED])
    numbers = counts_before_timeout(rows, at=at)
    uncounted = [row.name for row in rows if numbers[row.pk] is None]
    if uncounted:
        raise CountTimeout(f"Counting took too long, of “{uncounted[0]}” too. Ask for a segment by its id.")
    return name_counts((row.name, numbers[row.pk] or 0) for row in rows)


def users_by_tag(_at: datetime) -> NameCounts:
    """How many users have each tag."""
    present = Count("customers", filter=Q(customers__archived_at=None, customers__role=Role.USER))
    return counts_by_tag(present)


def counts_by_tag(number: Count) -> NameCounts:
    """How many each tag is on."""
    rows = Tag.objects.annotate(number=number).order_by("-number", "name")
    return name_counts(rows.values_list("name", "number")[:MAX_LISTED])


def companies_by_segment(_at: datetime) -> NameCounts:
    """Segments are of people here."""
    return []


def companies_by_tag(_at: datetime) -> NameCounts:
    """How many companies have each tag."""
    present = Count("companies", filter=Q(companies__archived_at=None))
    return counts_by_tag(present)


def companies_by_users(_at: datetime) -> NameCounts:
    """How many users each company has."""
    present = Count("memberships", filter=Q(memberships__customer__archived_at=None))
    rows = Company.objects.present().annotate(number=present).order_by("-number", "company_id")
    found = rows.values_list("name", "company_id", "number")[:MAX_LISTED]
    return name_counts((name or company_id, number) for name, company_id, number in found)


GROUPED_COUNTS: dict[tuple[str, str], Callable[[datetime], NameCounts]] = {
    ("user", "segment"): users_by_segment,
    ("user", "tag"): users_by_tag,
    ("company", "segment"): companies_by_segment,
    ("company", "tag"): companies_by_tag,
    ("company", "user"): companies_by_users,
}


COUNT_PARAMETER = asked(
    "count",
    f"By what; at most {MAX_LISTED:,} are listed, the largest (segments: the first by name).",
    one_of("segment", "tag", "user", "admin"),
)


class Counts(Endpoint):
    """/counts; of conversations delivery counts, which routes this."""

    parameters = {
        "get": (
            asked("type", "Of what.", one_of("user", "lead", "company", "tag", "segment", "conversation")),
            COUNT_PARAMETER,
        )
    }

    def get(self, request: Request) -> Response:
        """Count all there is, or of one type by what it is counted by."""
        kind, by = request.query_params.get("type", ""), request.query_params.get("count", "")
        if not kind:
            refuse_without_effect(request.query_params, [COUNT_PARAMETER], because="it needs type.")
            totals: dict[str, Any] = {name: {"count": count()} for name, count in TOTAL_COUNTS.items()}
            return Response({"type": "count.hash", **totals})
        if not by and kind in TOTAL_COUNTS:
            return Response({"type": "count", kind: {"count": TOTAL_COUNTS[kind]()}})
        if (kind, by) not in GROUPED_COUNTS:
            known = ", ".join(f"type={kind}&count={by}" for kind, by in GROUPED_COUNTS)
            raise Refused(f"There is no such count. There are: {known}.", field="count")
        return Response({"type": "count", kind: {by: GROUPED_COUNTS[kind, by](timezone.now())}})


class Admins(Endpoint):
    """/admins."""

    def get(self, request: Request) -> Response:
        """List the teammates."""
        return Response(payloads.list_payload("admin", map(payloads.admin, admins())))
