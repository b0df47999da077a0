"""Copies of a push on devices, so that a retry goes only to devices without one."""

from django.db import models

from audiences.models import Device
from delivery.models.record import DeliveryRecord


class DeviceCopy(models.Model):
    """A push sent to one device, or perhaps sent. No device gets one of a record twice automatically."""

    record = models.ForeignKey(DeliveryRecord, on_delete=models.CASCADE, related_name="device_copies", db_index=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    # False: uncertain.
    taken = models.BooleanField()
    provider_id = models.TextField(blank=True, default="")
    handed_over_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="once_per_device", fields=("record", "device"))]

    def __str__(self) -> str:
        return f"{self.record} on {self.device}"
