"""Endpoint of senders: the names and addresses that messages come from."""

from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint
from audiences.api.payloads import Json, list_payload
from messaging.models import Sender
from outbound.api.drafts import callers


class Senders(Endpoint):
    """/senders."""

    def get(self, request: Request) -> Response:
        """List the senders that the teammate of the token may use."""
        by, _ = callers(request)
        return Response(
            list_payload("sender", map(sender_payload, Sender.objects.usable_by(by).order_by("name", "pk")))
        )


def sender_payload(found: Sender) -> Json:
    return {"type": "sender", "id": str(found.pk), "name": found.name, "email": found.email}
