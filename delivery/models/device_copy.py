"""What each device of a customer has of a record: so a push that is tried again goes to those that have none."""

from django.db import models

from audiences.models import Device
from delivery.models.record import DeliveryRecord


class DeviceCopy(models.Model):
    """A push handed over to one device, or perhaps handed over; none gets one of a record twice by itself."""

    record = models.ForeignKey(DeliveryRecord, on_delete=models.CASCADE, related_name="device_copies", db_index=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    # False: handed over or not, nobody can know.
    taken = models.BooleanField()
    provider_id = models.TextField(blank=True, default="")
    handed_over_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="once_per_device", fields=("record", "device"))]

    def __str__(self) -> str:
        return f"{self.record} on {self.device}"
