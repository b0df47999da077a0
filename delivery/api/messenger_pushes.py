"""What an app tells of pushes: the device it runs on, and that one was opened."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.endpoint import body
from audiences.intake import Unknown
from audiences.intake.values import text
from audiences.models import Device
from delivery import pushing, resolving, showing
from delivery.api.messenger_access import MessengerEndpoint, customer_of
from delivery.resolving import Proof


class Register(MessengerEndpoint):
    """/messenger/devices."""

    def post(self, request: Request) -> Response:
        """Have the customer the app speaks for get pushes on this device, and nobody else."""
        sent, customer = body(request), customer_of(request)
        found: Device = intake.register_device(
            customer, token=sent.get("token"), platform=sent.get("platform"), at=timezone.now()
        )
        return Response({"type": "device", "platform": found.platform, "registered": True})


class Forget(MessengerEndpoint):
    """/messenger/devices/forget."""

    def post(self, request: Request) -> Response:
        """Have the customer get no more pushes on this device; it must be theirs."""
        sent, customer = body(request), customer_of(request)
        intake.retire_device(customer, token=sent.get("token"), at=timezone.now())
        return Response({"type": "device", "registered": False})


class Opened(MessengerEndpoint):
    """/messenger/pushes/opened."""

    def post(self, request: Request) -> Response:
        """Note that a push was opened, named by the `outbound_token` it came with; again is no harm."""
        record = pushing.record_of(text(body(request).get("token"), "token"))
        if record is None:
            raise Unknown("This is the token of no push.", field="token")
        at = timezone.now()
        # Whoever opens it has it, whatever was known before.
        resolving.settle_by_proof(record, proof=Proof.TAKEN, at=at)
        showing.opened(record, at=at)
        return Response({"type": "push", "opened": True})
