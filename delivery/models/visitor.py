"""Visitors: browsers of unknown users, and the leads that their first words created (behaviour 4.14)."""

from django.db import models


class Visitor(models.Model):
    """One browser that wrote to us. Kept until its user logs in: then the lead becomes that user."""

    key = models.UUIDField(primary_key=True)
    customer = models.ForeignKey("audiences.Customer", on_delete=models.PROTECT, related_name="visitors")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.key} of {self.customer}"
