"""Endpoints of devices that receive pushes."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api import payloads
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import MissingField
from audiences.api.base.lookups import get_row
from audiences.api.base.openapi import PERSON_PARAMETERS
from audiences.intake.attributes.fields import first_given
from audiences.models import Device


class Devices(Endpoint):
    """/devices."""

    parameters = {"get": PERSON_PARAMETERS}

    def post(self, request: Request) -> Response:
        """Register a user's device for pushes. The device is removed from its previous user. Idempotent."""
        sent = body(request)
        if first_given(sent, "token") is None:
            raise MissingField("token is required", field="token")
        customer = intake.find_customer(sent)
        found = intake.register_device(customer, token=sent["token"], platform=sent.get("platform"), at=timezone.now())
        return Response(payloads.device(found, customer=customer))

    def get(self, request: Request) -> Response:
        """List a user's devices, including retired ones."""
        customer = intake.find_customer(request.query_params)
        devices = [payloads.device(found, customer=customer) for found in customer.devices.order_by("pk")]
        return Response({"type": "device.list", "devices": devices})


class OneDevice(Endpoint):
    """/devices/{id}."""

    def delete(self, request: Request, pk: str) -> Response:
        """Retire a device: it receives no pushes until it is registered again."""
        found = get_row(Device.objects.select_related("customer"), pk)
        at = timezone.now()
        Device.objects.retire([found.token], at=at)
        found.refresh_from_db(fields=["retired_at"])
        return Response(payloads.device(found, customer=found.customer))
