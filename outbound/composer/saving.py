"""Saving of valid forms of the composer, with the entry in the log. The API saves messages by the same functions."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from messaging.models import Message, MessageVersion
from outbound.composer.forms import AudienceForm, DraftForm, VersionForm, is_new
from outbound.console import audit, change_message


def save_draft(form: DraftForm, *, by: User, logged_as: User, at: datetime) -> Message:
    """Save a draft. The caller has locked its row or its key."""
    is_added = is_new(form.message)
    before = {} if is_added else change_message.message_fields(form.message)
    draft = form.save(by=by, at=at)
    if is_added:
        audit.log_addition(logged_as, draft, "Saved a draft")
    elif changed := change_message.differences(before, change_message.message_fields(draft)):
        audit.log_change(logged_as, draft, f"Edited the draft. {changed}")
    return draft


def save_version(form: VersionForm, *, by: User, logged_as: User, at: datetime) -> MessageVersion:
    """Save the content of a message that has been live, as a new version if it changed."""
    message = form.message
    before, was = message.version_id, change_message.message_fields(message)
    with transaction.atomic():
        version = form.save(by=by, at=at)
        new = f"Edited the content: version {version.number}" if version.pk != before else ""
        changed = change_message.differences(was, change_message.message_fields(message))
        if words := ". ".join(filter(None, (new, changed))):
            audit.log_change(logged_as, message, words)
    return version


def save_audience(form: AudienceForm, *, by: User, logged_as: User, at: datetime) -> None:
    """Save the rules and delivery times of a paused ongoing message. Raise Locked if it is not paused any more."""
    before = change_message.message_fields(form.message)
    with transaction.atomic():
        form.save(by=by, at=at)
        if changed := change_message.differences(before, change_message.message_fields(form.message)):
            audit.log_change(logged_as, form.message, f"Edited the audience. {changed}")
