"""Launch: set a message live and insert the records of a one-off."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from delivery.eligibility import conditions, named_values
from delivery.matching import forecast, sql
from delivery.models import Reason, Status
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Message, NotReady, SendType, State, WrongState


def launch(
    message: Message, *, at: datetime, sample: int | None = None, progress: sql.SliceProgress = sql.no_progress
) -> int:
    """Set a message live. Return how many records a one-off got, inserted in the same transaction.

    An ongoing message only goes live: `match` is its first round. If it goes to new matches only, the people who match
    are stored as left out. NotReady if no customer matches a one-off.
    """
    if message.only_new_matches:
        with transaction.atomic():
            message_lifecycle.prepare_launch(message, at=at, sample=sample)
            left_out = insert_left_out_records(message, at=at, progress=progress)
            message_lifecycle.mark_live(message, at=at, sample=sample)
        sql.analyze_after(left_out)
        return 0
    if message.send_type != SendType.ONE_OFF or message.to_customer_id:
        message_lifecycle.set_live(message, at=at, sample=sample)
        return 0
    with transaction.atomic():
        message_lifecycle.prepare_launch(message, at=at, sample=sample)
        made = insert_one_off_records(message, at=at, sample=sample, progress=progress)
        if not made:
            raise NotReady({"rules": forecast.NO_MATCH})
        message_lifecycle.mark_live(message, at=at, sample=sample)
    sql.analyze_after(made)
    return made


def send_to_rest(message: Message, *, at: datetime, progress: sql.SliceProgress = sql.no_progress) -> int:
    """Launch a sampled one-off for the second time, to customers who match and have no record (behaviour 4.10)."""
    with transaction.atomic():
        # No key update: opens and clicks of the sample, which refer to the message, must not wait.
        locked = Message.objects.select_for_update(no_key=True).get(pk=message.pk)
        if locked.state != State.SAMPLED:
            raise WrongState(message_lifecycle.NO_REST)
        made = insert_one_off_records(message, at=at, progress=progress)
        message_lifecycle.send_to_rest(message, at=at)
    sql.analyze_after(made)
    return made


def insert_left_out_records(message: Message, *, at: datetime, progress: sql.SliceProgress = sql.no_progress) -> int:
    """Insert a skipped record for every customer who matches, whether they can be reached or not (behaviour 4.21)."""
    condition = conditions.condition_of(message)
    per_company = message.goes_per_company
    pairs = condition.pairs(
        per_company=per_company,
        where=f"TRUE{sql.exclude_without_company(per_company)}",
        columns=", c.last_seen_at AS last_seen",
    )
    statement = (
        f"{sql.INSERT} SELECT %(message)s, customer_id, company_id, '{Status.SKIPPED}', '{Reason.MATCHED_AT_LAUNCH}',"
        f" NULL, %(now)s, last_seen, NULL, NULL, {sql.COLUMN_DEFAULTS} FROM matched {sql.WHERE_IN_SLICE}"
    )
    params = {**condition.params, "now": at, "message": message.pk}
    return insert_in_slices(pairs, statement, params, progress=progress)


def insert_one_off_records(
    message: Message, *, at: datetime, sample: int | None = None, progress: sql.SliceProgress = sql.no_progress
) -> int:
    """Insert a record for every customer who matches a one-off and has none: waiting, or skipped with the reason.

    The rules are evaluated once, in one transaction. Between slices `progress` is called and may cancel the launch.
    """
    condition = conditions.condition_of(message)
    per_company = message.goes_per_company
    in_app = message.channel == Channel.IN_APP
    waits = f"'{Reason.VISIT}'" if in_app else sql.waiting_reason()
    where = sql.no_record(per_company)
    if sample is not None:
        drawn = condition.pairs(
            per_company=per_company,
            where=(
                f"{conditions.reachable_sql(message.channel, topic=message.topic_id)}"
                f"{sql.exclude_without_company(per_company)}"
            ),
        )
        where += (
            f" AND c.id IN (SELECT customer_id FROM ({drawn}) AS reachable GROUP BY customer_id"
            " ORDER BY md5(customer_id::text || %(seed)s::text), customer_id LIMIT %(sample)s)"
        )
    values, value_params = named_values.named_values_sql(condition.leaves, per_company=per_company, prefix="v")
    pairs = condition.pairs(
        per_company=per_company,
        where=where,
        columns=(
            f", {values} AS judged_values"
            f", {conditions.left_out_reason_sql(message)} AS blocked"
            f", {'NULL::timestamptz' if in_app else sql.DUE} AS due_at, c.last_seen_at AS last_seen"
        ),
    )
    statement = (
        f"{sql.INSERT} SELECT %(message)s, customer_id, company_id,"
        f" CASE WHEN blocked IS NULL THEN '{Status.WAITING}' ELSE '{Status.SKIPPED}' END,"
        f" coalesce(blocked, {waits}), CASE WHEN blocked IS NULL THEN due_at END, %(now)s, last_seen, NULL,"
        f" judged_values, {sql.COLUMN_DEFAULTS} FROM matched {sql.WHERE_IN_SLICE}"
    )
    params = {
        **condition.params,
        **value_params,
        **sql.round_params(message, at=at),
        "seed": f"sample of {message.pk}",
        "sample": sample,
    }
    with transaction.atomic():
        made = insert_in_slices(pairs, statement, params, progress=progress)
        Message.objects.filter(pk=message.pk).update(audience_count=Coalesce(F("audience_count"), 0) + made)
    return made


def insert_in_slices(pairs: str, statement: str, params: dict[str, Any], *, progress: sql.SliceProgress) -> int:
    """Insert a record for each matching pair, in one transaction. Between slices `progress` may cancel it."""
    made = 0
    with transaction.atomic():
        found = sql.store_matches(pairs, params)
        # Foreign keys are checked at each slice: a check of all of them at the commit could not be cancelled.
        sql.execute("SET CONSTRAINTS ALL IMMEDIATE", {})
        progress(made, found)
        for start in range(0, found, sql.SLICE):
            made += sql.execute(statement, {**params, "start": start, "end": start + sql.SLICE})
            progress(made, found)
        sql.execute("SET CONSTRAINTS ALL DEFERRED", {})
        sql.execute("DROP TABLE matched", {})
    return made
