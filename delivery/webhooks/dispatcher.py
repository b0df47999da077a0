"""Dispatcher of outgoing webhooks (wire 5.13): claim, commit, send, settle.

Notifications are written in the transaction of the change (`audiences.webhook_outbox`), so none is lost. Notifications
of a worker that stopped are sent again, so a subscriber may receive one twice, with the same id.

Each subscription is a stream of its own: at most one request is in flight, the oldest due notification first. One
worker dispatches at a time; its threads send, without a database connection, so a slow subscriber delays no other.
"""

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import Exists, F, OuterRef, Subquery, prefetch_related_objects
from django.db.models.functions import Coalesce

from audiences.api.payloads import Json
from audiences.locks import Lock
from audiences.models import Notification, NotificationState, Subscription, Topic
from delivery import shutdown
from delivery.sending.outbox import Outbox
from delivery.sending.outcome import Clock
from delivery.webhooks import safe_http
from delivery.webhooks.notification import Retracted, build_item, notification_body, request_headers

log = logging.getLogger(__name__)

BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 720, 1440))
OUTBOX = Outbox(model=Notification, status="state", lease=timedelta(minutes=5), back_off=BACK_OFF)
# How long a subscription whose server failed gets no other notification: they would probably fail too.
PAUSE_AFTER_FAILURE = timedelta(minutes=1)
RETENTION = timedelta(days=30)
STATUS_GONE = 410
MESSAGE_TOPICS = [topic for topic in Topic if topic is Topic.ALL or topic.startswith("message.")]
IS_DISPATCHING = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s"
    " AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)
# In seconds. How often a dispatcher that waits for answers looks for new notifications.
CLAIM_INTERVAL = 0.05
# How many requests are begun or settled before the dispatcher looks for new notifications of fast subscriptions.
STEP = 5
# In seconds. How long the item of an event is kept for other subscriptions.
ITEMS_KEPT_FOR = 1.0
# In seconds. A subscription whose last answer took longer, or failed, is slow. Slow ones use at most half of the
# threads.
SLOW_FROM = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one request: a status code, or the reason why there is none."""

    seconds: float
    status: int | None = None
    detail: str = ""
    is_final: bool = False

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def dispatch(*, clock: Clock, until: datetime) -> int:
    """Send the due notifications until none is left or the time is up; return the number of attempts.

    At the end of its time it releases the lock before it waits for the last answers, so that another worker can go on.
    """
    with Streams(clock=clock, until=until) as streams:
        while streams.may_begin():
            with single_dispatcher() as is_locked:
                if not is_locked:
                    break
                streams.send_due()
            # A worker that was nudged just before the release found the lock taken.
            if not due_heads(at=clock()):
                break
        streams.settle_rest()
    return streams.attempts


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


def is_nudge_needed(*, at: datetime) -> bool | None:
    """Return whether due notifications of message events wait and no worker sends; None if nobody subscribes to them.

    Triggers write these notifications, and opens and clicks become due later, so no caller could nudge.
    """
    if not Subscription.objects.filter(active=True, topics__overlap=MESSAGE_TOPICS).exists():
        return None
    with connection.cursor() as cursor:
        cursor.execute(IS_DISPATCHING, [Lock.NOTIFYING])
        is_dispatching = bool(cursor.fetchone()[0])
    return not is_dispatching and bool(due_heads(at=at))


def due_heads(*, at: datetime) -> dict[int, int]:
    """Return the oldest due notification of each subscription that has no request in flight and is not paused."""
    waiting = Notification.objects.due(at).filter(subscription=OuterRef("pk")).order_by("pk").values("pk")
    in_flight = Notification.objects.filter(
        subscription=OuterRef("pk"), state=NotificationState.SENDING, leased_until__gte=at
    )
    free = Subscription.objects.filter(~Exists(in_flight), active=True).exclude(paused_until__gt=at)
    heads = free.annotate(head=Subquery(waiting[:1])).values_list("pk", "head")
    return {subscription: head for subscription, head in heads if head is not None}


@dataclass
class Streams:
    """The requests in flight, one for each subscription, and the threads that send them."""

    clock: Clock
    until: datetime
    attempts: int = 0
    in_flight: dict[Future[Answer], Notification] = field(default_factory=dict)
    # Subscriptions by the pace of their last answer.
    slow: set[int] = field(default_factory=set)
    # Items of payloads, and since when they are kept, by `time.monotonic`.
    items: dict[tuple[object, ...], Json] = field(default_factory=dict)
    items_since: float = 0.0
    threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.threads = ThreadPoolExecutor(settings.WEBHOOK_CONNECTIONS, thread_name_prefix="webhook")
        failing = Subscription.objects.filter(active=True, failing_since__isnull=False)
        self.slow.update(failing.values_list("pk", flat=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.threads.shutdown()

    def may_begin(self) -> bool:
        return self.clock() < self.until and not shutdown.is_requested()

    def send_due(self) -> None:
        """Send until nothing is due or in flight, or the time is up."""
        while self.may_begin():
            claimed = self.claim()
            self.begin(claimed)
            if self.in_flight:
                self.settle_answers(timeout=0 if claimed else CLAIM_INTERVAL)
            elif not claimed:
                return

    def settle_rest(self) -> None:
        while self.in_flight:
            self.settle_answers(timeout=None)

    def claim(self) -> list[Notification]:
        """Claim the next notifications of free subscriptions, those of fast ones first, if there are free threads."""
        heads = sorted(due_heads(at=self.clock()).items(), key=lambda item: item[1])
        slow_free = max(1, settings.WEBHOOK_CONNECTIONS // 2) - sum(
            one.subscription_id in self.slow for one in self.in_flight.values()
        )
        slow = [head for subscription, head in heads if subscription in self.slow][: max(slow_free, 0)]
        fast = [head for subscription, head in heads if subscription not in self.slow]
        chosen = [*fast, *slow][: min(STEP, settings.WEBHOOK_CONNECTIONS - len(self.in_flight))]
        if not chosen:
            return []
        at = self.clock()
        taken = OUTBOX.claim(Notification.objects.due(at).filter(pk__in=chosen), at=at, limit=len(chosen))
        prefetch_related_objects(taken, "subscription")
        return taken

    def begin(self, claimed: list[Notification]) -> None:
        """Store the payloads of claimed notifications and hand their requests to threads."""
        at = self.clock()
        self.attempts += len(claimed)
        built = [notification for notification in claimed if self.has_payload(notification, at=at)]
        for notification in built:
            notification.first_sent_at = notification.first_sent_at or at
        Notification.objects.bulk_update(built, ["payload", "first_sent_at"])
        for notification in built:
            body = json.dumps(notification_body(notification)).encode()
            headers = request_headers(notification, body, at=at)
            url = notification.subscription.url
            self.in_flight[self.threads.submit(post_notification, url, body, headers)] = notification

    def has_payload(self, notification: Notification, *, at: datetime) -> bool:
        """Build the payload before the first attempt; fail the notification if that is not possible.

        A notification of an event that did not happen is deleted.
        """
        if notification.payload is None:
            try:
                notification.payload = self.build_item(notification)
            except OperationalError:
                raise  # The database is unavailable; the lease expires, and it is tried again.
            except Retracted:
                notification.delete()
                return False
            except Exception:
                # An unforeseen error must not block the queue, and the subscriber did not cause it.
                log.exception("the payload of notification %s cannot be built", notification.pk)
                reason = "The payload could not be built."
                OUTBOX.settle(notification, status=NotificationState.FAILED, settled_at=at, detail=reason)
                return False
        return True

    def build_item(self, notification: Notification) -> Json:
        """Return the item, built once for all subscriptions that are notified of an event at about the same time."""
        now = time.monotonic()
        if now - self.items_since > ITEMS_KEPT_FOR:
            self.items, self.items_since = {}, now
        about = json.dumps(notification.about, sort_keys=True)
        key = (notification.topic, notification.customer_id, notification.created_at, about)
        if key not in self.items:
            self.items[key] = build_item(notification)
        return self.items[key]

    def settle_answers(self, *, timeout: float | None) -> None:
        """Settle the requests that were answered, as soon as there is one."""
        done, _ = wait(self.in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda one: self.in_flight[one].subscription_id in self.slow)[:STEP]:
            notification, answer = self.in_flight.pop(future), future.result()
            slow = not answer.is_success or answer.seconds >= SLOW_FROM
            (self.slow.add if slow else self.slow.discard)(notification.subscription_id)
            settle_answer(notification, answer, at=self.clock())


def post_notification(url: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Send one request; runs in a thread, without a database connection."""
    began = time.monotonic()
    try:
        status = safe_http.post(url, body, headers=headers)
    except safe_http.NotAllowed as wrong:
        return Answer(time.monotonic() - began, detail=str(wrong), is_final=True)
    except safe_http.Unreachable as wrong:
        return Answer(time.monotonic() - began, detail=str(wrong))
    except Exception as wrong:
        # An unforeseen error must not end the dispatcher of all subscribers.
        log.exception("a webhook request failed")
        return Answer(time.monotonic() - began, detail=f"{type(wrong).__name__}: {wrong}")
    return Answer(time.monotonic() - began, status, is_final=status == STATUS_GONE)


def settle_answer(notification: Notification, answer: Answer, *, at: datetime) -> None:
    """Record the outcome, and pause the subscription after a failure; one that answers 410 (gone) is deactivated."""
    subscriptions = Subscription.objects.filter(pk=notification.subscription_id)
    facts = {"response_status": answer.status, "detail": answer.detail}
    if answer.is_success:
        OUTBOX.settle(notification, status=NotificationState.DELIVERED, settled_at=at, **facts)
        if notification.subscription.failing_since is not None:
            subscriptions.update(failing_since=None, paused_until=None)
        return
    facts["detail"] = answer.detail or f"HTTP status {answer.status}."
    if answer.is_final or not OUTBOX.retry(notification, at=at, **facts):
        OUTBOX.settle(notification, status=NotificationState.FAILED, settled_at=at, **facts)
    subscriptions.update(failing_since=Coalesce(F("failing_since"), at), paused_until=at + PAUSE_AFTER_FAILURE)
    if answer.status == STATUS_GONE:
        subscriptions.update(active=False, updated_at=at)


def send_again(notification: Notification, *, at: datetime) -> bool:
    """Queue a notification for immediate sending; return False while a worker is sending it."""
    rows = Notification.objects.filter(pk=notification.pk).exclude(state=NotificationState.SENDING)
    if not rows.update(state=NotificationState.WAITING, due_at=at, settled_at=None):
        return False
    Subscription.objects.filter(pk=notification.subscription_id).update(paused_until=None)
    return True


def delete_old_notifications(*, at: datetime) -> int:
    return Notification.objects.filter(settled_at__lt=at - RETENTION).delete()[0]
