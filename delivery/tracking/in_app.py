"""Opens, dismissals and clicks of in-app messages: the record keeps the time of the first of each.

Every click on a link is counted, as for emails (`delivery.tracking.hits`).
"""

from datetime import datetime

from audiences.transactions import retried
from delivery import rendering
from delivery.models import Conversation, DeliveryRecord, Link, VisitorKind
from delivery.tracking import hits
from messaging import content


@retried
def record_open(record: DeliveryRecord, *, at: datetime) -> None:
    """Record that the customer opened the message, and mark its conversation as read."""
    # The conversation first, in the lock order of a reply, which may run at the same time.
    Conversation.objects.filter(record=record, parts=None).update(read=True)
    DeliveryRecord.objects.filter(pk=record.pk, opened_at=None).update(opened_at=at)


def record_dismissal(record: DeliveryRecord, *, at: datetime) -> None:
    """Record that the customer closed the message; a chat that was not opened stays unread."""
    DeliveryRecord.objects.filter(pk=record.pk, dismissed_at=None).update(dismissed_at=at)


def record_click(record: DeliveryRecord, *, at: datetime, led_to: str = "") -> None:
    """Record a click, which is also an open; `led_to` is the URL of the link."""
    record_open(record, at=at)
    DeliveryRecord.objects.filter(pk=record.pk, clicked_at=None).update(clicked_at=at)
    if link := link_leading_to(record, led_to=led_to):
        hits.count_hit(record, link=link, who=VisitorKind.PERSON, at=at)


def link_leading_to(record: DeliveryRecord, *, led_to: str) -> Link | None:
    """Return the copy's link to this URL; None if it has no such link."""
    if record.version is None or not led_to:
        return None
    rendering.store_links(rendering.copy_of(record.version, channel=record.message.channel))
    for link in Link.objects.filter(version=record.version).order_by("number"):
        try:
            if content.link_destination(link.address, record.variables) == led_to:
                return link
        except content.ContentError:
            continue
    return None
