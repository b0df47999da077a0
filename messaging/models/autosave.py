"""Autosaves: text that a teammate has typed and not saved yet. And visits: the teammates who have a form open."""

from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models

AUTOSAVES_KEPT = timedelta(days=30)
# An open page reports itself every 15 seconds; one that has missed two reports is closed.
VISIT_ENDS_AFTER = timedelta(seconds=40)
VISITS_KEPT = timedelta(days=1)
# The key of an integration has 128 characters.
FORM_NAME_LENGTH = 200


class AutosaveQuerySet(models.QuerySet["Autosave"]):
    def open(self) -> Self:
        """Return the autosaves with text, without those that were saved or discarded."""
        return self.filter(fields__isnull=False)

    def end(self, *, at: datetime) -> int:
        """Delete the text, and keep the row so that a late request of the same page adds nothing."""
        return self.update(fields=None, customer=None, typed_at=at)

    def delete_expired(self, *, at: datetime) -> int:
        return self.filter(typed_at__lt=at - AUTOSAVES_KEPT).delete()[0]


class Autosave(models.Model):
    """The fields of one form in one browser tab. Only `teammate` sees it.

    `form` is the kind of the form and the row that it edits, such as "message/12" or "message/new". `fields` is null
    once the form was saved or the text discarded. `page` is the page that wrote last: another one continues the text
    only if it shows `revision`.
    """

    teammate = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    form = models.CharField(max_length=FORM_NAME_LENGTH)
    tab = models.UUIDField()
    page = models.UUIDField()
    revision = models.PositiveIntegerField(default=1)
    # The recipient of a message to one person or of an answer, so that erasing them deletes the text.
    customer = models.ForeignKey(
        "audiences.Customer", null=True, blank=True, on_delete=models.CASCADE, related_name="autosaves"
    )
    fields = models.JSONField(null=True)
    typed_at = models.DateTimeField()

    objects = AutosaveQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(name="autosaved_once_per_tab", fields=("teammate", "form", "tab"))]
        indexes = [models.Index(name="autosave_expires", fields=("typed_at",))]

    def __str__(self) -> str:
        return f"{self.form} by {self.teammate}"


class FormVisitQuerySet(models.QuerySet["FormVisit"]):
    def present(self, *, at: datetime) -> Self:
        """Return the visits of teammates who have the form open now."""
        return self.filter(seen_at__gt=at - VISIT_ENDS_AFTER)

    def delete_expired(self, *, at: datetime) -> int:
        return self.filter(seen_at__lt=at - VISITS_KEPT).delete()[0]


class FormVisit(models.Model):
    """A teammate who has a form open or had it within a day: when their page last reported, and when they saved."""

    teammate = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    form = models.CharField(max_length=FORM_NAME_LENGTH)
    seen_at = models.DateTimeField()
    saved_at = models.DateTimeField(null=True)

    objects = FormVisitQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(name="form_visited_once", fields=("form", "teammate"))]

    def __str__(self) -> str:
        return f"{self.teammate} in {self.form}"
