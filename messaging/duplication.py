"""Duplication of messages into new drafts, and deletion of drafts."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from audiences.models import Audience
from messaging import authoring
from messaging.models import Message, SendType, State, WrongState


def make_ongoing(message: Message, *, by: User | None, at: datetime) -> Message:
    """Return an ongoing draft with the same content and filters that excludes everyone who received this message."""
    if message.sample_size is None:
        raise WrongState("Only a message that was tried on a few first can be made ongoing.")
    rules = message.audience.rules if message.audience else {}
    exclude_recipients = {"attribute": "got_message", "operator": "is_not", "value": message.pk}
    if rules.get("match", "all") == "all":
        rules = {"match": "all", "rules": [*rules.get("rules", []), exclude_recipients]}
    else:
        rules = {"match": "all", "rules": [rules, exclude_recipients]}
    with transaction.atomic():
        copy = duplicate(message, by=by, at=at, send_type=SendType.ONGOING, title=message.title)
        authoring.change_audience(copy, rules=rules, by=by, at=at)
    return copy


def duplicate(
    message: Message, *, by: User | None, at: datetime, send_type: SendType | None = None, title: str = ""
) -> Message:
    """Return a new draft with the same content, sender, topic, filters and window."""
    if message.audience is None:
        raise WrongState("A direct message cannot be duplicated. Send the person a new message instead.")
    with transaction.atomic():
        copy = Message(
            title=title or f"{message.title[:192]} (copy)",
            channel=message.channel,
            format=message.format,
            style=message.style,
            send_type=send_type or message.send_type,
            sender=message.sender,
            topic=message.topic,
            audience=Audience.objects.create(rules=message.audience.rules),
            window=message.window,
            window_zone=message.window_zone,
            during_quiet_hours=message.during_quiet_hours,
            checking=message.checking,
            only_new_matches=message.only_new_matches and send_type in (None, SendType.ONGOING),
            same_inbox_once=message.same_inbox_once,
            created_by=by,
        )
        copy.save()
        copy.tags.set(message.tags.all())
        if message.version:
            texts = {"subject": message.version.subject, "body": message.version.body, "link": message.version.link}
            authoring.add_version(copy, **texts, by=by, at=at)
    return copy


def discard(message: Message) -> None:
    """Delete a draft, its versions and its audience."""
    with transaction.atomic():
        # Clear `version` first: its on_delete is PROTECT.
        updated = Message.objects.filter(pk=message.pk, state=State.DRAFT, went_live_at=None).update(version=None)
        if not updated:
            raise WrongState("Only a draft can be deleted.")
        Message.objects.get(pk=message.pk).delete()
        if message.audience:
            message.audience.delete()
