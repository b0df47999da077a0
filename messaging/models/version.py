"""Versions of a message: content, audience rules, author and time."""

import pgtrigger
from django.conf import settings
from django.db import models


class MessageVersion(models.Model):
    """One version of a message. Delivery records refer to it, so it never changes once the message has been live."""

    message = models.ForeignKey("messaging.Message", on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    subject = models.CharField(max_length=255, blank=True, default="")
    body = models.TextField(blank=True, default="")
    # Target of a push: a web address or a deep link of the app. Empty opens the app.
    link = models.CharField(max_length=1000, blank=True, default="", db_default="")
    # The audience's rules when the version was created, as a log for ongoing messages.
    rules = models.JSONField(default=dict, blank=True)
    # The email layout when the version was written, so that sent copies always render the same.
    layout = models.JSONField(default=dict, db_default={}, blank=True)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="version_numbered_once", fields=("message", "number"))]
        triggers = [
            pgtrigger.Trigger(
                name="version_is_kept_once_live",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "((OLD.subject, OLD.body, OLD.link, OLD.layout, OLD.message_id, OLD.number) IS DISTINCT FROM"
                    " (NEW.subject, NEW.body, NEW.link, NEW.layout, NEW.message_id, NEW.number))"
                ),
                func="""
                IF coalesce(current_setting('outbound.erasing', true), '') <> 'on'
                    AND EXISTS (SELECT FROM messaging_message WHERE id = OLD.message_id AND went_live_at IS NOT NULL) THEN
                    RAISE EXCEPTION 'This version has been live. An edit makes a new version.'
                        USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,  # noqa: E501 - written so into a migration
            )
        ]

    def __str__(self) -> str:
        return f"Version {self.number} of {self.message}"
