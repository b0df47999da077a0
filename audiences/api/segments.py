"""Segments: which there are, how many are in each, and in which a customer is (wire.md 5.13)."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import compiler
from audiences.api import shapes
from audiences.api.endpoint import Endpoint
from audiences.api.references import one_of
from audiences.intake.values import flag
from audiences.models import Audience, CustomAttribute, Customer, Workspace
from audiences.rules import RuleError


class Segments(Endpoint):
    """/segments; `type=company` has none, for segments are of people here."""

    def get(self, request: Request) -> Response:
        """List them by name."""
        counting = flag(request.query_params.get("include_count"), "include_count")
        rows = Audience.objects.segments().order_by("name")
        if request.query_params.get("type") == "company":
            rows = rows.none()
        at = timezone.now()
        found = [shapes.segment(row, count=count_of(row, at=at) if counting else None) for row in rows]
        return Response(shapes.listed("segment", found))


class Segment(Endpoint):
    """/segments/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Answer with one, counted."""
        row = one_of(Audience.objects.segments(), pk)
        return Response(shapes.segment(row, count=count_of(row, at=timezone.now())))


def count_of(segment: Audience, *, at: datetime) -> int:
    """Return how many are in it; nobody, where its rules no longer make sense."""
    try:
        return compiler.customers(segment.rules, at=at).count()
    except RuleError:
        return 0


def segments_of(customers: Iterable[Customer], *, at: datetime) -> dict[int, list[Audience]]:
    """Return the segments each of these customers is in, asked of the database in one statement."""
    ids = [customer.pk for customer in customers]
    segments = {segment.pk: segment for segment in Audience.objects.segments().order_by("name")}
    catalogue, zone = CustomAttribute.objects.catalogue(), Workspace.current().tz
    params: dict[str, Any] = {"now": at, "ids": ids}
    selects = []
    for pk, segment in segments.items():
        try:
            condition = compiler.compile_tree(segment.tree, prefix=f"s{pk}_", catalogue=catalogue, zone=zone)
        except RuleError:
            continue
        params |= condition.params
        pairs = condition.pairs(per_company=False, where="c.id = ANY(%(ids)s)")
        selects.append(f"SELECT {pk}, customer_id FROM ({pairs}) AS s{pk}")  # noqa: S608 - a key of ours
    if not ids or not selects:
        return {}
    found: dict[int, list[Audience]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(selects), params)
        for pk, customer in cursor.fetchall():
            found[customer].append(segments[pk])
    return found
