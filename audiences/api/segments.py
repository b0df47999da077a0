"""Endpoints of segments, counts of their members, and the segments of a customer (wire 5.13)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.db import connection
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import compiler
from audiences.api import payloads
from audiences.api.base import openapi
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.lookups import get_row
from audiences.api.base.openapi import Parameter
from audiences.intake import Refused
from audiences.intake.attributes.fields import read_flag
from audiences.models import Audience, CustomAttribute, Customer, Workspace
from audiences.models.audience import parse_stored_rules
from audiences.rules import RuleError
from audiences.transactions import run_within

# Limit for one request: the client waits, and a process is busy for as long.
COUNT_TIMEOUT = timedelta(seconds=12)


class Segments(Endpoint):
    """/segments. `type=company` returns none, because segments contain only people."""

    parameters = {
        "get": (
            Parameter(
                "include_count", "true: with counts, unless they take too long.", openapi.one_of("true", "false")
            ),
            Parameter(
                "type", "company: an empty list, segments contain only people.", openapi.one_of("user", "company")
            ),
        )
    }

    def get(self, request: Request) -> Response:
        """List the segments by name."""
        counting = read_flag(request.query_params.get("include_count"), "include_count")
        rows = Audience.objects.segments().order_by("name")
        kind = request.query_params.get("type", "user")
        if kind not in ("user", "company"):
            raise Refused("type must be user or company.", field="type")
        if kind == "company":
            rows = rows.none()
        numbers = counts_before_timeout(rows, at=timezone.now()) if counting else {}
        return Response(payloads.list_payload("segment", [segment_payload(row, numbers) for row in rows]))


class Segment(Endpoint):
    """/segments/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find a segment, with its count. A count that would take too long is null."""
        row = get_row(Audience.objects.segments(), pk)
        return Response(segment_payload(row, counts_before_timeout([row], at=timezone.now())))


def segment_payload(row: Audience, numbers: Mapping[int, int | None]) -> payloads.Json:
    """Return a segment, with its count if `numbers` has one; null if counting took too long."""
    payload = payloads.segment(row)
    return {**payload, "count": numbers[row.pk]} if row.pk in numbers else payload


def counts_before_timeout(segments: Collection[Audience], *, at: datetime) -> dict[int, int | None]:
    """Return the number of members of each segment; None for those not counted within COUNT_TIMEOUT in total.

    One statement tries to count all of them in a third of the time. If it fails, each segment is counted by itself
    until the time is used up. A single segment gets the whole time at once.
    """
    budget = COUNT_TIMEOUT.total_seconds()
    ends, is_one = monotonic() + budget, len(segments) == 1
    if (found := counts_within(segments, at=at, seconds=budget if is_one else budget / 3)) is not None:
        return {**found}
    if is_one:
        return {row.pk: None for row in segments}
    numbers: dict[int, int | None] = {}
    for row in segments:
        left = ends - monotonic()
        one = counts_within([row], at=at, seconds=left) if left > 0 else None
        numbers[row.pk] = one[row.pk] if one else None
    return numbers


def counts_within(segments: Collection[Audience], *, at: datetime, seconds: float) -> dict[int, int] | None:
    """Return the number of members of each segment; None if counting takes longer than `seconds`."""
    return run_within(timedelta(seconds=seconds), lambda: counts_of(segments, at=at))


def counts_of(segments: Collection[Audience], *, at: datetime) -> dict[int, int]:
    """Return the number of members of each segment, in one statement; 0 if its rules are no longer valid."""
    found = {segment.pk: 0 for segment in segments}
    members, params = members_of(segments)
    if members:
        counts = [f"SELECT {pk}, count(*) FROM ({pairs}) AS s{pk}" for pk, pairs in members.items()]  # noqa: S608 - a key of ours
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(counts), {**params, "now": at})
            found |= dict(cursor.fetchall())
    return found


def segments_of(customers: Iterable[Customer], *, at: datetime) -> dict[int, list[Audience]]:
    """Return the segments of each customer, in one statement."""
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
    """Return the SQL for the members of each segment with valid rules, by segment key, and the parameters of all."""
    catalogue, zone = CustomAttribute.objects.catalogue(), Workspace.current().tz
    members: dict[int, str] = {}
    params: dict[str, Any] = {}
    for segment in segments:
        try:
            tree = parse_stored_rules(segment.rules, catalogue=catalogue)
            condition = compiler.compile_tree(tree, prefix=f"s{segment.pk}_", catalogue=catalogue, zone=zone)
        except RuleError:
            continue
        params |= condition.params
        members[segment.pk] = condition.pairs(per_company=False, where=where)
    return members, params
