"""Duplication: drafts made from other messages, and drafts that are discarded."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from audiences.models import Audience
from messaging import authoring
from messaging.models import Message, SendType, State, WrongState


def make_ongoing(message: Message, *, by: User | None, at: datetime) -> Message:
    """Return a draft of an ongoing message that says the same to who matches and did not get this one."""
    if message.sample_size is None:
        raise WrongState("Only what was tried on a few first can be made ongoing.")
    rules = message.audience.rules if message.audience else {}
    left_out = {"attribute": "got_message", "operator": "is_not", "value": message.pk}
    if rules.get("match", "all") == "all":
        rules = {"match": "all", "rules": [*rules.get("rules", []), left_out]}
    else:
        rules = {"match": "all", "rules": [rules, left_out]}
    with transaction.atomic():
        copy = duplicate(message, by=by, at=at, send_type=SendType.ONGOING, title=message.title)
        authoring.change_audience(copy, rules=rules, by=by, at=at)
    return copy


def duplicate(
    message: Message, *, by: User | None, at: datetime, send_type: SendType | None = None, title: str = ""
) -> Message:
    """Return a new draft with the same content, sender, filters and window."""
    if message.audience is None:
        raise WrongState("A message to one person cannot be duplicated. Write to them again instead.")
    with transaction.atomic():
        copy = Message(
            title=title or f"{message.title[:192]} (copy)",
            channel=message.channel,
            format=message.format,
            style=message.style,
            send_type=send_type or message.send_type,
            sender=message.sender,
            audience=Audience.objects.create(rules=message.audience.rules),
            window=message.window,
            window_zone=message.window_zone,
            same_inbox_once=message.same_inbox_once,
            created_by=by,
        )
        copy.save()
        copy.tags.set(message.tags.all())
        if message.version:
            said = {"subject": message.version.subject, "body": message.version.body, "link": message.version.link}
            authoring.add_version(copy, **said, by=by, at=at)
    return copy


def discard(message: Message) -> None:
    """Delete a draft, its versions and its audience."""
    with transaction.atomic():
        # The version it points at would protect itself from going with it.
        found = Message.objects.filter(pk=message.pk, state=State.DRAFT, went_live_at=None).update(version=None)
        if not found:
            raise WrongState("Only a draft can be deleted.")
        Message.objects.get(pk=message.pk).delete()
        if message.audience:
            message.audience.delete()
