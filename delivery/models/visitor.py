"""Visitors: a browser whose user we do not know, and the lead its first words made (behaviour 4.14)."""

from django.db import models


class Visitor(models.Model):
    """One browser that wrote to us. Kept only until its user logs in: from then on the lead is that user."""

    key = models.UUIDField(primary_key=True)
    customer = models.ForeignKey("audiences.Customer", on_delete=models.PROTECT, related_name="visitors")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.key} of {self.customer}"
