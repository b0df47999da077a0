"""Saved replies: texts that teammates insert into an answer."""

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower

from audiences.models import CustomAttribute
from messaging import content

NO_UNSUBSCRIBE_LINK = "An answer has no link to unsubscribe. Remove unsubscribe_url."


class SavedReply(models.Model):
    """A plain text with variables, which the inbox fills in for the customer of a conversation."""

    name = models.CharField(max_length=200)
    body = models.TextField("text", max_length=20_000)

    class Meta:
        verbose_name_plural = "saved replies"
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="saved_reply_name_once",
                violation_error_message="A saved reply with this name already exists.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a text whose variables cannot be filled in; the error names the line."""
        catalogue = CustomAttribute.objects.catalogue()
        problems = content.check_text(
            self.body, custom_attributes=catalogue.customer.keys(), company_attributes=catalogue.company.keys()
        )
        if problems:
            raise ValidationError({"body": [str(problem) for problem in problems]})
        if content.UNSUBSCRIBE_URL in content.variables_in(self.body):
            raise ValidationError({"body": NO_UNSUBSCRIBE_LINK})
