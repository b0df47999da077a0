"""Segments: which there are, how many are in each, and in which a customer is (wire.md 5.13)."""

from collections import defaultdict
from collections.abc import Collection, Iterable
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
from audiences.models.audience import read
from audiences.rules import RuleError


class Segments(Endpoint):
    """/segments; `type=company` has none, for segments are of people here."""

    def get(self, request: Request) -> Response:
        """List them by name."""
        counting = flag(request.query_params.get("include_count"), "include_count")
        rows = Audience.objects.segments().order_by("name")
        if request.query_params.get("type") == "company":
            rows = rows.none()
        numbers = counts_of(rows, at=timezone.now()) if counting else {}
        return Response(shapes.listed("segment", [shapes.segment(row, count=numbers.get(row.pk)) for row in rows]))


class Segment(Endpoint):
    """/segments/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Answer with one, counted."""
        row = one_of(Audience.objects.segments(), pk)
        return Response(shapes.segment(row, count=counts_of([row], at=timezone.now())[row.pk]))


def counts_of(segments: Collection[Audience], *, at: datetime) -> dict[int, int]:
    """Return how many are in each, by one statement; nobody, where its rules no longer make sense."""
    found = {segment.pk: 0 for segment in segments}
    members, params = members_of(segments)
    if members:
        counts = [f"SELECT {pk}, count(*) FROM ({pairs}) AS s{pk}" for pk, pairs in members.items()]  # noqa: S608 - a key of ours
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(counts), {**params, "now": at})
            found |= dict(cursor.fetchall())
    return found


def segments_of(customers: Iterable[Customer], *, at: datetime) -> dict[int, list[Audience]]:
    """Return the segments each of these customers is in, asked of the database in one statement."""
    ids = [customer.pk for customer in customers]
    segments = {segment.pk: segment for segment in Audience.objects.segments().order_by("name")}
    members, params = members_of(segments.values(), where="c.id = ANY(%(ids)s)")
    if not ids or not members:
        return {}
    found: dict[int, list[Audience]] = defaultdict(list)
    selects = [f"SELECT {pk}, customer_id FROM ({pairs}) AS s{pk}" for pk, pairs in members.items()]  # noqa: S608 - a key of ours
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(selects), {**params, "now": at, "ids": ids})
        for pk, customer in cursor.fetchall():
            found[customer].append(segments[pk])
    return found


def members_of(segments: Iterable[Audience], *, where: str = "TRUE") -> tuple[dict[int, str], dict[str, Any]]:
    """Return SQL for the members of each segment whose rules make sense, by its key, and the parameters of all."""
    catalogue, zone = CustomAttribute.objects.catalogue(), Workspace.current().tz
    members: dict[int, str] = {}
    params: dict[str, Any] = {}
    for segment in segments:
        try:
            tree = read(segment.rules, catalogue=catalogue)
            condition = compiler.compile_tree(tree, prefix=f"s{segment.pk}_", catalogue=catalogue, zone=zone)
        except RuleError:
            continue
        params |= condition.params
        members[segment.pk] = condition.pairs(per_company=False, where=where)
    return members, params
