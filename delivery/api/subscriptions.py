"""Subscriptions to what happens, and the log of what each was told (wire 5.13)."""

import re
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import webhook_outbox
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import Missing
from audiences.api.base.lookups import one_of
from audiences.api.base.openapi import PAGE
from audiences.api.base.paging import paged
from audiences.api.payloads import Json, unix
from audiences.intake import Refused
from audiences.intake.attributes.fields import first_given, flag, text
from audiences.models import Notification, NotificationState, Subscription, Topic
from delivery.webhooks import dispatcher, safe_http

PREFIX = re.compile(r"^nsub_(?=\d)")


class Subscriptions(Endpoint):
    """/subscriptions."""

    parameters = {"get": PAGE}

    def post(self, request: Request) -> Response:
        """Have an address told of topics; the answer alone shows the secret it is signed with."""
        sent, at = body(request), timezone.now()
        made = Subscription(created_at=at, updated_at=at)
        for field in ("url", "topics"):
            if first_given(sent, field) is None:
                raise Missing(f"{field} is required", field=field)
        update_from_request(sent, made)
        made.save()
        return Response({**shape(made), "hub_secret": made.secret})

    def get(self, request: Request) -> Response:
        """List them."""
        found, pages, total = paged(request, Subscription.objects.order_by("pk"))
        shapes = list(map(shape, found))
        # Two names for the same: the wire's, and the one clients of this family look under.
        lists = {"items": shapes, "subscriptions": shapes}
        return Response({"type": "notification_subscription.list", "pages": pages, "total_count": total, **lists})


class OneSubscription(Endpoint):
    """/subscriptions/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find one."""
        return Response(shape(subscription_of(pk)))

    def put(self, request: Request, pk: str) -> Response:
        """Change its address, topics, secret, or whether it is active."""
        sent, at = body(request), timezone.now()
        with transaction.atomic():
            found = subscription_of(pk)
            update_from_request(sent, found)
            found.updated_at = at
            found.save()
        return Response(shape(found))

    # Some clients change things by POST.
    def post(self, request: Request, pk: str) -> Response:
        """Change its address, topics, secret, or whether it is active, as PUT does."""
        return self.put(request, pk)

    def delete(self, request: Request, pk: str) -> Response:
        """Remove it, with its log."""
        found = subscription_of(pk)
        response = Response(shape(found))
        found.delete()
        return response


class Ping(Endpoint):
    """/subscriptions/{id}/ping."""

    def post(self, request: Request, pk: str) -> Response:
        """Have a `ping` sent to it now."""
        found = subscription_of(pk)
        with transaction.atomic():
            webhook_outbox.ping(found, at=timezone.now())
        return Response(shape(found))


class Sent(Endpoint):
    """/subscriptions/{id}/sent."""

    parameters = {"get": PAGE}

    def get(self, request: Request, pk: str) -> Response:
        """List what it was told, the newest first."""
        return log(request, pk, state=NotificationState.DELIVERED)


class Failures(Endpoint):
    """/subscriptions/{id}/error."""

    parameters = {"get": PAGE}

    def get(self, request: Request, pk: str) -> Response:
        """List what did not get through, the newest first: given up, or to be tried again."""
        return log(request, pk, detail__gt="")


def log(request: Request, pk: str, **which: Any) -> Response:
    """Answer with a page of a subscription's log."""
    rows = Notification.objects.filter(subscription=subscription_of(pk), **which).order_by("-pk")
    found, pages, total = paged(request, rows)
    events = list(map(notification_payload, found))
    return Response({"type": "notification_event.list", "pages": pages, "total_count": total, "items": events})


def subscription_of(named: Any) -> Subscription:
    """The subscription of this id, with or without its prefix, or 404."""
    return one_of(Subscription.objects.all(), PREFIX.sub("", text(named, "id")))


def update_from_request(sent: dict[str, Any], found: Subscription) -> None:
    """Read what was sent into the row."""
    if "url" in sent:
        found.url = text(sent["url"], "url", most=safe_http.MAX_URL_LENGTH)
        try:
            safe_http.check_url(found.url)
        except safe_http.NotAllowed as wrong:
            raise Refused(str(wrong), field="url") from wrong
    if "topics" in sent:
        found.topics = topics(sent["topics"])
    if first_given(sent, "hub_secret") is not None:
        found.secret = text(sent["hub_secret"], "hub_secret", most=200)
    is_active = flag(sent.get("active"), "active")
    if is_active is not None:
        found.active = is_active


def topics(given: Any) -> list[str]:
    """Read which topics are wanted."""
    if not isinstance(given, list) or not given:
        raise Refused("topics is a list that holds something.", field="topics")
    names = [text(topic, "topics") for topic in given]
    if unknown := [name for name in names if name not in Topic.values]:
        raise Refused(f"There is no topic {unknown[0]}. There are: {', '.join(Topic.values)}.", field="topics")
    return list(dict.fromkeys(names))


def shape(found: Subscription) -> Json:
    """A subscription, without its secret."""
    here = f"../subscriptions/nsub_{found.pk}"
    return {
        "type": "notification_subscription",
        "id": f"nsub_{found.pk}",
        "service_type": "web",
        "url": found.url,
        "topics": found.topics,
        "active": found.active,
        "failing_since": unix(found.failing_since),
        "created_at": unix(found.created_at),
        "updated_at": unix(found.updated_at),
        "links": {"self": here, "sent": f"{here}/sent", "error": f"{here}/error", "ping": f"{here}/ping"},
    }


def notification_payload(row: Notification) -> Json:
    """What a subscription was told, or is to be, and how that went."""
    return {
        **dispatcher.notification_body(row),
        "delivery_status": row.state,
        "response_status": row.response_status,
        "detail": row.detail or None,
        "next_attempt_at": unix(row.due_at) if row.state == NotificationState.WAITING else None,
        "delivered_at": unix(row.settled_at) if row.state == NotificationState.DELIVERED else None,
    }
