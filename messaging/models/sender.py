"""Senders: the names and addresses that messages come from."""

from email.utils import parseaddr
from typing import Self

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models


class SenderQuerySet(models.QuerySet["Sender"]):
    def for_everyone(self) -> Self:
        """Return the senders that every teammate may use."""
        return self.filter(teammate=None, users=None)

    def shared_or_default(self, *, name: str) -> "Sender":
        """Return the first sender that every teammate may use; without one, this name with `DEFAULT_FROM_EMAIL`."""
        return self.for_everyone().order_by("pk").first() or Sender(
            name=name, email=parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
        )

    def usable_by(self, user: User) -> Self:
        """Return the senders that this teammate may use: their own, shared with them, or unrestricted."""
        return self.filter(
            models.Q(teammate=None, users=None) | models.Q(teammate=user) | models.Q(users=user)
        ).distinct()

    def default_sender_of(self, user: User) -> "Sender | None":
        """Return the sender selected by default: the teammate's own, or the only one they may use; otherwise None."""
        usable = self.usable_by(user).order_by("name")
        return usable.filter(teammate=user).first() or (usable.first() if usable.count() == 1 else None)


class Sender(models.Model):
    """A name and an email address that messages come from. `teammate` is set if it belongs to one person."""

    name = models.CharField(max_length=200)
    email = models.EmailField()
    reply_to = models.EmailField(
        "reply address", blank=True, help_text="Leave empty to receive replies at the address above."
    )
    teammate = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    users = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="shared_senders",
        verbose_name="allowed teammates",
        help_text="Leave empty to allow every teammate.",
    )

    objects = SenderQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"

    @property
    def domain(self) -> str:
        """The domain of the address, in lower case."""
        return self.email.rpartition("@")[2].lower()
