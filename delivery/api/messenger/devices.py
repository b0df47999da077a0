"""What an app tells of pushes: the device it runs on, and that one was opened."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api.base.endpoint import body
from audiences.intake import Unknown
from audiences.intake.attributes.fields import text
from audiences.models import Device
from delivery.api.messenger.access import MessengerEndpoint, customer_of
from delivery.sending import push_fanout, uncertain
from delivery.sending.uncertain import Proof
from delivery.tracking import in_app


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
        record = push_fanout.record_of(text(body(request).get("token"), "token"))
        if record is None:
            raise Unknown("This is the token of no push.", field="token")
        at = timezone.now()
        # Whoever opens it has it, whatever was known before.
        uncertain.settle_by_proof(record, proof=Proof.TAKEN, at=at)
        in_app.record_open(record, at=at)
        return Response({"type": "push", "opened": True})
