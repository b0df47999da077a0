"""Enough is enough: how many messages one customer gets within some days, in all channels together.

What was handed over, or may have been, counts from when it was; a message to one person neither counts nor is held.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection, transaction

from delivery.models import IN_AN_INBOX, DeliveryRecord, Reason, Status

# How long a one-off waits for a customer who has had enough, before it gives up on them.
GIVE_UP_AFTER = timedelta(days=7)
SLICE = 5_000

LOCK_CUSTOMERS = "SELECT id FROM audiences_customer WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED"
RECENT_MESSAGES = (
    "SELECT r.customer_id, coalesce(r.sent_at, r.taken_at), r.status FROM delivery_deliveryrecord r"
    " JOIN messaging_message m ON m.id = r.message_id WHERE r.customer_id = ANY(%s) AND r.status = ANY(%s)"
    " AND m.to_customer_id IS NULL AND coalesce(r.sent_at, r.taken_at) > %s ORDER BY 2"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """The cap as the workspace has it."""

    most: int
    within: timedelta

    @classmethod
    def from_settings(cls, most: int | None, days: int) -> "Limit | None":
        """The cap of these settings; None where there is none."""
        return None if most is None else cls(most, timedelta(days=days))


@dataclass(slots=True)
class Cap:
    """The cap as it stands for some customers, whose rows are locked; what is taken meanwhile counts."""

    most: int
    within: timedelta
    at: datetime
    had: dict[int, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    # Who has one on its way, of which nobody knows yet whether it will count.
    expecting: set[int] = field(default_factory=set)

    def free_at(self, customer: int) -> datetime:
        """When the customer may have one more; `at` where they may now."""
        had = self.had[customer]
        return self.at if len(had) < self.most else had[len(had) - self.most] + self.within

    def count_message(self, customer: int) -> None:
        """Count one more."""
        self.had[customer].append(self.at)
        self.expecting.add(customer)


def lock_customers(customers: Collection[int]) -> set[int]:
    """Lock the rows of these customers; returns those nobody else has, as nobody is waited for."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK_CUSTOMERS, [list(customers)])
        return {pk for (pk,) in cursor.fetchall()}


def cap_of(customers: Collection[int], *, most: int, days: int, at: datetime) -> Cap:
    """Count what these customers had. Their rows are locked before, or the count is old news when it is used."""
    cap = Cap(most, timedelta(days=days), at)
    with connection.cursor() as cursor:
        cursor.execute(RECENT_MESSAGES, [list(customers), list(IN_AN_INBOX), at - cap.within])
        for customer, moment, status in cursor.fetchall():
            cap.had[customer].append(moment)
            if status == Status.SENDING:
                cap.expecting.add(customer)
    return cap


def recheck_capped_records(*, at: datetime) -> int:
    """Have all that wait for the cap asked about again, as it is another one now; returns how many do.

    Committed in slices, so that nobody is kept waiting: not to be called within a transaction.
    """
    waiting = DeliveryRecord.objects.filter(status=Status.WAITING, reason=Reason.CAP, due_at__gt=at)
    total = 0
    while True:
        with transaction.atomic():
            slice_of = list(waiting.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True)[:SLICE])
            if not slice_of:
                return total
            total += DeliveryRecord.objects.filter(pk__in=slice_of).update(due_at=at)
