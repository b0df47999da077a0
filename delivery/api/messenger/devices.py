"""Push devices of apps: registration, removal, and the report that a push was opened."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import body
from audiences.intake import Unknown
from audiences.intake.attributes.fields import read_text
from audiences.models import Device
from delivery.api.messenger.access import MessengerEndpoint, customer_of
from delivery.sending import push_fanout, uncertain
from delivery.sending.uncertain import Proof
from delivery.tracking import in_app


class Register(MessengerEndpoint):
    """/messenger/devices."""

    def post(self, request: Request) -> Response:
        """Register a device for pushes to the app's customer, and to no one else."""
        sent, customer = body(request), customer_of(request)
        found: Device = intake.register_device(
            customer, token=sent.get("token"), platform=sent.get("platform"), at=timezone.now()
        )
        return Response({"type": "device", "platform": found.platform, "registered": True})


class Forget(MessengerEndpoint):
    """/messenger/devices/forget."""

    def post(self, request: Request) -> Response:
        """Remove the customer's device."""
        sent, customer = body(request), customer_of(request)
        intake.retire_device(customer, token=sent.get("token"), at=timezone.now())
        return Response({"type": "device", "registered": False})


class Opened(MessengerEndpoint):
    """/messenger/pushes/opened."""

    def post(self, request: Request) -> Response:
        """Record that a push was opened, named by its `outbound_token`. Idempotent."""
        record = push_fanout.record_of_token(read_text(body(request).get("token"), "token"))
        if record is None:
            raise Unknown("Unknown push token.", field="token")
        at = timezone.now()
        # An opened push has arrived, even if its record is uncertain.
        uncertain.settle_by_proof(record, proof=Proof.TAKEN, at=at)
        in_app.record_open(record, at=at)
        return Response({"type": "push", "opened": True})
