"""Copies of a push on devices, so that a retry goes only to devices without one."""

import uuid

from django.db import models
from django.db.models import Exists, F, OuterRef, Subquery

from audiences.models import Device
from delivery.models.record import DeliveryRecord, DeliveryRecordQuerySet, Reason, Status


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


def settle_begun_pushes(records: DeliveryRecordQuerySet) -> None:
    """Settle waiting pushes that a device has as sent, and those that one may have as uncertain (behaviour 4.18).

    Call it before records are withdrawn or skipped: the other devices get no copy.
    """
    copies = DeviceCopy.objects.filter(record=OuterRef("pk")).order_by("pk")
    begun = records.filter(Exists(copies), status=Status.WAITING).select_for_update(no_key=True, of=("self",))
    pks = list(begun.order_by("pk").values_list("pk", flat=True))
    if not pks:
        return
    rows = DeliveryRecord.objects.filter(pk__in=pks)
    rows.update(status=Status.SENDING, claim=uuid.uuid4(), leased_until=F("due_at"))
    taken = copies.filter(taken=True)
    rows.filter(Exists(taken)).update(
        status=Status.SENT,
        sent_at=Subquery(taken.values("handed_over_at")[:1]),
        provider_id=Subquery(taken.values("provider_id")[:1]),
        reason=Reason.NONE,
        detail="",
        claim=None,
        leased_until=None,
        due_at=None,
    )
    rows.mark_uncertain(reason=Reason.LOST_TOUCH, detail="")
