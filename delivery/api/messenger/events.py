"""What customers do with the in-app messages they are shown, and elsewhere on the page."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import body
from audiences.api.base.lookups import one_of
from audiences.intake import NotInCatalogue
from audiences.intake.attributes.fields import text
from delivery.api.messenger.access import MessengerEndpoint, customer_of, speaker
from delivery.api.messenger.payloads import errors
from delivery.models import DeliveryRecord, Status
from delivery.tracking import in_app
from messaging.models import Channel

LONGEST_LINK = 20_000
MARKS: dict[str, Callable[..., Any]] = {
    "opened": in_app.record_open,
    "dismissed": in_app.record_dismissal,
    "clicked": in_app.record_click,
}


class Mark(MessengerEndpoint):
    """/messenger/messages/{id}/opened, dismissed, clicked; the id is that of the customer's own copy.

    With `clicked` comes the `link`, as it stands in the message.
    """

    def post(self, request: Request, pk: str, mark: str) -> Response:
        """Note it; again is no harm, the first time counts."""
        customer = customer_of(request)
        mine = DeliveryRecord.objects.filter(customer=customer, message__channel=Channel.IN_APP, status=Status.SENT)
        at: datetime = timezone.now()
        said: dict[str, Any] = request.data  # type: ignore[assignment]  # JsonObject reads nothing else.
        more = {"led_to": text(said.get("link"), "link", most=LONGEST_LINK)} if mark == "clicked" else {}
        MARKS[mark](one_of(mine.select_related("message", "version"), pk), at=at, **more)
        return Response({"type": "in_app_message", "id": pk, "marked": mark})


class Happened(MessengerEndpoint):
    """/messenger/events."""

    def post(self, request: Request) -> Response:
        """Record what the customer did, as of now; what visitors do before they write is not written down."""
        sent = body(request)
        who, at = speaker(request), timezone.now()
        if who.customer is None:
            return Response({"type": "event", "recorded": False, "errors": []})
        # A page may say that something happened, not when: its clock is not ours.
        name, metadata = sent.get("event_name"), sent.get("metadata")
        try:
            recorded = intake.record_event(who.customer, name, None, metadata, at=at, source=who.source)
        except NotInCatalogue as wrong:
            intake.note_refused([wrong], at=at)
            return Response({"type": "event", "recorded": False, "errors": errors([wrong])})
        return Response({"type": "event", "recorded": bool(recorded), "errors": []})
