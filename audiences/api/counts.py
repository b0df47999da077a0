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
from audiences.api.base.errors import TooLong
from audiences.api.base.lookups import admins
from audiences.api.base.openapi import asked, one_of
from audiences.api.base.query import refuse_beside
from audiences.api.segments import counts_in_time
from audiences.intake import Refused
from audiences.models import Audience, Company, Customer, Tag
from audiences.models.customers import Role

Counted = list[dict[str, int]]
# A count by something lists so many: of tags and companies the largest, of segments the first by name.
MOST = 1_000
IN_ALL: dict[str, Callable[[], int]] = {
    "company": lambda: Company.objects.present().count(),
    "user": lambda: Customer.objects.present().users().count(),
    "lead": lambda: Customer.objects.present().filter(role=Role.LEAD).count(),
    "tag": lambda: Tag.objects.count(),
    "segment": lambda: Audience.objects.segments().count(),
}


def by_name(rows: Iterable[tuple[str, int]]) -> Counted:
    """Return counts as the clients read them: a list of single pairs."""
    return [{name: number} for name, number in rows]


def users_by_segment(at: datetime) -> Counted:
    """How many users are in each segment."""
    rows = list(Audience.objects.segments().order_by("name")[:MOST])
    numbers = counts_in_time(rows, at=at)
    uncounted = [row.name for row in rows if numbers[row.pk] is None]
    if uncounted:
        raise TooLong(f"Counting took too long, of “{uncounted[0]}” too. Ask for a segment by its id.")
    return by_name((row.name, numbers[row.pk] or 0) for row in rows)


def users_by_tag(_at: datetime) -> Counted:
    """How many users have each tag."""
    present = Count("customers", filter=Q(customers__archived_at=None, customers__role=Role.USER))
    return tagged(present)


def tagged(number: Count) -> Counted:
    """How many each tag is on."""
    rows = Tag.objects.annotate(number=number).order_by("-number", "name")
    return by_name(rows.values_list("name", "number")[:MOST])


def companies_by_segment(_at: datetime) -> Counted:
    """Segments are of people here."""
    return []


def companies_by_tag(_at: datetime) -> Counted:
    """How many companies have each tag."""
    present = Count("companies", filter=Q(companies__archived_at=None))
    return tagged(present)


def companies_by_users(_at: datetime) -> Counted:
    """How many users each company has."""
    present = Count("memberships", filter=Q(memberships__customer__archived_at=None))
    rows = Company.objects.present().annotate(number=present).order_by("-number", "company_id")
    found = rows.values_list("name", "company_id", "number")[:MOST]
    return by_name((name or company_id, number) for name, company_id, number in found)


BY: dict[tuple[str, str], Callable[[datetime], Counted]] = {
    ("user", "segment"): users_by_segment,
    ("user", "tag"): users_by_tag,
    ("company", "segment"): companies_by_segment,
    ("company", "tag"): companies_by_tag,
    ("company", "user"): companies_by_users,
}


BY_WHAT = asked(
    "count",
    f"By what; at most {MOST:,} are listed, the largest (segments: the first by name).",
    one_of("segment", "tag", "user", "admin"),
)


class Counts(Endpoint):
    """/counts; of conversations delivery counts, which routes this."""

    parameters = {
        "get": (
            asked("type", "Of what.", one_of("user", "lead", "company", "tag", "segment", "conversation")),
            BY_WHAT,
        )
    }

    def get(self, request: Request) -> Response:
        """Count all there is, or of one type by what it is counted by."""
        kind, by = request.query_params.get("type", ""), request.query_params.get("count", "")
        if not kind:
            refuse_beside(request.query_params, [BY_WHAT], because="it needs type.")
            totals: dict[str, Any] = {name: {"count": count()} for name, count in IN_ALL.items()}
            return Response({"type": "count.hash", **totals})
        if not by and kind in IN_ALL:
            return Response({"type": "count", kind: {"count": IN_ALL[kind]()}})
        if (kind, by) not in BY:
            known = ", ".join(f"type={kind}&count={by}" for kind, by in BY)
            raise Refused(f"There is no such count. There are: {known}.", field="count")
        return Response({"type": "count", kind: {by: BY[kind, by](timezone.now())}})


class Admins(Endpoint):
    """/admins."""

    def get(self, request: Request) -> Response:
        """List the teammates."""
        return Response(payloads.listed("admin", map(payloads.admin, admins())))
