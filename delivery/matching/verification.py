"""Verification of change-driven matching: every hour one message is matched in full, spread over the hour.

A full match must find nobody. A pair that it finds is stored, which raises an alarm, and gets its record.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import F, Max

from audiences.models import Customer
from delivery.eligibility.live_messages import Live
from delivery.matching import changes, ongoing, sql
from delivery.matching.changes import Followed
from delivery.matching.dependencies import dependencies_of
from delivery.models import MatchState, MissedMatch
from messaging.models import Channel, Message

log = logging.getLogger(__name__)

EVERY = timedelta(hours=1)
# The sweep verifies one slice each minute.
SLICE = timedelta(minutes=1)
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """A customer, and a company if the message goes once for each."""

    customer: int
    company: int | None


def missing_pairs(live: Live, *, at: datetime, first: int = 0, end: int | None = None) -> list[Pair]:
    """Judge everyone with keys from `first` to before `end`; return the pairs that match and need a record."""
    condition = live.compiled
    company = "IS NOT DISTINCT FROM k.id" if live.per_company else "IS NULL"
    pairs = condition.pairs(
        per_company=live.per_company,
        joins=(
            " LEFT JOIN delivery_deliveryrecord r ON r.message_id = %(message)s::bigint AND r.customer_id = c.id"
            f" AND r.company_id {company}"
        ),
        where=(
            "c.id >= %(first)s::bigint AND (%(end)s::bigint IS NULL OR c.id < %(end)s::bigint)"
            f" AND {live.reachable}{sql.exclude_without_company(live.per_company)} AND {sql.NEEDS_RECORD}"
        ),
    )
    values: dict[str, Any] = {**condition.params, "now": at, "message": live.pk, "first": first, "end": end}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT customer_id, company_id FROM ({pairs}) AS pairs ORDER BY 1, 2", values)
        return [Pair(*row) for row in cursor.fetchall()]


def verify_next_slice(*, at: datetime) -> list[Pair]:
    """Verify the next slice of the message whose turn it is. Return the pairs that rounds have missed."""
    if not settings.CHANGE_DRIVEN_MATCHING:
        return []
    state = state_to_verify(at=at)
    if state is None or state.verifying_since is None or state.verify_from is None:
        return []
    last = Customer.objects.aggregate(last=Max("pk"))["last"] or 0
    share = min(1.0, (at - state.verifying_since + SLICE) / EVERY)
    end = ceil((last + 1) * share)
    found = missed_pairs(state.message, first=state.verify_from, end=end)
    if found is None:
        return []
    MatchState.objects.filter(pk=state.pk).update(verify_from=end if share < 1 else None)
    if found:
        report_missed(state.message, found, at=at)
    return found


def state_to_verify(*, at: datetime) -> MatchState | None:
    """Return the state of the message that is being verified; begin with the next one if an hour has passed."""
    rows = MatchState.objects.filter(
        message__in=Message.objects.live().ongoing().exclude(channel=Channel.IN_APP)
    ).select_related("message__audience")
    if current := rows.filter(verify_from__isnull=False, verifying_since__lte=at).order_by("pk").first():
        return current
    if rows.filter(verifying_since__gt=at - EVERY, verifying_since__lte=at).exists():
        return None
    chosen = rows.order_by(F("verifying_since").asc(nulls_first=True), "pk").first()
    if chosen is not None:
        chosen.verifying_since, chosen.verify_from = at, 0
        chosen.save(update_fields=["verifying_since", "verify_from"])
    return chosen


def missed_pairs(message: Message, *, first: int, end: int) -> list[Pair] | None:
    """Return pairs that match by the data of the last round and have no record. None if rounds interfere."""
    for _ in range(MAX_ATTEMPTS):
        state = MatchState.objects.filter(message=message).first()
        live = ongoing.compile_now(message)
        dependencies = dependencies_of(live)
        if state is None or state.fingerprint != dependencies.fingerprint or not dependencies.is_traceable:
            return None
        # Read in this order: data that the first statement sees is in the log that the second one reads.
        suspects = missing_pairs(live, at=state.at, first=first, end=end)
        if not suspects:
            return []
        pending = pending_customers(Followed(live, live.compiled, dependencies, state.horizon, state.at))
        remaining = [pair for pair in suspects if pair.customer not in pending]
        # While the state is the same, no entry that it needs was truncated.
        if MatchState.objects.filter(message=message, horizon=state.horizon, at=state.at).exists():
            return remaining
    return None


def pending_customers(followed: Followed) -> set[int]:
    """Return the customers whom the next round will judge."""
    try:
        changes.store_candidates([followed], at=followed.at)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT customer_id FROM {changes.CANDIDATES}")
            return {pk for (pk,) in cursor.fetchall()}
    finally:
        changes.drop_tables()


def report_missed(message: Message, pairs: list[Pair], *, at: datetime) -> None:
    """Store the missed pairs, which raises an alarm, and match them."""
    log.error("rounds missed %s pairs of message %s, the first is %s", len(pairs), message.pk, pairs[0])
    MissedMatch.objects.bulk_create(
        MissedMatch(message=message, customer_id=pair.customer, company_id=pair.company, found_at=at)
        for pair in pairs[: MissedMatch.MAX_STORED]
    )
    ongoing.match_hits(message, at=at, hits=f"VALUES {', '.join(f'({pair.customer})' for pair in pairs)}")
