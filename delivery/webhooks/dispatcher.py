"""Dispatcher of outgoing webhooks (wire 5.13): claim, commit, send, settle one by one.

Notifications are written in the transaction of the change (`audiences.webhook_outbox`), so none is lost. Notifications
of a worker that stopped are sent again, so a subscriber may receive one twice, with the same id.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.db import OperationalError, connection
from django.db.models import F, prefetch_related_objects
from django.db.models.functions import Coalesce

from audiences.api import companies, users
from audiences.api.payloads import APP_ID, Json, event, list_payload, unix
from audiences.locks import Lock
from audiences.models import Company, Event, Notification, NotificationState, Subscription
from delivery import shutdown
from delivery.conversations import payloads
from delivery.models import Conversation, ConversationPart
from delivery.sending.outbox import Outbox
from delivery.webhooks import safe_http

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

BATCH_SIZE = 10
BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 720, 1440))
OUTBOX = Outbox(model=Notification, status="state", lease=timedelta(minutes=5), back_off=BACK_OFF)
PUT_BACK_DELAY = timedelta(minutes=1)
RETENTION = timedelta(days=30)
STATUS_GONE = 410


def dispatch(*, clock: Clock, until: datetime) -> int:
    """Send the due notifications until none is left or the time is up; return the number of attempts.

    Only one worker dispatches at a time, so that slow subscribers never occupy all workers.
    """
    with single_dispatcher() as is_locked:
        return send_due_notifications(clock=clock, until=until) if is_locked else 0


@contextmanager
def single_dispatcher() -> Iterator[bool]:
    """Hold the dispatcher's lock during the block; yields False if another worker holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [Lock.NOTIFYING])
        is_locked = bool(cursor.fetchone()[0])
        try:
            yield is_locked
        finally:
            if is_locked:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [Lock.NOTIFYING])


def send_due_notifications(*, clock: Clock, until: datetime) -> int:
    """Send due notifications in small batches; the rest of a batch for a failing subscription waits a little."""
    total = 0
    while clock() < until and not shutdown.is_requested():
        batch = claim_notifications(at=clock())
        if not batch:
            break
        failing: set[int] = set()
        for notification in batch:
            if notification.subscription_id in failing or shutdown.is_requested():
                # It would probably fail too, or the worker is stopping: no attempt is used up.
                OUTBOX.put_back(notification, due_at=clock() + PUT_BACK_DELAY)
                continue
            total += 1
            if not send_notification(notification, clock=clock):
                failing.add(notification.subscription_id)
    return total


def claim_notifications(*, at: datetime) -> list[Notification]:
    """Claim a batch of due notifications, in the order of their events, and commit before anything is sent."""
    taken = OUTBOX.claim(Notification.objects.due(at), at=at, limit=BATCH_SIZE)
    prefetch_related_objects(taken, "subscription")
    return taken


def send_notification(notification: Notification, *, clock: Clock) -> bool:
    """Send one notification and settle it; return whether the subscriber accepted it."""
    at = clock()
    if notification.payload is None:
        try:
            notification.payload = build_item(notification)
        except OperationalError:
            raise  # The database is unavailable; the lease expires, and it is tried again.
        except Exception:
            # An unforeseen error must not block the queue, and the subscriber did not cause it.
            log.exception("the payload of notification %s cannot be built", notification.pk)
            reason = "The payload could not be built."
            OUTBOX.settle(notification, status=NotificationState.FAILED, settled_at=at, detail=reason)
            return True
    if notification.first_sent_at is None:
        notification.first_sent_at = at
    Notification.objects.filter(pk=notification.pk).update(
        payload=notification.payload, first_sent_at=notification.first_sent_at
    )
    body = json.dumps(notification_body(notification)).encode()
    subscription = notification.subscription
    status, detail, is_final = None, "", False
    try:
        status = safe_http.post(subscription.url, body, headers=signed_headers(body, secret=subscription.secret))
    except safe_http.NotAllowed as wrong:
        detail, is_final = str(wrong), True
    except safe_http.Unreachable as wrong:
        detail = str(wrong)
    if status is not None and 200 <= status < 300:
        OUTBOX.settle(
            notification, status=NotificationState.DELIVERED, settled_at=clock(), response_status=status, detail=""
        )
        Subscription.objects.filter(pk=subscription.pk, failing_since__isnull=False).update(failing_since=None)
        return True
    if status is not None:
        detail = f"HTTP status {status}."
    mark_failed(notification, at=clock(), status=status, detail=detail, is_final=is_final or status == STATUS_GONE)
    return False


def mark_failed(notification: Notification, *, at: datetime, status: int | None, detail: str, is_final: bool) -> None:
    """Schedule another attempt or give up; a subscription that answers 410 (gone) is deactivated."""
    subscriptions = Subscription.objects.filter(pk=notification.subscription_id)
    subscriptions.update(failing_since=Coalesce(F("failing_since"), at))
    if status == STATUS_GONE:
        subscriptions.update(active=False, updated_at=at)
    answer = {"response_status": status, "detail": detail}
    if is_final or not OUTBOX.retry(notification, at=at, **answer):
        OUTBOX.settle(notification, status=NotificationState.FAILED, settled_at=at, **answer)


def send_again(notification: Notification, *, at: datetime) -> bool:
    """Queue a notification for immediate sending; return False while a worker is sending it."""
    rows = Notification.objects.filter(pk=notification.pk).exclude(state=NotificationState.SENDING)
    return bool(rows.update(state=NotificationState.WAITING, due_at=at, settled_at=None))


def delete_old_notifications(*, at: datetime) -> int:
    return Notification.objects.filter(settled_at__lt=at - RETENTION).delete()[0]


def signed_headers(body: bytes, *, secret: str) -> dict[str, str]:
    """Return headers signed with the subscription's secret, by SHA-1 for compatible subscribers and by SHA-256."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Outbound",
        "X-Hub-Signature": f"sha1={hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}",
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }


def notification_body(notification: Notification) -> Json:
    """Return the body of a request; only the number of attempts changes between attempts."""
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


def build_item(notification: Notification) -> Json:
    """Return the current state of the notification's object."""
    kinds = notification.topic.split(".")
    return ITEMS["tag" if "tag" in kinds else kinds[0]](notification)


def conversation_item(notification: Notification) -> Json:
    """Return the conversation with the part that was added."""
    about = notification.about
    found = Conversation.objects.get(pk=about["conversation"])
    parts = [
        payloads.part(part, of=found, plain=False)
        for part in ConversationPart.objects.filter(conversation=found, pk=about.get("part"))
    ]
    return {
        **payloads.conversation(found),
        "user": customer_item(notification),
        "conversation_parts": {**list_payload("conversation_part", parts), "total_count": len(parts)},
    }


def customer_item(notification: Notification) -> Json:
    assert notification.customer is not None  # noqa: S101 - every topic but ping and company has one
    return users.user_payloads([notification.customer])[0]


def tag_item(notification: Notification) -> Json:
    tag = {"type": "tag", **notification.about["tag"]}
    return {
        "type": "user_tag",
        "created_at": unix(notification.created_at),
        "tag": tag,
        "user": customer_item(notification),
    }


def company_item(notification: Notification) -> Json:
    return companies.company_payloads([Company.objects.get(pk=notification.about["company"])])[0]


def event_item(notification: Notification) -> Json:
    about = notification.about
    assert notification.customer is not None  # noqa: S101 - every event has one
    found = Event.objects.get(
        customer=notification.customer,
        name=about["event"],
        happened_at=datetime.fromtimestamp(about["happened_at"], tz=UTC),
    )
    return event(found, customer=notification.customer)


def ping_item(_notification: Notification) -> Json:
    return {"type": "ping", "message": "Outbound can reach this address."}


ITEMS: dict[str, Callable[[Notification], Json]] = {
    "conversation": conversation_item,
    "user": customer_item,
    "contact": customer_item,
    "tag": tag_item,
    "company": company_item,
    "event": event_item,
    "ping": ping_item,
}
