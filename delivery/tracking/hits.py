"""Counts of opens and clicks per copy, link and kind of visitor, and their figures for reports."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Max, Min, Q, Sum

from audiences.models import Customer
from delivery.models import DeliveryRecord, Hit, Link, VisitorKind
from delivery.models.record_log import SCANNER_WINDOW
from messaging.models import Channel, Message

COUNT_HIT = """
INSERT INTO delivery_hit (record_id, message_id, link_id, who, number, first_at, last_at)
VALUES (%(record)s, %(message)s, %(link)s, %(who)s, 1, %(at)s, %(at)s)
ON CONFLICT (record_id, link_id, who)
DO UPDATE SET number = delivery_hit.number + 1, last_at = greatest(delivery_hit.last_at, excluded.last_at)
"""
HAS_FOLLOWED_ALL_LINKS = """
SELECT count(DISTINCT l.id) > 1 AND count(DISTINCT l.id) = count(DISTINCT h.link_id)
FROM delivery_link l
LEFT JOIN delivery_hit h ON h.link_id = l.id AND h.record_id = %(record)s AND h.first_at <= %(until)s
WHERE l.version_id = %(version)s
"""
MOVE_CLICKS_TO_MACHINE = """
WITH taken AS (
    DELETE FROM delivery_hit WHERE record_id = %(record)s AND link_id IS NOT NULL AND who = 'person'
        AND first_at <= %(until)s RETURNING record_id, message_id, link_id, number, first_at, last_at
)
INSERT INTO delivery_hit (record_id, message_id, link_id, who, number, first_at, last_at)
SELECT record_id, message_id, link_id, 'machine', number, first_at, last_at FROM taken
ON CONFLICT (record_id, link_id, who) DO UPDATE SET number = delivery_hit.number + excluded.number,
    first_at = least(delivery_hit.first_at, excluded.first_at),
    last_at = greatest(delivery_hit.last_at, excluded.last_at)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicks:
    """Clicks on one link: number of people, their clicks, and clicks of machines."""

    address: str
    people: int
    clicks: int
    machines: int


def count_hit(record: DeliveryRecord, *, link: Link | None, who: VisitorKind, at: datetime) -> None:
    """Count one open (`link` is None) or click."""
    given = {"record": record.pk, "message": record.message_id, "link": link.pk if link else None}
    with connection.cursor() as cursor:
        cursor.execute(COUNT_HIT, {**given, "who": who.value, "at": at})


def reclassify_scanner_clicks(record: DeliveryRecord, *, version_id: int, at: datetime) -> bool:
    """Reclassify a copy's clicks as a machine's if all its links were followed within seconds of its delivery.

    Called after each click is counted, so that the last of several concurrent requests sees all clicks.
    """
    if record.sent_at is None or at - record.sent_at > SCANNER_WINDOW:
        return False
    given: dict[str, Any] = {"record": record.pk, "version": version_id, "until": record.sent_at + SCANNER_WINDOW}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(HAS_FOLLOWED_ALL_LINKS, given)
        if not cursor.fetchone()[0]:
            return False
        # Concurrent requests wait here, so that they update the rows below one after the other.
        DeliveryRecord.objects.select_for_update(no_key=True, of=("self",)).get(pk=record.pk)
        cursor.execute(MOVE_CLICKS_TO_MACHINE, given)
        # The remaining hits are by people; the record's times follow from them.
        by_people = Hit.objects.filter(record=record, who=VisitorKind.PERSON)
        first = by_people.aggregate(opened_at=Min("first_at"), clicked_at=Min("first_at", filter=~Q(link=None)))
        DeliveryRecord.objects.filter(pk=record.pk).update(**first)
    with transaction.atomic():
        locked = Customer.objects.filter(pk=record.customer_id).lock()
        emails = Hit.objects.filter(record__customer__in=locked, message__channel=Channel.EMAIL, who=VisitorKind.PERSON)
        opened, clicked = Max("last_at"), Max("last_at", filter=~Q(link=None))
        last = emails.aggregate(last_opened_email_at=opened, last_clicked_email_at=clicked)
        Customer.objects.filter(pk=record.customer_id).update(**last)
    return True


def clicks_of(message: Message) -> Iterator[Clicks]:
    """Return the clicks on each link of any version of a message, the most clicked first."""
    links: dict[int, str] = dict(Link.objects.filter(version__message=message).values_list("pk", "address"))
    found: dict[str, list[int]] = {address: [0, 0, 0] for address in links.values()}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT link_id, count(*) FILTER (WHERE who = 'person'),"
            " coalesce(sum(number) FILTER (WHERE who = 'person'), 0),"
            " coalesce(sum(number) FILTER (WHERE who <> 'person'), 0)"
            " FROM delivery_hit WHERE message_id = %s AND link_id IS NOT NULL GROUP BY link_id",
            [message.pk],
        )
        for link, *numbers in cursor.fetchall():
            found[links[link]] = [int(sum(both)) for both in zip(found[links[link]], numbers, strict=True)]
    ordered = sorted(found.items(), key=lambda item: (-item[1][1], item[0]))
    return (Clicks(address=to, people=people, clicks=n, machines=not_people) for to, (people, n, not_people) in ordered)


def opens_of(message: Message) -> dict[VisitorKind, int]:
    """Return the number of opens by every kind of visitor."""
    rows = Hit.objects.filter(message=message, link=None).values_list("who").annotate(n=Sum("number"))
    found = dict(rows.order_by())
    return {who: found.get(who.value, 0) for who in VisitorKind}
