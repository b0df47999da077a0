"""Customers who match a live message to an audience now: how many have it, wait for it, or are left out and why."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from audiences.customer_counts import estimate_customer_count, fetch_counts, sample_clause
from audiences.transactions import run_within
from delivery.eligibility import conditions
from delivery.models import Reason, Status
from messaging.models import Message

# Outcomes besides the reasons to be left out.
RECEIVED, UNCERTAIN, WAITS = "received", "uncertain", "waits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Each customer who matches now is counted once: people = received + uncertain + waiting + the sum of left_out."""

    received: int
    # They may have received it, and get no other copy.
    uncertain: int
    # Their copy waits or is being sent, or the next check makes it.
    waiting: int
    left_out: dict[Reason, int]
    # False for an estimate from a sample of the customers.
    exact: bool = True

    @property
    def people(self) -> int:
        return self.received + self.uncertain + self.waiting + sum(self.left_out.values())


def count_outcomes_within(message: Message, *, at: datetime, within: timedelta) -> Outcomes | None:
    """Count the outcomes; estimate them from a sample if that takes longer than `within`, and None if both do.

    Raises RuleError if a rule is no longer valid.
    """
    counted = run_within(within, lambda: count_outcomes(message, at=at))
    if counted is not None:
        return counted
    return run_within(within, lambda: count_outcomes(message, at=at, customers=estimate_customer_count()))


def count_outcomes(message: Message, *, at: datetime, customers: int = 0) -> Outcomes:
    """Count the outcomes of all customers who match now, or of a sample, scaled up to `customers`."""
    sample = sample_clause(customers)
    condition = conditions.condition_of(message)
    per_company = message.goes_per_company
    company = "r.company_id IS NOT DISTINCT FROM k.id" if per_company else "r.company_id IS NULL"
    pairs = condition.pairs(
        per_company=per_company,
        joins=(
            " LEFT JOIN delivery_deliveryrecord r ON r.message_id = %(message)s::bigint AND r.customer_id = c.id"
            f" AND {company}"
        ),
        columns=f", {outcome_sql(message)} AS outcome",
        sample=sample,
    )
    statement = f"SELECT outcome, count(*) FROM ({pairs}) AS pairs GROUP BY outcome"
    if per_company:
        # A customer who has one copy counts as received, whatever happened to the others.
        statement = (
            f"SELECT CASE WHEN bool_or(outcome = '{RECEIVED}') THEN '{RECEIVED}'"
            f" WHEN bool_or(outcome = '{WAITS}') THEN '{WAITS}'"
            f" WHEN bool_or(outcome = '{UNCERTAIN}') THEN '{UNCERTAIN}' ELSE min(outcome) END AS of_person, customer_id"
            f" FROM ({pairs}) AS pairs GROUP BY customer_id"
        )
        statement = f"SELECT of_person, count(*) FROM ({statement}) AS people GROUP BY of_person"
    rows, scale = fetch_counts(statement, {**condition.params, "now": at, "message": message.pk}, customers=customers)
    scaled = {outcome: round(number * scale) for outcome, number in rows}
    return Outcomes(
        received=scaled.pop(RECEIVED, 0),
        uncertain=scaled.pop(UNCERTAIN, 0),
        waiting=scaled.pop(WAITS, 0),
        left_out={Reason(reason): number for reason, number in scaled.items()},
        exact=not sample,
    )


def outcome_sql(message: Message) -> str:
    """Return SQL for the outcome of a matching pair with its record `r`, which may not exist."""
    left_out = conditions.left_out_reason_sql(message)
    return (
        f"CASE WHEN r.status = '{Status.SENT}' THEN '{RECEIVED}'"
        f" WHEN r.status = '{Status.UNCERTAIN}' THEN '{UNCERTAIN}' WHEN r.status = '{Status.SENDING}' THEN '{WAITS}'"
        # The claim withdraws a copy to someone who cannot be reached any more.
        f" WHEN r.status = '{Status.WAITING}' AND r.reason = '{Reason.CAP}' THEN coalesce({left_out}, r.reason)"
        f" WHEN r.status IN ('{Status.FAILED}', '{Status.SKIPPED}') OR r.reason = '{Reason.STOPPED}' THEN r.reason"
        # Others wait, or were withdrawn, and the next round requeues them, or have no record yet.
        f" ELSE coalesce({left_out}, '{WAITS}') END"
    )
