"""What the demo's messages did before today: whom they reached, who opened, clicked and bounced, and when.

What is drawn by chance is the same at every start, but for the dates.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from audiences.models import Customer, Workspace
from audiences.models.customers import Role
from delivery import copies, matching
from delivery.models import DeliveryRecord, Hit, Link, Reason, Status, Who
from messaging import windows
from messaging.models import Message, SendType

OPENED, CLICKED = 0.52, 0.34
HOURS = 3600
MANY = 500
SETTLED = (
    *("status", "reason", "version", "filled", "taken_at", "matched_at", "due_at", "sent_at", "claim", "leased_until"),
    *("opened_at", "clicked_at", "bounced_at", "complained_at", "unsubscribed_at"),
)

# When each of the ongoing messages came to match somebody who signed up then.
AFTER_SIGNING_UP: dict[str, timedelta] = {"Welcome": timedelta(minutes=50), "Trial about to end": timedelta(days=11)}


def went(message: Message, *, since: datetime, at: datetime) -> None:
    """Have it gone to whoever it would have reached since it went live, and let them read it."""
    chance = random.Random(message.title)  # noqa: S311 - the same every time is the point
    if message.send_type == SendType.ONGOING:
        DeliveryRecord.objects.bulk_create(matched(message, since=since, at=at), batch_size=MANY)
    rows = message.records.filter(status=Status.WAITING)
    rows.mark_sending(claim=uuid.uuid4(), until=at)
    records = list(message.records.filter(status=Status.SENDING).select_related("customer").order_by("matched_at"))
    links = kept_links(message)
    hits: list[Hit] = []
    for number, record in enumerate(records):
        # A few of them a second, as a mail server takes them.
        settle(record, message, sent_at=max(record.matched_at, since) + timedelta(seconds=1 + number % 900 / 4))
        hits += read(record, links, chance, at=at)
    DeliveryRecord.objects.bulk_update(records, SETTLED, batch_size=MANY)
    Hit.objects.bulk_create(hits, batch_size=MANY)
    remember(records)
    matching.finish_one_offs()


def matched(message: Message, *, since: datetime, at: datetime) -> Iterator[DeliveryRecord]:
    """Whoever came to match it, each within its delivery times."""
    window, zone, wait = message.parsed_window, Workspace.current().tz, AFTER_SIGNING_UP[message.title]
    users = Customer.objects.filter(role=Role.USER, signed_up_at__gte=since - wait, has_hard_bounced=False)
    for customer in users.order_by("signed_up_at", "pk"):
        then = windows.next_opening(window, (customer.signed_up_at or since) + wait, zone)
        if then < at - timedelta(hours=20):
            yield DeliveryRecord(
                message=message, customer=customer, status=Status.WAITING, reason=Reason.QUEUED,
                matched_at=then, due_at=then,
            )  # fmt: skip


def kept_links(message: Message) -> list[Link]:
    """Where the links of its text lead."""
    assert message.version is not None  # noqa: S101 - it is live
    copies.keep_links(copies.copy_of(message.version, channel=message.channel, tracked=True))
    return list(Link.objects.filter(version=message.version).order_by("number"))


def settle(record: DeliveryRecord, message: Message, *, sent_at: datetime) -> None:
    """Have it handed over."""
    assert message.version is not None  # noqa: S101 - it is live
    names = copies.copy_of(message.version, channel=message.channel).names
    record.version, record.filled = message.version, copies.fill(names, customer=record.customer, company=None)
    record.status, record.reason, record.claim, record.leased_until = Status.SENT, Reason.NONE, None, None
    record.taken_at, record.sent_at, record.due_at = sent_at, sent_at, None


def read(record: DeliveryRecord, links: list[Link], chance: random.Random, *, at: datetime) -> Iterator[Hit]:
    """What its reader did with it, in time or not at all."""
    assert record.sent_at is not None  # noqa: S101 - it is settled
    customer, soon = record.customer, record.sent_at + timedelta(seconds=chance.expovariate(1 / (7 * HOURS)) + 40)
    for was, moment in STANDS:
        if was(customer) and chance.random() < 0.5:
            setattr(record, moment, record.sent_at + timedelta(minutes=chance.uniform(1, 30)))
            return
    if chance.random() > OPENED or soon > at:
        return
    record.opened_at = soon
    yield hit(record, None, soon, number=chance.choice((1, 1, 2)))
    later = soon + timedelta(seconds=chance.uniform(20, 300))
    if links and chance.random() < CLICKED and later < at:
        record.clicked_at = later
        yield hit(record, chance.choice(links), later, number=1)


# What is known of a customer, and what came of their copy then.
STANDS: tuple[tuple[Callable[[Customer], bool], str], ...] = (
    (lambda customer: customer.has_hard_bounced, "bounced_at"),
    (lambda customer: customer.marked_email_as_spam, "complained_at"),
    (lambda customer: customer.unsubscribed_from_emails, "unsubscribed_at"),
)


def hit(record: DeliveryRecord, link: Link | None, at: datetime, *, number: int) -> Hit:
    """One opening, or one click."""
    return Hit(
        record=record, message_id=record.message_id, link=link, who=Who.PERSON, number=number, first_at=at, last_at=at
    )


def remember(records: list[DeliveryRecord]) -> None:
    """Note on each customer what was last."""
    latest: dict[int, Customer] = {}
    for record in records:
        customer = latest.setdefault(record.customer_id, record.customer)
        for name, moment in LAST.items():
            happened: Any = getattr(record, moment)
            before = getattr(customer, name)
            setattr(customer, name, max(filter(None, (before, happened)), default=None))
    Customer.objects.bulk_update(latest.values(), list(LAST), batch_size=MANY)


LAST: dict[str, str] = {
    "last_contacted_at": "sent_at",
    "last_opened_email_at": "opened_at",
    "last_clicked_email_at": "clicked_at",
}
