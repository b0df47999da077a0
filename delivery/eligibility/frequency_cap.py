"""Frequency cap: how many messages one customer receives within some days, in all channels together.

A copy that was sent, or may have been, counts from that moment. Direct messages neither count nor are held.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection

from delivery.models import IN_AN_INBOX, Status

# How long a one-off waits for the cap before it gives up on a customer.
GIVE_UP_AFTER = timedelta(days=7)

LOCK_CUSTOMERS = "SELECT id FROM audiences_customer WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED"
RECENT_MESSAGES = (
    "SELECT r.customer_id, coalesce(r.sent_at, r.taken_at), r.status FROM delivery_deliveryrecord r"
    " JOIN messaging_message m ON m.id = r.message_id WHERE r.customer_id = ANY(%s) AND r.status = ANY(%s)"
    " AND m.to_customer_id IS NULL AND coalesce(r.sent_at, r.taken_at) > %s ORDER BY 2"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """The workspace's cap."""

    most: int
    within: timedelta

    @classmethod
    def from_settings(cls, most: int | None, days: int) -> "Limit | None":
        """Return the cap of these settings; None if there is no cap."""
        return None if most is None else cls(most, timedelta(days=days))


@dataclass(slots=True)
class Cap:
    """The state of the cap for some customers, whose rows are locked; copies claimed meanwhile count."""

    most: int
    within: timedelta
    at: datetime
    had: dict[int, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    # Customers with a copy being sent, which may or may not count.
    expecting: set[int] = field(default_factory=set)

    def free_at(self, customer: int) -> datetime:
        """Return when the customer may receive one more message; `at` if they may now."""
        had = self.had[customer]
        return self.at if len(had) < self.most else had[len(had) - self.most] + self.within

    def count_message(self, customer: int) -> None:
        self.had[customer].append(self.at)
        self.expecting.add(customer)


def lock_customers(customers: Collection[int]) -> set[int]:
    """Lock the rows of these customers, without waiting. Return those that were free."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK_CUSTOMERS, [list(customers)])
        return {pk for (pk,) in cursor.fetchall()}


def cap_of(customers: Collection[int], *, most: int, days: int, at: datetime) -> Cap:
    """Count the recent messages of these customers. Lock their rows first, or the count may be outdated."""
    cap = Cap(most, timedelta(days=days), at)
    with connection.cursor() as cursor:
        cursor.execute(RECENT_MESSAGES, [list(customers), list(IN_AN_INBOX), at - cap.within])
        for customer, moment, status in cursor.fetchall():
            cap.had[customer].append(moment)
            if status == Status.SENDING:
                cap.expecting.add(customer)
    return cap
