"""Webhook subscriptions, and the log of each (wire 5.13)."""

import re
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import webhook_outbox
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import MissingField
from audiences.api.base.lookups import get_row
from audiences.api.base.openapi import PAGE
from audiences.api.base.paging import page_rows
from audiences.api.payloads import Json, unix
from audiences.intake import Refused
from audiences.intake.attributes.fields import first_given, read_flag, read_text
from audiences.models import Notification, NotificationState, Subscription, Topic
from delivery.webhooks import safe_http
from delivery.webhooks.notification import notification_body, signing_key, standard_secret

PREFIX = re.compile(r"^nsub_(?=\d)")


class Subscriptions(Endpoint):
    """/subscriptions."""

    needs_read_to_write = True
    parameters = {"get": PAGE}

    def post(self, request: Request) -> Response:
        """Create a subscription. Only this answer contains the secret that signs its notifications, in two forms."""
        sent, at = body(request), timezone.now()
        made = Subscription(created_at=at, updated_at=at)
        for field in ("url", "topics"):
            if first_given(sent, field) is None:
                raise MissingField(f"{field} is required", field=field)
        update_from_request(sent, made)
        made.save()
        secrets = {"hub_secret": made.secret, "signing_secret": standard_secret(made.secret)}
        return Response({**subscription_payload(made), **secrets})

    def get(self, request: Request) -> Response:
        """List the subscriptions."""
        found, pages, total = page_rows(request, Subscription.objects.order_by("pk"))
        shapes = list(map(subscription_payload, found))
        # The same list under two keys: the documented one, and the one that existing clients read.
        lists = {"items": shapes, "subscriptions": shapes}
        return Response({"type": "notification_subscription.list", "pages": pages, "total_count": total, **lists})


class OneSubscription(Endpoint):
    """/subscriptions/{id}."""

    needs_read_to_write = True

    def get(self, request: Request, pk: str) -> Response:
        """Return a subscription."""
        return Response(subscription_payload(subscription_of(pk)))

    def put(self, request: Request, pk: str) -> Response:
        """Change the URL, the topics, the secret or the active flag."""
        sent, at = body(request), timezone.now()
        with transaction.atomic():
            found = subscription_of(pk)
            update_from_request(sent, found)
            found.updated_at = at
            found.save()
        return Response(subscription_payload(found))

    # Some clients update by POST.
    def post(self, request: Request, pk: str) -> Response:
        """Change the subscription, as PUT does."""
        return self.put(request, pk)

    def delete(self, request: Request, pk: str) -> Response:
        """Delete the subscription and its log."""
        found = subscription_of(pk)
        response = Response(subscription_payload(found))
        found.delete()
        return response


class Ping(Endpoint):
    """/subscriptions/{id}/ping."""

    def post(self, request: Request, pk: str) -> Response:
        """Send a `ping` notification to the subscription now."""
        found = subscription_of(pk)
        with transaction.atomic():
            webhook_outbox.announce_ping(found, at=timezone.now())
        return Response(subscription_payload(found))


class Sent(Endpoint):
    """/subscriptions/{id}/sent."""

    parameters = {"get": PAGE}

    def get(self, request: Request, pk: str) -> Response:
        """List the delivered notifications, newest first."""
        return notification_log(request, pk, state=NotificationState.DELIVERED)


class Failures(Endpoint):
    """/subscriptions/{id}/error."""

    parameters = {"get": PAGE}

    def get(self, request: Request, pk: str) -> Response:
        """List the notifications that failed, newest first, including those that will be tried again."""
        return notification_log(request, pk, detail__gt="")


def notification_log(request: Request, pk: str, **which: Any) -> Response:
    """Return a page of a subscription's notifications."""
    rows = Notification.objects.filter(subscription=subscription_of(pk), **which).order_by("-pk")
    found, pages, total = page_rows(request, rows)
    events = list(map(notification_payload, found))
    return Response({"type": "notification_event.list", "pages": pages, "total_count": total, "items": events})


def subscription_of(named: Any) -> Subscription:
    """Return the subscription with this id, with or without the prefix, or raise Unknown (404)."""
    return get_row(Subscription.objects.all(), PREFIX.sub("", read_text(named, "id")))


def update_from_request(sent: dict[str, Any], found: Subscription) -> None:
    if "url" in sent:
        found.url = read_text(sent["url"], "url", most=safe_http.MAX_URL_LENGTH)
        try:
            safe_http.check_url(found.url)
        except safe_http.NotAllowed as wrong:
            raise Refused(str(wrong), field="url") from wrong
    if "topics" in sent:
        found.topics = topics_from(sent["topics"])
    if first_given(sent, "hub_secret") is not None:
        found.secret = secret_from(sent["hub_secret"])
    is_active = read_flag(sent.get("active"), "active")
    if is_active is not None:
        found.active = is_active


def secret_from(given: Any) -> str:
    """Return a secret; one in the form of Standard Webhooks must be valid base64."""
    secret = read_text(given, "hub_secret", most=200)
    try:
        key = signing_key(secret)
    except ValueError:
        key = b""
    if not key:
        raise Refused("hub_secret must have base64 after whsec_.", field="hub_secret")
    return secret


def topics_from(given: Any) -> list[str]:
    if not isinstance(given, list) or not given:
        raise Refused("topics must be a non-empty list.", field="topics")
    names = [read_text(topic, "topics") for topic in given]
    if unknown := [name for name in names if name not in Topic.values]:
        raise Refused(f"Unknown topic {unknown[0]}. Topics: {', '.join(Topic.values)}.", field="topics")
    return list(dict.fromkeys(names))


def subscription_payload(found: Subscription) -> Json:
    """Return a subscription without its secret."""
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
    """Return a notification with the result of its delivery."""
    return {
        **notification_body(row),
        "delivery_status": row.state,
        "response_status": row.response_status,
        "detail": row.detail or None,
        "next_attempt_at": unix(row.due_at) if row.state == NotificationState.WAITING else None,
        "delivered_at": unix(row.settled_at) if row.state == NotificationState.DELIVERED else None,
    }
