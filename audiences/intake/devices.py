"""Phones and browsers that take pushes: registered by the app on them, or by the customer's own server."""

import re
from datetime import datetime

from audiences.intake.attributes.fields import Refused, quoted_value, read_text
from audiences.intake.identity_resolution import Unknown
from audiences.models import Customer, Device
from audiences.models.customers import Platform
from audiences.transactions import retried

MAX_TOKEN_LENGTH = 1000
# More than anybody carries, and few enough that no message to one customer becomes a flood.
MAX_DEVICES = 20
TOKEN = re.compile(r"[!-~]+")


def read_token(value: object) -> str:
    """Read the token a push goes to."""
    token = read_text(value, "token", most=MAX_TOKEN_LENGTH)
    if not TOKEN.fullmatch(token):
        raise Refused("token must be what Firebase gave the app for this device.", field="token")
    return token


def read_platform(value: object) -> Platform:
    """Read what kind of device it is."""
    try:
        return Platform(read_text(value, "platform").lower() or Platform.ANDROID)
    except ValueError:
        known = ", ".join(Platform.values)
        raise Refused(f"There is no platform {quoted_value(value)}. There are {known}.", field="platform") from None


@retried
def register_device(customer: Customer, *, token: object, platform: object, at: datetime) -> Device:
    """Have a customer get pushes on a device; whoever had it before does not any more. Again is no harm."""
    device = Device(customer=customer, token=read_token(token), platform=read_platform(platform), created_at=at)
    # So that nobody is merged or erased meanwhile.
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
    """Have a customer get no more pushes on a device of theirs: they logged out of the app."""
    Device.objects.live().filter(customer=customer, token=read_token(token)).update(retired_at=at)
