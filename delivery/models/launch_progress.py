"""Progress of large launches, written over a second connection: the launch itself commits only at its end."""

from django.db import models

from messaging.models import Message


class LaunchProgress(models.Model):
    """How many records a launch in progress has inserted, of how many. The row is deleted at the end."""

    # Without a constraint, as checking it would wait for the lock of the launch on the message.
    message = models.OneToOneField(
        Message, primary_key=True, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False
    )
    made = models.PositiveIntegerField()
    total = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.made} of {self.total} records of message {self.message_id}"
