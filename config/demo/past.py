"""The history of the demo's messages: a month in which they were sent, opened, clicked and answered.

Past copies are stored as sent and never handed over; records matched after `fill_history` are really sent.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import connection

from audiences.models import Customer
from audiences.transactions import prepared
from config.demo.company import SEED, TRIAL
from delivery import rendering
from delivery.conversations import threads
from delivery.eligibility import conditions
from delivery.matching import lifecycle
from delivery.models import DeliveryRecord, Hit, Link, Status, VisitorKind
from delivery.sending import settle
from delivery.tracking import links
from delivery.visits import visit
from messaging.models import Channel, Message

# How long ago each went live.
BEGAN = {
    "Welcome": timedelta(days=29),
    "First project": timedelta(days=29),
    "Trial about to end": timedelta(days=29),
    "New: reports you can share": timedelta(days=16, hours=5),
}
# Later events are left to the running demo.
ENDED = timedelta(days=1)
# The last moments of a customer, and the result of their first email.
CAME_OF_THE_FIRST = {
    "has_hard_bounced": "bounced_at",
    "marked_email_as_spam": "complained_at",
    "unsubscribed_from_emails": "unsubscribed_at",
}
# Opens by machines: Apple's image proxy, scanners.
PRIVACY, SCANNED = 0.2, 0.06
REPLIES = (
    "Thanks, that is just what I needed.",
    "Is there a video of this somewhere?",
    "Could somebody call me about it?",
    "We do this by hand every week. Great.",
)


# The columns of the customer that sending and tracking set.
NOTED = """
UPDATE audiences_customer c SET last_contacted_at = greatest(c.last_contacted_at, r.sent_at),
    last_opened_email_at = greatest(c.last_opened_email_at, CASE WHEN m.channel = 'email' THEN r.opened_at END),
    last_clicked_email_at = greatest(c.last_clicked_email_at, r.clicked_at)
FROM delivery_deliveryrecord r JOIN messaging_message m ON m.id = r.message_id
WHERE r.message_id = %s AND r.status = 'sent' AND c.id = r.customer_id
"""


@dataclass(frozen=True, slots=True)
class Liked:
    """The shares of recipients who opened, clicked, answered and unsubscribed."""

    opened: float
    clicked: float
    replied: float
    unsubscribed: float


LIKED = {
    "Welcome": Liked(0.61, 0.27, 0.02, 0.004),
    "Trial about to end": Liked(0.57, 0.22, 0.015, 0.01),
    "New: reports you can share": Liked(0.44, 0.16, 0.006, 0.008),
    "First project": Liked(0.72, 0.0, 0.08, 0.0),
}


def fill_history(message: Message, *, at: datetime) -> None:
    """Create the history of one live message."""
    chance = random.Random(f"{SEED} {message.title}")  # noqa: S311 - the same every time is the point
    if message.channel == Channel.IN_APP:
        for customer, when in visitors(at=at):
            visit.visit(customer, at=when)
    elif message.title == "New: reports you can share":
        settle_one_off(message, chance)
        lifecycle.finish_one_offs()
    else:
        DeliveryRecord.objects.bulk_create(sent_records(message, chance, at=at))
    create_reactions(message, chance, at=at)


def sent_records(message: Message, chance: random.Random, *, at: datetime) -> Iterator[DeliveryRecord]:
    """Yield the sent records of an ongoing email: sign-ups and ending trials since it went live."""
    after = timedelta() if message.title == "Welcome" else TRIAL - timedelta(days=3)
    began = at - BEGAN[message.title]
    reached = Customer.objects.filter(signed_up_at__gt=began - after, signed_up_at__lt=at - ENDED - after)
    if message.title != "Welcome":
        # A customer who gets no more email has received the first one.
        reached = reached.filter(**dict.fromkeys(CAME_OF_THE_FIRST, False))
    for customer in reached.order_by("pk"):
        assert customer.signed_up_at is not None  # noqa: S101 - asked for
        # The filters are checked every hour, and by visits.
        matched_at = customer.signed_up_at + after + timedelta(minutes=chance.uniform(0, 60))
        opens = opening(message, customer.timezone, at=matched_at)
        if opens > at - ENDED:
            continue
        yield DeliveryRecord(
            message=message,
            version=message.version,
            customer=customer,
            status=Status.SENT,
            matched_at=matched_at,
            sent_at=opens + timedelta(seconds=chance.uniform(1, 40)),
            attempts=1,
            variables=variables_of(message, customer),
            address=customer.email,
        )


def opening(message: Message, zone: str, *, at: datetime) -> datetime:
    """Return when a match of that moment was delivered."""
    found, by_zone = conditions.next_openings(message, at=at)
    return datetime.fromisoformat(by_zone[zone]) if zone in by_zone else found


def settle_one_off(message: Message, chance: random.Random) -> None:
    """Settle all records of a one-off within an hour."""
    waiting = DeliveryRecord.objects.filter(message=message, status=Status.WAITING)
    keys = list(waiting.order_by("pk").values_list("pk", flat=True))
    began = message.went_live_at
    assert began is not None  # noqa: S101 - it went live
    claim = uuid4()
    waiting.mark_sending(claim=claim, until=began + timedelta(hours=1))
    with prepared() as cursor:
        settle.settle_sent(cursor, [(pk, "", claim) for pk in keys], at=began)
    gone = DeliveryRecord.objects.filter(pk__in=keys)
    gone.update(version=message.version)
    records = list(gone.select_related("customer"))
    for record in records:
        record.sent_at = began + timedelta(minutes=chance.uniform(0, 35))
        record.variables, record.address = variables_of(message, record.customer), record.customer.email
    DeliveryRecord.objects.bulk_update(records, ["sent_at", "variables", "address"], batch_size=250)


def visitors(*, at: datetime) -> Iterator[tuple[Customer, datetime]]:
    """Yield new users without a project, each with their last visit."""
    new = Customer.objects.filter(
        signed_up_at__gte=at - timedelta(days=29), signed_up_at__lt=at - timedelta(days=3), last_seen_at__lt=at - ENDED
    ).exclude(event_summaries__name="created-project")
    for customer in new.order_by("last_seen_at"):
        assert customer.signed_up_at is not None and customer.last_seen_at is not None  # noqa: S101, PT018 - asked for
        if customer.last_seen_at - customer.signed_up_at > timedelta(days=2):
            yield customer, customer.last_seen_at


def variables_of(message: Message, customer: Customer) -> dict[str, object]:
    assert message.version is not None  # noqa: S101 - it is live
    return rendering.variable_values(
        rendering.copy_of(message.version, channel=message.channel).names, customer=customer, company=None
    )


def create_reactions(message: Message, chance: random.Random, *, at: datetime) -> None:
    """Let customers open, click, answer and unsubscribe, each at their own time, and let scanners open the message."""
    liked, changed, ended = LIKED[message.title], [], []
    hits: list[Hit] = []
    link = link_of(message)
    in_app = message.channel == Channel.IN_APP
    records = list(DeliveryRecord.objects.filter(message=message, status=Status.SENT).select_related("customer"))
    for record in records:
        assert record.sent_at is not None  # noqa: S101 - it was sent
        became = [moment for fact, moment in CAME_OF_THE_FIRST.items() if getattr(record.customer, fact)]
        if became and not in_app:
            setattr(record, became[0], record.sent_at + timedelta(minutes=chance.uniform(1, 30)))
            ended.append(record)
            continue
        hits += machine_opens(record, chance) if not in_app else []
        opened_at = record.sent_at + timedelta(hours=chance.expovariate(1 / 9), seconds=40)
        if chance.random() > liked.opened or opened_at > at:
            continue
        record.opened_at = opened_at
        if not in_app:
            hits.append(hit(record, None, VisitorKind.PERSON, at=opened_at, number=chance.choice((1, 1, 1, 2, 3))))
        clicked_at = opened_at + timedelta(seconds=chance.uniform(5, 400))
        if link is not None and chance.random() < liked.clicked / liked.opened and clicked_at < at:
            record.clicked_at = clicked_at
            hits.append(hit(record, link, VisitorKind.PERSON, at=clicked_at, number=chance.choice((1, 1, 2))))
        changed.append(record)
    Hit.objects.bulk_create(hits)
    DeliveryRecord.objects.bulk_update(changed, ["opened_at", "clicked_at"], batch_size=250)
    DeliveryRecord.objects.bulk_update(ended, [*CAME_OF_THE_FIRST.values()], batch_size=250)
    with connection.cursor() as cursor:
        cursor.execute(NOTED, [message.pk])
    for record in changed:
        leave_or_answer(record, liked, chance, at=at)


def link_of(message: Message) -> Link | None:
    """Return the tracked link of an email, created as its first copy would do it; None if it has no link."""
    if message.channel != Channel.EMAIL or message.version is None:
        return None
    rendering.store_links(rendering.copy_of(message.version, channel=message.channel, tracked=True))
    return Link.objects.filter(version=message.version).exclude(address="").order_by("number").first()


def machine_opens(record: DeliveryRecord, chance: random.Random) -> Iterator[Hit]:
    """Yield the opens of an email by machines."""
    assert record.sent_at is not None  # noqa: S101 - it was sent
    for who, share in ((VisitorKind.PRIVACY, PRIVACY), (VisitorKind.MACHINE, SCANNED)):
        if chance.random() < share:
            yield hit(record, None, who, at=record.sent_at + timedelta(seconds=chance.uniform(1, 9)), number=1)


def hit(record: DeliveryRecord, link: Link | None, who: VisitorKind, *, at: datetime, number: int) -> Hit:
    """Return this number of opens, or of clicks on a link, by one visitor."""
    return Hit(record=record, message_id=record.message_id, link=link, who=who, number=number, first_at=at, last_at=at)


def leave_or_answer(record: DeliveryRecord, liked: Liked, chance: random.Random, *, at: datetime) -> None:
    """Let a few customers unsubscribe or answer."""
    assert record.opened_at is not None  # noqa: S101 - these were opened
    later = record.opened_at + timedelta(minutes=chance.uniform(1, 50))
    drawn = chance.random() * liked.opened
    if later > at:
        return
    if drawn < liked.unsubscribed:
        links.unsubscribe(record, at=later)
    elif drawn < liked.unsubscribed + liked.replied:
        thread = threads.conversation_of_record(record, at=later)
        threads.reply_by_customer(thread, body=chance.choice(REPLIES), at=later)
        threads.mark_seen(thread)
        threads.close(thread, teammate=None, at=later + timedelta(hours=2))
