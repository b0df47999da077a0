"""Forecast: how many customers a message would reach, and why it would not reach the others."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.utils import OperationalError

from audiences.customer_counts import estimate_customer_count, fetch_counts, sample_clause
from audiences.transactions import run_within, time_limit, without_nested_loops
from delivery.eligibility import conditions
from delivery.matching import sql
from delivery.models import IN_AN_INBOX, Reason
from messaging.models import Message, State

NO_MATCH = "No customer matches right now, so this one-off would reach no one."
NO_REST_MATCH = "No one else matches now, so the rest would reach no one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The result of setting a message live now: customers, copies, and how many are left out for each reason.

    Of a company message, only companies that match the rules count. Each customer is left out for at most one reason.
    """

    people: int
    copies: int
    left_out: dict[Reason, int]
    # False for an estimate from a sample of the customers.
    exact: bool = True

    @property
    def receiving(self) -> int:
        """Return the number of people who will receive it."""
        return self.people - sum(self.left_out.values())


def forecast_within(message: Message, *, at: datetime, within: timedelta) -> Forecast:
    """Count the customers who match now. If that takes longer than `within`, estimate from about 20,000 customers."""
    counted = run_within(within, lambda: forecast(message, at=at))
    return counted or forecast(message, at=at, customers=estimate_customer_count())


def forecast(message: Message, *, at: datetime, customers: int = 0) -> Forecast:
    """Count the customers who match now, and their copies; RuleError if a rule is no longer valid.

    For a sampled message only customers without a record count. If `customers` is above the size of a sample, a sample
    is evaluated and its numbers are scaled up to so many.
    """
    sample = sample_clause(customers)
    pairs, params = pairs_statement(message, at=at, sample=sample)
    statement = (
        f"SELECT blocked, count(*), sum(copies)::bigint FROM ({people_sql(message, pairs)}) AS people GROUP BY blocked"
    )
    rows, scale = fetch_counts(statement, params, customers=customers)
    return Forecast(
        people=round(scale * sum(people for _, people, _ in rows)),
        copies=round(scale * sum(copies for *_, copies in rows)),
        left_out={Reason(blocked): round(people * scale) for blocked, people, _ in rows if blocked is not None},
        exact=not sample,
    )


def people_sql(message: Message, pairs: str) -> str:
    """Return SQL for each matching customer: how many copies they get, and one reason if they get none.

    A customer of several companies may be left out for one of them and receive the copies about the others.
    """
    if not message.goes_per_company:
        return f"SELECT blocked, (blocked IS NULL)::int AS copies FROM ({pairs}) AS pairs"
    return (
        "SELECT CASE WHEN count(*) = count(blocked) THEN min(blocked) END AS blocked,"
        f" count(*) - count(blocked) AS copies FROM ({pairs}) AS pairs GROUP BY customer_id"
    )


def newest_recipients(message: Message, *, at: datetime, limit: int, within: timedelta) -> list[int]:
    """Return the newest customers who would receive the message; none if finding them takes longer than `within`."""
    pairs, params = pairs_statement(message, at=at)
    statement = (
        f"SELECT DISTINCT customer_id FROM ({pairs}) AS pairs WHERE blocked IS NULL"
        " ORDER BY customer_id DESC LIMIT %(limit)s"
    )
    try:
        with time_limit(within) as cursor, without_nested_loops():
            cursor.execute(statement, {**params, "limit": limit})
            found = [key for (key,) in cursor.fetchall()]
    except OperationalError:
        return []
    return found


def pairs_statement(message: Message, *, at: datetime, sample: str = "") -> tuple[str, dict[str, Any]]:
    """Return SQL for the matching pairs, each with the reason to leave it out or NULL, and its parameters."""
    condition = conditions.condition_of(message)
    per_company = message.goes_per_company
    left_out = f"'{Reason.MATCHED_AT_LAUNCH}'" if message.only_new_matches and not message.is_locked else "NULL"
    pairs = condition.pairs(
        per_company=per_company,
        columns=(
            f", coalesce({left_out}, {conditions.left_out_reason_sql(message)}) AS blocked,"
            f" {conditions.inbox_sql(message)} AS inbox"
        ),
        where=sql.no_record(per_company) if message.state == State.SAMPLED else "TRUE",
        sample=sample,
    )
    if conditions.inbox_sql(message) != conditions.NO_INBOX:
        pairs = one_to_each_inbox(pairs, some_have_it=message.state == State.SAMPLED)
    return pairs, {**condition.params, "now": at, "message": message.pk}


def one_to_each_inbox(pairs: str, *, some_have_it: bool) -> str:
    """Return SQL that blocks all but the first of the customers who share an inbox, as sending does."""
    another = "row_number() OVER (PARTITION BY blocked IS NULL, inbox, company_id ORDER BY customer_id) > 1"
    statuses = ", ".join(f"'{status}'" for status in IN_AN_INBOX)
    has_it = (
        f"{some_have_it} AND EXISTS (SELECT FROM delivery_deliveryrecord r WHERE r.message_id = %(message)s::bigint"
        f" AND r.address = o.inbox AND r.company_id IS NOT DISTINCT FROM o.company_id AND r.status IN ({statuses}))"
    )
    return (
        "SELECT customer_id, company_id,"
        f" CASE WHEN blocked IS NULL AND ({another} OR ({has_it})) THEN '{Reason.SAME_INBOX}' ELSE blocked END"
        f" AS blocked FROM ({pairs}) AS o"
    )
