"""Telling subscribers what happened: webhooks out (wire 5.13). Claimed, committed, then sent; settled one by one.

What happened was written down in its own transaction (audiences.announcing), so nothing is lost; what a worker had in
hand when it died is told again, so a subscriber may hear a thing twice, by the same id.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from audiences.api import companies, users
from audiences.api.payloads import APP_ID, Json, event, list_payload, unix
from audiences.locks import Lock
from audiences.models import Company, Event, Notification, NotificationState, Subscription
from delivery import shutdown
from delivery.conversations import payloads
from delivery.models import Conversation, ConversationPart
from delivery.webhooks import safe_http

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

IN_HAND = 10
LEASE = timedelta(minutes=5)
# After as many tries as there are here, and one, it is given up.
BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 720, 1440))
RESTING = timedelta(minutes=1)
KEPT_FOR = timedelta(days=30)
GONE = 410


def tell(*, clock: Clock, until: datetime) -> int:
    """Tell what is due until nothing is left or the time is up; returns how many were tried.

    One worker tells at a time, so that addresses that are slow to answer never keep all of them from their other work.
    """
    with alone() as is_mine:
        return tell_all(clock=clock, until=until) if is_mine else 0


@contextmanager
def alone() -> Iterator[bool]:
    """Be the one who tells for the length of the block; False where somebody is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [Lock.NOTIFYING])
        is_mine = bool(cursor.fetchone()[0])
        try:
            yield is_mine
        finally:
            if is_mine:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [Lock.NOTIFYING])


def tell_all(*, clock: Clock, until: datetime) -> int:
    """Tell what is due, a few at a time; what is left of an address that fails waits a little."""
    total = 0
    while clock() < until and not shutdown.is_requested():
        batch = claim(at=clock())
        if not batch:
            break
        failing: set[int] = set()
        for notification in batch:
            if notification.subscription_id in failing or shutdown.is_requested():
                # It would most likely fail too, or somebody waits for this worker to end: no try is used up.
                put_back(notification, at=clock())
                continue
            total += 1
            if not send_notification(notification, clock=clock):
                failing.add(notification.subscription_id)
    return total


def claim(*, at: datetime) -> list[Notification]:
    """Take a few that are due, in the order they happened; committed before anything is sent."""
    mine = uuid4()
    with transaction.atomic():
        due = Notification.objects.due(at).order_by("due_at", "pk").select_for_update(skip_locked=True, of=("self",))
        keys = list(due.values_list("pk", flat=True)[:IN_HAND])
        Notification.objects.filter(pk__in=keys).mark_sending(claim=mine, until=at + LEASE)
    return list(Notification.objects.filter(claim=mine, pk__in=keys).select_related("subscription").order_by("pk"))


def put_back(notification: Notification, *, at: datetime) -> None:
    """Leave one for later."""
    assert notification.claim is not None  # noqa: S101 - it was claimed
    Notification.objects.filter(pk=notification.pk).put_back(claim=notification.claim, due_at=at + RESTING)


def send_notification(notification: Notification, *, clock: Clock) -> bool:
    """Send one and settle it; whether it got through."""
    at = clock()
    if notification.payload is None:
        try:
            notification.payload = payload(notification)
        except OperationalError:
            raise  # The database could not read it now; the lease runs out, and it is tried again.
        except Exception:
            # One that nobody foresaw must not hold up all behind it, and the address is not to blame.
            log.exception("notification %s cannot be told", notification.pk)
            words = "What it is about could not be read."
            settle_notification(notification, at=at, state=NotificationState.FAILED, detail=words)
            return True
    if notification.first_sent_at is None:
        notification.first_sent_at = at
    Notification.objects.filter(pk=notification.pk).update(
        payload=notification.payload, first_sent_at=notification.first_sent_at
    )
    body = json.dumps(envelope(notification)).encode()
    subscription = notification.subscription
    status, detail, is_final = None, "", False
    try:
        status = safe_http.post(subscription.url, body, headers=headers(body, secret=subscription.secret))
    except safe_http.NotAllowed as wrong:
        detail, is_final = str(wrong), True
    except safe_http.Unreachable as wrong:
        detail = str(wrong)
    if status is not None and 200 <= status < 300:
        settle_notification(
            notification, at=clock(), state=NotificationState.DELIVERED, response_status=status, detail=""
        )
        Subscription.objects.filter(pk=subscription.pk, failing_since__isnull=False).update(failing_since=None)
        return True
    if status is not None:
        detail = f"It answered {status}."
    failed(notification, at=clock(), status=status, detail=detail, is_final=is_final or status == GONE)
    return False


def failed(notification: Notification, *, at: datetime, status: int | None, detail: str, is_final: bool) -> None:
    """Try it again later, or give it up; an address that says it is gone for good is told nothing more."""
    subscriptions = Subscription.objects.filter(pk=notification.subscription_id)
    subscriptions.update(failing_since=Coalesce(F("failing_since"), at))
    if status == GONE:
        subscriptions.update(active=False, updated_at=at)
    if is_final or notification.attempts > len(BACK_OFF):
        settle_notification(notification, at=at, state=NotificationState.FAILED, response_status=status, detail=detail)
        return
    claimed_notification(notification).update(
        state=NotificationState.WAITING,
        claim=None,
        leased_until=None,
        due_at=at + BACK_OFF[notification.attempts - 1],
        response_status=status,
        detail=detail,
    )


def settle_notification(notification: Notification, *, at: datetime, **facts: Any) -> None:
    """Write down how it ended."""
    claimed_notification(notification).update(settled_at=at, claim=None, leased_until=None, **facts)


def claimed_notification(notification: Notification) -> Any:
    """The row, as long as it is still in this worker's hand."""
    return Notification.objects.filter(pk=notification.pk, claim=notification.claim)


def send_again(notification: Notification, *, at: datetime) -> bool:
    """Have one told that was settled, or now what waits for another try; False while a worker has it in hand."""
    rows = Notification.objects.filter(pk=notification.pk).exclude(state=NotificationState.SENDING)
    return bool(rows.update(state=NotificationState.WAITING, due_at=at, settled_at=None))


def forget_old(*, at: datetime) -> int:
    """Empty the log of what was settled long ago."""
    return Notification.objects.filter(settled_at__lt=at - KEPT_FOR).delete()[0]


def headers(body: bytes, *, secret: str) -> dict[str, str]:
    """Signed with the subscription's secret, as subscribers of this family of products check it, and by SHA-256."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Outbound",
        "X-Hub-Signature": f"sha1={hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}",
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }


def envelope(notification: Notification) -> Json:
    """A notification as it goes out; the same each time but for the number of the try."""
    return {
        "type": "notification_event",
        "id": f"notif_{notification.pk}",
        "topic": notification.topic,
        "app_id": APP_ID,
        "data": {"type": "notification_event_data", "item": notification.payload},
        "delivery_attempts": notification.attempts,
        "first_sent_at": unix(notification.first_sent_at),
        "created_at": unix(notification.created_at),
    }


def payload(notification: Notification) -> Json:
    """What it is about, as it is now."""
    kinds = notification.topic.split(".")
    return ITEMS["tag" if "tag" in kinds else kinds[0]](notification)


def conversation(notification: Notification) -> Json:
    """The conversation, with the part that was added."""
    about = notification.about
    found = Conversation.objects.get(pk=about["conversation"])
    parts = [
        payloads.part(part, of=found, plain=False)
        for part in ConversationPart.objects.filter(conversation=found, pk=about.get("part"))
    ]
    return {
        **payloads.conversation(found),
        "user": person(notification),
        "conversation_parts": {**list_payload("conversation_part", parts), "total_count": len(parts)},
    }


def person(notification: Notification) -> Json:
    """The user or lead in full."""
    assert notification.customer is not None  # noqa: S101 - every topic but ping and company has one
    return users.user_payloads([notification.customer])[0]


def tagged(notification: Notification) -> Json:
    """The tag, and on whom."""
    tag = {"type": "tag", **notification.about["tag"]}
    return {"type": "user_tag", "created_at": unix(notification.created_at), "tag": tag, "user": person(notification)}


def company(notification: Notification) -> Json:
    """The company in full."""
    return companies.company_payloads([Company.objects.get(pk=notification.about["company"])])[0]


def happened(notification: Notification) -> Json:
    """The event, as it was recorded."""
    about = notification.about
    assert notification.customer is not None  # noqa: S101 - somebody did it
    found = Event.objects.get(
        customer=notification.customer,
        name=about["event"],
        happened_at=datetime.fromtimestamp(about["happened_at"], tz=UTC),
    )
    return event(found, customer=notification.customer)


def pinged(_notification: Notification) -> Json:
    """That all is well."""
    return {"type": "ping", "message": "Outbound can reach this address."}


ITEMS: dict[str, Callable[[Notification], Json]] = {
    "conversation": conversation,
    "user": person,
    "contact": person,
    "tag": tagged,
    "company": company,
    "event": happened,
    "ping": pinged,
}
