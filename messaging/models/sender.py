"""Who messages come from."""

from typing import Self

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models


class SenderQuerySet(models.QuerySet["Sender"]):
    """Questions about senders."""

    def usable_by(self, user: User) -> Self:
        """Those this teammate may send as: their own, and those that are everybody's."""
        return self.filter(
            models.Q(teammate=None, users=None) | models.Q(teammate=user) | models.Q(users=user)
        ).distinct()

    def default_sender_of(self, user: User) -> "Sender | None":
        """Whom this teammate writes as unless they choose another: themselves, or the only one they may."""
        usable = self.usable_by(user).order_by("name")
        return usable.filter(teammate=user).first() or (usable.first() if usable.count() == 1 else None)


class Sender(models.Model):
    """A name and address mail comes from; `teammate` where it is one person's own."""

    name = models.CharField(max_length=200)
    email = models.EmailField()
    reply_to = models.EmailField("reply address", blank=True, help_text="Empty: replies go to the address above.")
    teammate = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    users = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="shared_senders",
        verbose_name="who may use it",
        help_text="Nobody chosen: every teammate.",
    )

    objects = SenderQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"
