"""Events of customers: on the in-app messages they see, and on the page."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import body
from audiences.api.base.lookups import get_row
from audiences.intake import NotInCatalogue
from audiences.intake.attributes.fields import read_text
from delivery.api.messenger.access import MessengerEndpoint, customer_of, speaker
from delivery.api.messenger.payloads import error_payloads
from delivery.models import DeliveryRecord, Status
from delivery.tracking import in_app
from messaging.models import Channel

MAX_LINK_LENGTH = 20_000
MARKS: dict[str, Callable[..., Any]] = {
    "opened": in_app.record_open,
    "dismissed": in_app.record_dismissal,
    "clicked": in_app.record_click,
}


class Mark(MessengerEndpoint):
    """/messenger/messages/{id}/opened, dismissed, clicked; the id is that of the customer's own copy.

    `clicked` has a `link`, as it is written in the message.
    """

    def post(self, request: Request, pk: str, mark: str) -> Response:
        """Record the mark. Idempotent: the first time counts."""
        customer = customer_of(request)
        mine = DeliveryRecord.objects.filter(customer=customer, message__channel=Channel.IN_APP, status=Status.SENT)
        at: datetime = timezone.now()
        sent: dict[str, Any] = request.data  # type: ignore[assignment]  # JsonObject reads nothing else.
        more = {"led_to": read_text(sent.get("link"), "link", most=MAX_LINK_LENGTH)} if mark == "clicked" else {}
        MARKS[mark](get_row(mine.select_related("message", "version"), pk), at=at, **more)
        return Response({"type": "in_app_message", "id": pk, "marked": mark})


class TrackEvent(MessengerEndpoint):
    """/messenger/events."""

    def post(self, request: Request) -> Response:
        """Record an event of the customer, at the current time; events of visitors who have not written are dropped."""
        sent = body(request)
        who, at = speaker(request), timezone.now()
        if who.customer is None:
            return Response({"type": "event", "recorded": False, "errors": []})
        # A browser's clock is not reliable, so the page cannot give a time.
        name, metadata = sent.get("event_name"), sent.get("metadata")
        try:
            recorded = intake.record_event(who.customer, name, None, metadata, at=at, source=who.source)
        except NotInCatalogue as wrong:
            intake.note_refused_names([wrong], at=at)
            return Response({"type": "event", "recorded": False, "errors": error_payloads([wrong])})
        return Response({"type": "event", "recorded": bool(recorded), "errors": []})
