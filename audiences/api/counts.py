"""Endpoints of counts and of teammates (wire 5.13)."""

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
from audiences.api.base.lookups import admins, find_admin
from audiences.api.base.openapi import Parameter, one_of
from audiences.api.base.query import refuse_without_effect
from audiences.api.segments import counts_before_timeout
from audiences.intake import Refused
from audiences.models import Audience, Company, Customer, Tag
from audiences.models.customers import Role

NameCounts = list[dict[str, int]]
# Maximum groups in one response: the largest tags and companies, the first segments by name.
MAX_LISTED = 1_000
TOTAL_COUNTS: dict[str, Callable[[], int]] = {
    "company": lambda: Company.objects.present().count(),
    "user": lambda: Customer.objects.present().users().count(),
    "lead": lambda: Customer.objects.present().filter(role=Role.LEAD).count(),
    "tag": lambda: Tag.objects.count(),
    "segment": lambda: Audience.objects.segments().count(),
}


def name_counts(rows: Iterable[tuple[str, int]]) -> NameCounts:
    """Return counts in the wire format: a list of objects with one key each."""
    return [{name: number} for name, number in rows]


def users_by_segment(at: datetime) -> NameCounts:
    rows = list(Audience.objects.segments().order_by("name")[:MAX_LISTED])
    numbers = counts_before_timeout(rows, at=at)
    uncounted = [row.name for row in rows if numbers[row.pk] is None]
    if uncounted:
        raise CountTimeout(f"Counting took too long, for “{uncounted[0]}” too. Request a single segment by its id.")
    return name_counts((row.name, numbers[row.pk] or 0) for row in rows)


def users_by_tag(_at: datetime) -> NameCounts:
    number = Count("customers", filter=Q(customers__archived_at=None, customers__role=Role.USER))
    return counts_by_tag(number)


def counts_by_tag(number: Count) -> NameCounts:
    rows = Tag.objects.annotate(number=number).order_by("-number", "name")
    return name_counts(rows.values_list("name", "number")[:MAX_LISTED])


def companies_by_segment(_at: datetime) -> NameCounts:
    """Return no counts: segments contain only people."""
    return []


def companies_by_tag(_at: datetime) -> NameCounts:
    number = Count("companies", filter=Q(companies__archived_at=None))
    return counts_by_tag(number)


def companies_by_users(_at: datetime) -> NameCounts:
    number = Count("memberships", filter=Q(memberships__customer__archived_at=None))
    rows = Company.objects.present().annotate(number=number).order_by("-number", "company_id")
    found = rows.values_list("name", "company_id", "number")[:MAX_LISTED]
    return name_counts((name or company_id, number) for name, company_id, number in found)


GROUPED_COUNTS: dict[tuple[str, str], Callable[[datetime], NameCounts]] = {
    ("user", "segment"): users_by_segment,
    ("user", "tag"): users_by_tag,
    ("company", "segment"): companies_by_segment,
    ("company", "tag"): companies_by_tag,
    ("company", "user"): companies_by_users,
}


COUNT_PARAMETER = Parameter(
    "count",
    f"Group by this. Returns at most {MAX_LISTED:,} groups, the largest ones (segments: the first by name).",
    one_of("segment", "tag", "user", "admin"),
)


class Counts(Endpoint):
    """/counts. delivery extends it with counts of conversations, and routes it."""

    parameters = {
        "get": (
            Parameter("type", "Type to count.", one_of("user", "lead", "company", "tag", "segment", "conversation")),
            COUNT_PARAMETER,
        )
    }

    def get(self, request: Request) -> Response:
        """Count all types, or one type, optionally by group."""
        kind, by = request.query_params.get("type", ""), request.query_params.get("count", "")
        if not kind:
            refuse_without_effect(request.query_params, [COUNT_PARAMETER], because="it needs type.")
            totals: dict[str, Any] = {name: {"count": count()} for name, count in TOTAL_COUNTS.items()}
            return Response({"type": "count.hash", **totals})
        if not by and kind in TOTAL_COUNTS:
            return Response({"type": "count", kind: {"count": TOTAL_COUNTS[kind]()}})
        if (kind, by) not in GROUPED_COUNTS:
            known = ", ".join(f"type={kind}&count={by}" for kind, by in GROUPED_COUNTS)
            raise Refused(f"Unknown count. Available: {known}.", field="count")
        return Response({"type": "count", kind: {by: GROUPED_COUNTS[kind, by](timezone.now())}})


class Admins(Endpoint):
    """/admins."""

    def get(self, request: Request) -> Response:
        """List the teammates."""
        return Response(payloads.list_payload("admin", map(payloads.admin, admins())))


class OneAdmin(Endpoint):
    """/admins/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find a teammate."""
        return Response(payloads.admin(find_admin(pk, what="id")))
