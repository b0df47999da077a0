"""What customers do with the in-app messages they are shown: opened, dismissed, clicked, each the first time only.

Of links every click is counted, as an email's are (`delivery.tracking.hits`).
"""

from datetime import datetime

from audiences.transactions import retried
from delivery import rendering
from delivery.models import Conversation, DeliveryRecord, Link, VisitorKind
from delivery.tracking import hits
from messaging import content


@retried
def opened(record: DeliveryRecord, *, at: datetime) -> None:
    """Note that the customer saw it whole; its conversation is read."""
    # The conversation first, as a reply does: the two are asked for at once.
    Conversation.objects.filter(record=record, parts=None).update(read=True)
    DeliveryRecord.objects.filter(pk=record.pk, opened_at=None).update(opened_at=at)


def dismissed(record: DeliveryRecord, *, at: datetime) -> None:
    """Note that the customer closed it; a chat not opened stays unread in their list."""
    DeliveryRecord.objects.filter(pk=record.pk, dismissed_at=None).update(dismissed_at=at)


def clicked(record: DeliveryRecord, *, at: datetime, led_to: str = "") -> None:
    """Note that the customer followed a link in it, which is to have opened it; `led_to` says which one."""
    opened(record, at=at)
    DeliveryRecord.objects.filter(pk=record.pk, clicked_at=None).update(clicked_at=at)
    if link := link_of(record, led_to=led_to):
        hits.count(record, link=link, who=VisitorKind.PERSON, at=at)


def link_of(record: DeliveryRecord, *, led_to: str) -> Link | None:
    """The link of a copy that led there; None where none did, whatever the page says."""
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
