"""Counters of messages, maintained by triggers: a report reads one row, however many records there are.

A trigger on the records adds a `CountChange` for each statement, in the same transaction, so counts are exact. Rows
are only added, so no transaction waits for another. The sweep folds them into `Count` and `Tally`; a reader adds the
changes that are not folded yet.
"""

import pgtrigger
from django.db import models

from messaging.models import Message

# Counted moments of a record: the first three only if it was sent, the others in any status.
MOMENTS_OF_SENT = ("opened", "clicked", "replied")
OTHER_MOMENTS = ("bounced", "hard_bounced", "complained", "unsubscribed")
STATUSES = ("waiting", "sending", "uncertain", "sent", "failed", "skipped", "withdrawn")
COUNTED = (*STATUSES, *MOMENTS_OF_SENT, *OTHER_MOMENTS)
TALLIED = ("sent", *MOMENTS_OF_SENT, *OTHER_MOMENTS)


def quarter_sql(moment: str) -> str:
    """Return SQL for the quarter of an hour of a moment: days begin on one in every time zone."""
    return f"date_bin('15 minutes', {moment}, TIMESTAMPTZ '2000-01-01 00:00:00+00')"


def count_rows_sql(rows: str, *, number: int) -> str:
    """Return SQL for the counts of each row: its status, and the events since."""
    moments = [f"('{name}', CASE WHEN status = 'sent' THEN {name}_at END)" for name in MOMENTS_OF_SENT]
    moments += [f"('{name}', {name}_at)" for name in OTHER_MOMENTS]
    happened = ", ".join(f"{name}_at" for name in (*MOMENTS_OF_SENT, *OTHER_MOMENTS))
    return (
        f"SELECT message_id, status AS what, {quarter_sql('sent_at')} AS quarter, {number} AS number FROM {rows}"
        f" UNION ALL SELECT message_id, moments.what, {quarter_sql('moments.at')}, {number} FROM {rows}"
        f" CROSS JOIN LATERAL (VALUES {', '.join(moments)}) AS moments(what, at)"
        f" WHERE coalesce({happened}) IS NOT NULL AND moments.at IS NOT NULL"
    )


def insert_changes_sql(changes: str) -> str:
    """Return SQL that adds up changes and inserts those that are not zero."""
    # Most statements of visits change no record.
    return f"""
    IF EXISTS (SELECT FROM new_rows) THEN
        INSERT INTO delivery_countchange (message_id, what, quarter, number)
            SELECT message_id, what, quarter, sum(number) FROM ({changes}) AS changes
            GROUP BY message_id, what, quarter HAVING sum(number) <> 0;
    END IF;
    RETURN NULL;
    """


TRIGGERS = [
    pgtrigger.Trigger(
        name="counts_what_is_new",
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        referencing=pgtrigger.Referencing(new="new_rows"),
        func=insert_changes_sql(count_rows_sql("new_rows", number=1)),
    ),
    pgtrigger.Trigger(
        name="counts_what_changes",
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=pgtrigger.Update,
        referencing=pgtrigger.Referencing(old="old_rows", new="new_rows"),
        func=insert_changes_sql(
            f"{count_rows_sql('new_rows', number=1)} UNION ALL {count_rows_sql('old_rows', number=-1)}"
        ),
    ),
]


class Count(models.Model):
    """The counts of one message, as of the last sweep."""

    message = models.OneToOneField(Message, primary_key=True, on_delete=models.CASCADE, related_name="count")
    waiting = models.BigIntegerField(default=0)
    sending = models.BigIntegerField(default=0)
    uncertain = models.BigIntegerField(default=0)
    sent = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    skipped = models.BigIntegerField(default=0)
    withdrawn = models.BigIntegerField(default=0)
    opened = models.BigIntegerField(default=0)
    clicked = models.BigIntegerField(default=0)
    replied = models.BigIntegerField(default=0)
    bounced = models.BigIntegerField(default=0)
    hard_bounced = models.BigIntegerField(default=0, db_default=0)
    complained = models.BigIntegerField(default=0)
    unsubscribed = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"Counts of {self.message}"


class Tally(models.Model):
    """The counts of one message in a quarter of an hour, as of the last sweep."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="tallies", db_index=False)
    quarter = models.DateTimeField()
    sent = models.BigIntegerField(default=0)
    opened = models.BigIntegerField(default=0)
    clicked = models.BigIntegerField(default=0)
    replied = models.BigIntegerField(default=0)
    bounced = models.BigIntegerField(default=0)
    hard_bounced = models.BigIntegerField(default=0, db_default=0)
    complained = models.BigIntegerField(default=0)
    unsubscribed = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(name="tallied_once", fields=("message", "quarter"))]
        indexes = [models.Index(name="tally_by_time", fields=("quarter",))]

    def __str__(self) -> str:
        return f"{self.message} at {self.quarter:%Y-%m-%d %H:%M}"


class CountChange(models.Model):
    """The change of one count by one statement, in a quarter of an hour if it has a moment."""

    # A message with records is never deleted, so no foreign key is checked for each change.
    message = models.ForeignKey(Message, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False)
    what = models.CharField(max_length=16)
    quarter = models.DateTimeField(null=True)
    number = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.number:+} {self.what} of message {self.message_id}"
