"""Internal notes about customers, which customers never see."""

from django.conf import settings
from django.db import models


class Note(models.Model):
    """An internal note about a customer. `teammate` is null if an integration wrote it."""

    customer = models.ForeignKey("audiences.Customer", on_delete=models.CASCADE, related_name="notes")
    teammate = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    body = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="note_newest_first", fields=("customer", "-created_at", "-id"))]

    def __str__(self) -> str:
        return f"Note about {self.customer}"
