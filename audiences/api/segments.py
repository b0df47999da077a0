"""Segments: which there are, how many are in each, and in which a customer is (wire 5.13)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import psycopg
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import compiler
from audiences.api import payloads
from audiences.api.base import openapi
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.lookups import get_row
from audiences.api.base.openapi import asked
from audiences.intake import Refused
from audiences.intake.attributes.fields import flag
from audiences.models import Audience, CustomAttribute, Customer, Workspace
from audiences.models.audience import parse_stored_rules
from audiences.rules import RuleError

# Somebody waits for the answer, and a process is kept busy for as long.
COUNT_TIMEOUT = timedelta(seconds=12)


class Segments(Endpoint):
    """/segments; `type=company` has none, for segments are of people here."""

    parameters = {
        "get": (
            asked("include_count", "true: counted, as far as time allows.", openapi.one_of("true", "false")),
            asked("type", "company: none, for segments are of people here.", openapi.one_of("user", "company")),
        )
    }

    def get(self, request: Request) -> Response:
        """List them by name."""
        counting = flag(request.query_params.get("include_count"), "include_count")
        rows = Audience.objects.segments().order_by("name")
        kind = request.query_params.get("type", "user")
        if kind not in ("user", "company"):
            raise Refused("type is user or company.", field="type")
        if kind == "company":
            rows = rows.none()
        numbers = counts_before_timeout(rows, at=timezone.now()) if counting else {}
        return Response(payloads.list_payload("segment", [segment_payload(row, numbers) for row in rows]))


class Segment(Endpoint):
    """/segments/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Answer with one, counted; a count that would take too long is null."""
        row = get_row(Audience.objects.segments(), pk)
        return Response(segment_payload(row, counts_before_timeout([row], at=timezone.now())))


def segment_payload(row: Audience, numbers: Mapping[int, int | None]) -> payloads.Json:
    """Return a segment; with its count where it was to be counted, null where that was not done in time."""
    shape = payloads.segment(row)
    return {**shape, "count": numbers[row.pk]} if row.pk in numbers else shape


def counts_before_timeout(segments: Collection[Audience], *, at: datetime) -> dict[int, int | None]:
    """Return how many are in each; None for those that were not counted within COUNTED_WITHIN for all together.

    All are counted by one statement while that goes fast. Where it does not, each is by itself until the time is over,
    so that what can be told is. One alone has all the time at once.
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
    """Return how many are in each; None where that takes longer."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{max(1, int(seconds * 1000))}"])
            found = counts_of(segments, at=at)
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError as wrong:
        if not isinstance(wrong.__cause__, psycopg.errors.QueryCanceled):
            raise
        return None
    return found


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
            tree = parse_stored_rules(segment.rules, catalogue=catalogue)
            condition = compiler.compile_tree(tree, prefix=f"s{segment.pk}_", catalogue=catalogue, zone=zone)
        except RuleError:
            continue
        params |= condition.params
        members[segment.pk] = condition.pairs(per_company=False, where=where)
    return members, params
