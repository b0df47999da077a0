"""Devices for push messages, registered by their app or by the customer's server."""

import re
from datetime import datetime

from audiences.intake.attributes.fields import Refused, quoted_value, read_text
from audiences.intake.identity_resolution import Unknown
from audiences.models import Customer, Device
from audiences.models.customers import Platform
from audiences.transactions import retried

MAX_TOKEN_LENGTH = 1000
# More than a person has, and few enough that one message does not become a flood of pushes.
MAX_DEVICES = 20
TOKEN = re.compile(r"[!-~]+")


def read_token(value: object) -> str:
    token = read_text(value, "token", most=MAX_TOKEN_LENGTH)
    if not TOKEN.fullmatch(token):
        raise Refused("token must be the Firebase registration token of the device.", field="token")
    return token


def read_platform(value: object) -> Platform:
    try:
        return Platform(read_text(value, "platform").lower() or Platform.ANDROID)
    except ValueError:
        known = ", ".join(Platform.values)
        raise Refused(
            f"{quoted_value(value)} is not a valid platform. Use one of: {known}.", field="platform"
        ) from None


@retried
def register_device(customer: Customer, *, token: object, platform: object, at: datetime) -> Device:
    """Register a device for a customer's pushes, and take it from its previous customer. Idempotent."""
    device = Device(customer=customer, token=read_token(token), platform=read_platform(platform), created_at=at)
    # The lock keeps the customer from being merged or erased meanwhile.
    if not Customer.objects.present().select_for_update(no_key=True).filter(pk=customer.pk).exists():
        raise Unknown(f"No such id[{customer.pk}]", field="id")
    Device.objects.bulk_create(
        [device],
        update_conflicts=True,
        unique_fields=["token"],
        update_fields=["customer", "platform", "created_at", "retired_at"],
    )
    live = Device.objects.live().filter(customer=customer).order_by("-created_at", "-pk")
    Device.objects.filter(pk__in=list(live.values_list("pk", flat=True)[MAX_DEVICES:])).update(retired_at=at)
    return Device.objects.get(token=device.token)


def retire_device(customer: Customer, *, token: object, at: datetime) -> None:
    """Send no more pushes to a device, after the customer logged out of its app."""
    Device.objects.live().filter(customer=customer, token=read_token(token)).update(retired_at=at)
