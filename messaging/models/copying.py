"""Drafts: made of other messages, and thrown away."""

from datetime import datetime
from typing import Self

from django.contrib.auth.models import User
from django.db import transaction

from audiences.models import Audience
from messaging.models.choices import SendType
from messaging.models.states import State, WrongState
from messaging.models.writing import Writing


class Copying(Writing):
    """Copies of a message."""

    class Meta:
        abstract = True

    def make_ongoing(self, *, by: User | None, at: datetime) -> Self:
        """Return a draft of an ongoing message that says the same to who matches and did not get this one."""
        if self.sample_size is None:
            raise WrongState("Only what was tried on a few first can be made ongoing.")
        rules = self.audience.rules if self.audience else {}
        left_out = {"attribute": "got_message", "operator": "is_not", "value": self.pk}
        if rules.get("match", "all") == "all":
            rules = {"match": "all", "rules": [*rules.get("rules", []), left_out]}
        else:
            rules = {"match": "all", "rules": [rules, left_out]}
        with transaction.atomic():
            copy = self.duplicate(by=by, at=at, send_type=SendType.ONGOING, title=self.title)
            copy.ask_for(rules, by=by, at=at)
        return copy

    def duplicate(self, *, by: User | None, at: datetime, send_type: SendType | None = None, title: str = "") -> Self:
        """Return a new draft with the same content, sender, filters and window."""
        if self.audience is None:
            raise WrongState("A message to one person cannot be duplicated. Write to them again instead.")
        with transaction.atomic():
            copy = type(self)(
                title=title or f"{self.title[:192]} (copy)",
                channel=self.channel,
                format=self.format,
                style=self.style,
                send_type=send_type or self.send_type,
                sender=self.sender,
                audience=Audience.objects.create(rules=self.audience.rules),
                window=self.window,
                window_zone=self.window_zone,
                same_inbox_once=self.same_inbox_once,
                created_by=by,
            )
            copy.save()
            copy.tags.set(self.tags.all())
            if self.version:
                said = {"subject": self.version.subject, "body": self.version.body, "link": self.version.link}
                copy.add_version(**said, by=by, at=at)
        return copy

    def discard(self) -> None:
        """Delete a draft, its versions and its audience."""
        with transaction.atomic():
            # The version it points at would protect itself from going with it.
            found = type(self).objects.filter(pk=self.pk, state=State.DRAFT, went_live_at=None).update(version=None)
            if not found:
                raise WrongState("Only a draft can be deleted.")
            type(self).objects.get(pk=self.pk).delete()
            if self.audience:
                self.audience.delete()
